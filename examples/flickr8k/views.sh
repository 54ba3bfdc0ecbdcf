#!/usr/bin/env bash
# Two identifiers an item: each item comes twice, with codebooks of its own.
#
#     TEXT_ENCODER=PATH bash examples/flickr8k/views.sh DATA OUT    (OUT: of ablations.sh, whose full-1 it stands beside)
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../recipes/steps.sh
. "$here/../recipes/steps.sh"
data=$(folder "$1") out=$(folder "$2")
shift 2
export RECIPE=joined
[ -f "$out/views-data/views.npy" ] || "$PYTHON" "$here/views.py" stack "$data" "$out/full-1/joined/aligned.npy" "$out/views-data"
IDENTIFIER_FLAGS="--embeddings $out/views-data/views.npy --kmeans-clusters 256 --codebook-size 256" train "$out/views-data" "$out/views-1" \
    --seed 1 --max-update 660 --fusion none --consistency-weight 0 --decoder-layers 2 --disable-validation "$@"
"$PYTHON" "$here/views.py" measure "$out/views-1" "$out/views-1.tuned.json"
"$PYTHON" "$here/ablations.py" record "$out/views-1" "$out/views-1.tuned.json" "$out/views-1.json"
