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

if [ "$#" -lt 2 ]; then
    echo "usage: bash $0 DATA OUT [fairseq-train flags ...]" >&2
    exit 2
fi
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../environment.sh
. "$here/../environment.sh"
data=$1 out=$2
shift 2

# at most 75 minutes in all on two cores; borrowed captions make an epoch longer. Yours come last and win
export RECIPE=${RECIPE:-joined}
epochs=20 size=()
if [ "$RECIPE" = joined ]; then
    epochs=16 size=(--fusion none --decoder-layers 4)
    [ -z "${TEXT_ENCODER:-}" ] || epochs=10
fi
[ "${INDEX_CAPTIONS:-}" != borrowed ] || { epochs=9 && size=(); } # measured with fusion and three layers alone
bash "$here/../own_data/run.sh" "$data" "$out" --max-epoch "$epochs" ${size[@]+"${size[@]}"} "$@"

printf '\n== 5. simple methods on the same queries\n'
identifiers=()
[ "$RECIPE" = joined ] || identifiers=(--identifiers "$out/identifiers") # of a join, they are in another space
"$PYTHON" "$here/baselines.py" --data "$data" ${identifiers[@]+"${identifiers[@]}"} --json "$out/baselines.json"
