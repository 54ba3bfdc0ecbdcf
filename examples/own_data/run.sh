#!/usr/bin/env bash
# From your own embeddings and captions to a trained model and its figures:
#
#     bash examples/own_data/run.sh DATA OUT [fairseq-train flags ...]
#
# DATA holds embeddings.npy (or a folder embeddings/ of .npy shards), items.jsonl and captions.jsonl.
# OUT receives identifiers/, data-bin/, checkpoints/, run.SPLIT.trec, qrels.SPLIT.trec and metrics.json.
# Defaults follow the size of the data and the machine (plan.py); flags given here come last and win. The same call
# again goes on where the first one stopped. Other steps take flags from the environment, and PYTHON may be set:
#
#     IDENTIFIER_FLAGS="--scheme rqvae" BINARIZE_FLAGS="--index-captions exclude" PYTHON=python3.11 bash ...
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

export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-20000}" # let waiting threads sleep soon: beside other jobs that saves most of the time
export THP_MEM_ALLOC_ENABLE="${THP_MEM_ALLOC_ENABLE:-1}" # large pages for large tensors, where the kernel offers them
embeddings=$data/embeddings.npy
[ -d "$data/embeddings" ] && embeddings=$data/embeddings

# set by plan.py
identifier_flags=() binarize_flags=() train_flags=() measured=() sets=() train_needed='' checkpoint=''

plan() {
    local assignments
    assignments=$("$PYTHON" "$here/plan.py" "$@") || exit "$?"
    eval "$assignments"
}

step() { printf '\n== %s\n' "$*"; }

plan prepare "$data" "$@"

step "1. identifiers"
"$PYTHON" -m preprocess.build_identifiers --embeddings "$embeddings" --items "$data/items.jsonl" \
    --output "$out/identifiers" "${identifier_flags[@]}"

step "2. vocabulary and data"
"$PYTHON" -m preprocess.binarize --identifiers "$out/identifiers" --captions "$data/captions.jsonl" \
    --output "$out/data-bin" ${binarize_flags[@]+"${binarize_flags[@]}"}

step "3. training"
plan train "$out" "$@"
if [ "$train_needed" = yes ]; then
    rm -rf -- "$out/metrics.json" "$out/results" "$out"/run.*.trec "$out"/qrels.*.trec
    printf 'fairseq-train %s' "$out/data-bin --user-dir $root/cart_fairseq --save-dir $out/checkpoints"
    printf ' %q' "${train_flags[@]}" "$@"
    printf '\n'
    log=$out/checkpoints/train.log # all that fairseq says; the terminal sees the progress
    if ! "$PYTHON" -W ignore -m fairseq_cli.train "$out/data-bin" --user-dir "$root/cart_fairseq" \
        --save-dir "$out/checkpoints" "${train_flags[@]}" "$@" 2>&1 | tee -a "$log" |
        awk '/ \| (train_inner|valid) \| |Loaded checkpoint/ { print; fflush() }'; then
        tail -n 20 "$log" >&2
        exit 1
    fi
else
    echo "$out/checkpoints: complete, nothing to do"
fi
plan trained "$out" "$@"

step "4. figures"
if [ ! -f "$out/metrics.json" ]; then
    for subset in ${measured[@]+"${measured[@]}"}; do
        for candidates in "${sets[@]}"; do
            results=$out/results/$candidates
            generate=("$out/data-bin" --user-dir "$root/cart_fairseq" --task cart_retrieval --path "$checkpoint"
                --gen-subset "$subset" --candidates "$candidates" --beam 30 --nbest 10 --batch-size 256
                --required-batch-size-multiple 1 --num-workers 0 --results-path "$results")
            case " ${train_flags[*]} $* " in *" --cpu "*) generate+=(--cpu) ;; esac
            echo "searching: $subset queries, candidates: $candidates"
            mkdir -p "$results"
            if ! "$PYTHON" -m fairseq_cli.generate "${generate[@]}" >/dev/null 2>"$results/generate-$subset.log"; then
                tail -n 20 "$results/generate-$subset.log" >&2
                exit 1
            fi
            evaluate=("$results/generate-$subset.txt" --data "$out/data-bin" --candidates "$candidates"
                --json "$results/metrics.$subset.json")
            if [ "$candidates" = split ]; then
                evaluate+=(--trec-run "$out/run.$subset.trec" --qrels "$out/qrels.$subset.trec")
            fi
            "$PYTHON" -m cart_fairseq.evaluate "${evaluate[@]}" >/dev/null
        done
    done
fi
"$PYTHON" "$here/report.py" "$out" "$checkpoint"
