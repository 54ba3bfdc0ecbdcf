#!/usr/bin/env bash
# The built-in demo: make a small world of pictures, sounds and clips, train on each kind, ask for them in words never
# trained on, show the answers.
#
#     bash examples/demo/run.sh OUT [fairseq-train flags ...]
#
# OUT receives pictures/, sounds/ and clips/, each with data/ (media and their descriptions) and run/ (identifiers,
# data-bin, checkpoints, metrics.json, TREC files), and index.html. The same call again goes on where the first one
# stopped. KINDS="sounds clips" makes only these.
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
read -r -a kinds <<<"${KINDS:-pictures sounds clips}"

folders=()
for kind in "${kinds[@]}"; do
    printf '\n== 0. a world of %s\n' "$kind"
    if [ -f "$out/$kind/data/captions.jsonl" ]; then
        echo "$out/$kind/data: made already, nothing to do"
    else
        mkdir -p -- "$out/$kind"
        "$PYTHON" "$here/world.py" "$kind" "$out/$kind/data"
    fi
    epochs=100 # of the RQ-VAE
    case $kind in
        pictures) epochs=200 schedule=(--batch-size 64 --max-epoch 10 --validate-interval 2) ;;
        sounds) schedule=(--batch-size 48 --max-epoch 6 --validate-interval 2) ;;
        *) schedule=(--batch-size 48 --max-epoch 10 --validate-interval 5) ;;
    esac
    # a small model for a small world; your flags come last and win
    IDENTIFIER_FLAGS=${IDENTIFIER_FLAGS:---epochs $epochs} bash "$here/../own_data/run.sh" \
        "$out/$kind/data" "$out/$kind/run" \
        --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 --encoder-layers 2 --decoder-layers 2 \
        --dropout 0.1 --lr 2e-3 "${schedule[@]}" "$@"
    folders+=("$out/$kind")
done

printf '\n== 5. a page to look at\n'
"$PYTHON" "$here/page.py" "$out/index.html" "${folders[@]}"
