#!/usr/bin/env bash
# Identifiers as the paper makes them (build_identifiers --faithful) beside the default ones, three seeds each:
#
#     OMP_NUM_THREADS=1 bash examples/identifiers/literal.sh DATA OUT [fairseq-train flags ...]
#
# DATA holds embeddings.npy, items.jsonl and captions.jsonl. Each run is in OUT/VARIANT-SEED: identifiers, and the same small
# model trained on them. A stopped call goes on when it is given again. Ends with a table; OUT/literal.json is the record:
# perplexity of k-means and codebooks, collisions, reconstruction error, and recall, with settings, seed, commit and machine.
#
#     VARIANTS="literal ours sklearn-kmeans codebooks residuals batch"   these alone; the last four change one thing of ours
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" identifiers/literal "$@"
