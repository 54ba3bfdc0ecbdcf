#!/usr/bin/env bash
# The best text-to-image retrieval on Flickr8k that we know, then simple methods on the same queries beside it.
#
#     bash examples/flickr8k/run.sh DATA OUT [fairseq-train flags ...]
#
# DATA holds embeddings.npy, items.jsonl and captions.jsonl of Flickr8k (8,000 photographs, five captions each). OUT/metrics.json
# is what ranking by identifiers and dense head together reaches, OUT/tuned.json has the identifiers alone (weight 0).
#
#     TEXT_ENCODER=PATH        a pretrained model reads the queries (by default nothing is pretrained)
#     INDEX_CAPTIONS=borrowed  without the captions of valid and test items
#     RECIPE=cpu               the paper's method, from image features alone
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" flickr8k/run "$@"
