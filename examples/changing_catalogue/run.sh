#!/usr/bin/env bash
# A catalogue that grows: items join a trained model's catalogue, and are found (a) without any training, (b) after a
# short fine-tuning on their index captions and a few old ones, against (c) identifiers and a model made anew.
#
#     bash examples/changing_catalogue/run.sh DATA OUT [fairseq-train flags ...]
#
# DATA holds embeddings.npy, items.jsonl and captions.jsonl (of Flickr8k: 7,000 items of today, the 1,000 of the valid split
# tomorrow; see split.py). A stopped call goes on when it is given again. Other steps take flags from the environment:
#
#     SPLIT_FLAGS="--new-split valid --old-queries 1000 --replay 5"
#     FINE_TUNE_FLAGS="--max-epoch 3 --lr 2e-4"      flags of the short training, after those of the long ones
set -euo pipefail

if [ "$#" -lt 2 ] || [ ! -d "$1" ]; then
    echo "usage: bash $0 DATA OUT [fairseq-train flags ...]   (DATA: an existing folder)" >&2
    exit 2
fi
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../environment.sh
. "$here/../environment.sh"
mkdir -p -- "$2"
data=$(cd -- "$1" && pwd)
out=$(cd -- "$2" && pwd)
shift 2

read -ra split_flags <<<"${SPLIT_FLAGS:-}"
read -ra fine_tune_flags <<<"${FINE_TUNE_FLAGS:---max-epoch 3 --lr 2e-4}"

# train NAME flags ...: one run of examples/own_data in OUT/NAME
train() {
    local name=$1
    shift
    bash "$here/../own_data/run.sh" "$out/data/$name" "$out/$name" "$@"
}

# measure NAME DATA-BIN RUN: the queries of new items among all and among themselves, those of old items among all
measure() {
    local checkpoint=$out/$3/checkpoints/checkpoint_best.pt queries candidates
    [ -f "$checkpoint" ] || checkpoint=$out/$3/checkpoints/checkpoint_last.pt
    for queries in old:all new:all new:test; do
        candidates=${queries#*:} queries=${queries%:*}
        [ "$1" = before ] && [ "$queries" = new ] && continue
        [ -f "$out/results/$1.$queries.$candidates.json" ] || "$PYTHON" -m cart_fairseq.evaluate \
            --queries "$out/data/queries.$queries.jsonl" --path "$checkpoint" --data "$2" \
            --candidates "$candidates" --json "$out/results/$1.$queries.$candidates.json" >/dev/null
    done
}

printf '\n==== items of today and of tomorrow\n'
[ -d "$out/data" ] || "$PYTHON" "$here/split.py" "$data" "$out/data" ${split_flags[@]+"${split_flags[@]}"}

printf '\n==== a model of the old items\n'
train old "$@"

printf '\n==== the new items join\n'
if [ ! -d "$out/updated" ]; then
    rm -rf -- "$out/updated.tmp"
    cp -R -- "$out/old/data-bin" "$out/updated.tmp"
    "$PYTHON" -m preprocess.update_identifiers add --data-bin "$out/updated.tmp" --reference "$out/data/old/embeddings.npy" \
        --embeddings "$out/data/new/embeddings.npy" --items "$out/data/new/items.jsonl"
    mv -- "$out/updated.tmp" "$out/updated"
fi

printf '\n==== short fine-tuning with replay\n'
mkdir -p -- "$out/fine-tune"
[ -d "$out/fine-tune/identifiers" ] || cp -R -- "$out/updated/identifiers" "$out/fine-tune/identifiers"
checkpoint=$out/old/checkpoints/checkpoint_best.pt
[ -f "$checkpoint" ] || checkpoint=$out/old/checkpoints/checkpoint_last.pt
BINARIZE_FLAGS="--vocabulary-from $out/old/data-bin --valid-size 0" \
    train fine-tune "$@" --finetune-from-model "$checkpoint" "${fine_tune_flags[@]}"

printf '\n==== identifiers and a model made anew\n'
train all "$@"

printf '\n==== figures\n'
mkdir -p -- "$out/results"
measure before "$out/old/data-bin" old
measure added "$out/updated" old
measure fine-tuned "$out/updated" fine-tune
measure retrained "$out/all/data-bin" all
"$PYTHON" "$here/table.py" "$out/results"
