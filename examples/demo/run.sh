#!/usr/bin/env bash
# The built-in demo: draw a small world, train on it, ask for its pictures in words never trained on, show the answers.
#
#     bash examples/demo/run.sh OUT [fairseq-train flags ...]
#
# OUT receives data/ (pictures and their descriptions), run/ (identifiers, data-bin, checkpoints, metrics.json, TREC
# files) and index.html. The same call again goes on where the first one stopped.
set -euo pipefail

if [ "$#" -lt 1 ]; then
    echo "usage: bash $0 OUT [fairseq-train flags ...]" >&2
    exit 2
fi
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../environment.sh
. "$here/../environment.sh"
mkdir -p -- "$1"
out=$(cd -- "$1" && pwd)
shift

printf '\n== 0. a world of coloured shapes\n'
if [ -f "$out/data/captions.jsonl" ]; then
    echo "$out/data: drawn already, nothing to do"
else
    "$PYTHON" "$here/world.py" "$out/data"
fi

# a small model for a small world; your flags come last and win
export IDENTIFIER_FLAGS=${IDENTIFIER_FLAGS:---epochs 200}
bash "$here/../own_data/run.sh" "$out/data" "$out/run" \
    --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 --encoder-layers 2 --decoder-layers 2 \
    --dropout 0.1 --lr 2e-3 --batch-size 64 --max-epoch 10 --validate-interval 2 "$@"

printf '\n== 5. a page to look at\n'
"$PYTHON" "$here/page.py" "$out/data" "$out/run" "$out/index.html"
