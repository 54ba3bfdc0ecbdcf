#!/usr/bin/env bash
# CART on Flickr8k: examples/own_data/run.sh with a longer schedule, then simple methods on the same queries beside it.
#
#     bash examples/flickr8k/run.sh DATA OUT [fairseq-train flags ...]
#
# DATA holds embeddings.npy, items.jsonl and captions.jsonl of Flickr8k (8,000 photographs, five captions each).
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

# half an hour of training instead of the quarter that own_data plans; yours come last and win
bash "$here/../own_data/run.sh" "$data" "$out" --max-epoch 20 "$@"

printf '\n== 5. simple methods on the same queries\n'
"$PYTHON" "$here/baselines.py" --data "$data" --identifiers "$out/identifiers" --json "$out/baselines.json"
