#!/usr/bin/env bash
# From your own embeddings and captions to a trained model and its figures:
#
#     bash examples/own_data/run.sh DATA OUT [fairseq-train flags ...]
#
# DATA holds embeddings.npy (or a folder embeddings/ of .npy shards), items.jsonl and captions.jsonl.
# OUT receives identifiers/, data-bin/, checkpoints/, run.SPLIT.trec, qrels.SPLIT.trec and metrics.json.
# Defaults follow the size of the data and the machine (../recipes/defaults.py); flags given here come last and win. The same
# call again goes on where the first one stopped. Other steps take flags from the environment, and PYTHON may be set:
#
#     IDENTIFIER_FLAGS="--scheme rqvae" BINARIZE_FLAGS="--index-captions exclude" PYTHON=python3.11 bash ...
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" own_data/run "$@"
