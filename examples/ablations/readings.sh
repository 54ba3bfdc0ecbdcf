#!/usr/bin/env bash
# Readings of the paper's text other than the defaults, each trained once as a small model beside the default:
#
#     OMP_NUM_THREADS=1 bash examples/ablations/readings.sh DATA OUT [fairseq-train flags ...]
#
# DATA holds embeddings.npy, items.jsonl and captions.jsonl. OUT/READING-N is the run of a reading with seed N. Once OUT/default-1
# is complete, the other runs take its identifiers and its data-bin. A stopped call goes on when it is given again. Ends with a
# table; OUT/readings.json is the record: settings, seed, commit, machine and metrics of each run.
#
#     READINGS="default separate"   these alone
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" ablations/readings "$@"
