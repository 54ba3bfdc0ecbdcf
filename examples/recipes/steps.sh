# shellcheck shell=bash
# Sourced by the recipes: the steps from raw media to figures, each a function. All of them do nothing where their output
# is there already, and go on where they were stopped. Flags given to a step come last and win.
#
#     prepare RAW OUT           annotations, embeddings, generated captions: OUT/data
#     train DATA OUT [flags]    identifiers, data-bin, fairseq-train: OUT/{identifiers,data-bin,checkpoints}
#     evaluate OUT [paper's R@1 R@5 R@10 MRR@10]    search and figures: OUT/{metrics.json,run.SPLIT.trec,qrels.SPLIT.trec}
#
# train_data_set and evaluate_data_set are the last two for what prepare made, with the paper's settings.
#
# Flags for single commands come from the environment, split at spaces:
#
#     ANNOTATION_FLAGS EMBEDDING_FLAGS CAPTION_FLAGS JOIN_FLAGS IDENTIFIER_FLAGS BINARIZE_FLAGS
#
# and PYTHON, ENCODER (for embeddings), CAPTIONER (for captions), RECIPE (paper, cuda, cpu or joined, see schedules.py) may be
# set; for the recipe joined TEXT_ENCODER, a model that reads the queries in place of one trained from scratch, and
# INDEX_CAPTIONS (include; borrowed, which does without index captions, but borrows captions of training items).
recipes=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../environment.sh
. "$recipes/../environment.sh"

export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-20000}" # let waiting threads sleep soon: beside other jobs that saves most of the time
export THP_MEM_ALLOC_ENABLE="${THP_MEM_ALLOC_ENABLE:-1}" # large pages for large tensors, where the kernel offers them

usage() {
    echo "usage: bash $0 $*" >&2
    exit 2
}

step() { printf '\n== %s\n' "$*"; }

# folder PATH: its absolute path; made where it is not there
folder() {
    mkdir -p -- "$1"
    (cd -- "$1" && pwd)
}

# flags of preprocess.annotations and of preprocess.generate_captions: set by the data set
annotations=() captions=()
# set by plan.py
join_flags=() identifier_flags=() binarize_flags=() train_flags=() measured=() sets=() device_flags=() train_needed='' checkpoint='' beam='' tuned=''

plan() {
    local assignments
    assignments=$("$PYTHON" "$recipes/plan.py" "$@") || exit "$?"
    eval "$assignments"
}

# prepare RAW OUT
prepare() {
    local out more embedded=()
    if [ "$#" -ne 2 ] || [ ! -d "$1" ]; then
        usage "RAW OUT   (RAW: the folder with the annotations and the media)"
    fi
    out=$(folder "$2")

    step "1. annotations"
    read -ra more <<<"${ANNOTATION_FLAGS:-}"
    "$PYTHON" -m preprocess.annotations "${annotations[@]}" --output "$out/annotations" ${more[@]+"${more[@]}"}

    step "2. embeddings: ${ENCODER:?}"
    read -ra more <<<"${EMBEDDING_FLAGS:-}"
    "$PYTHON" -m preprocess.extract_embeddings --items "$out/annotations/items.jsonl" \
        --captions "$out/annotations/captions.jsonl" --encoder "$ENCODER" --output "$out/embeddings" --on-error skip \
        ${more[@]+"${more[@]}"}

    step "3. generated captions: ${CAPTIONER:?}"
    read -ra more <<<"${CAPTION_FLAGS:-}"
    [ "${CAPTIONER%%:*}" = neighbours ] && embedded=(--embeddings "$out/embeddings/embeddings.npy")
    "$PYTHON" -m preprocess.generate_captions --items "$out/embeddings/items.jsonl" \
        --captions "$out/embeddings/captions.jsonl" --captioner "$CAPTIONER" --output "$out/data/captions.jsonl" \
        --on-error skip ${embedded[@]+"${embedded[@]}"} ${captions[@]+"${captions[@]}"} ${more[@]+"${more[@]}"}
    ln -sfn ../embeddings/embeddings.npy "$out/data/embeddings.npy"
    ln -sfn ../embeddings/items.jsonl "$out/data/items.jsonl" # its media paths are as valid here, one folder beside
    echo "$out/data: complete"
}

# train DATA OUT [fairseq-train flags ...]
train() {
    local data out embeddings texts log
    data=$(folder "$1")
    out=$(folder "$2")
    shift 2
    embeddings=$data/embeddings.npy
    [ -d "$data/embeddings" ] && embeddings=$data/embeddings
    texts=$data/captions.jsonl
    plan prepare "$data" "$@"
    if [ "${#join_flags[@]}" -gt 0 ]; then
        join "$data" "$out"
    elif [ -n "${TEXT_ENCODER:-}${INDEX_CAPTIONS:-}" ]; then
        echo "error: TEXT_ENCODER and INDEX_CAPTIONS are for RECIPE=joined; leave them out, or give BINARIZE_FLAGS" >&2
        exit 2
    fi

    step "1. identifiers"
    "$PYTHON" -m preprocess.build_identifiers --embeddings "$embeddings" --items "$data/items.jsonl" \
        --output "$out/identifiers" "${identifier_flags[@]}"

    step "2. vocabulary and data"
    "$PYTHON" -m preprocess.binarize --identifiers "$out/identifiers" --captions "$texts" \
        --output "$out/data-bin" ${binarize_flags[@]+"${binarize_flags[@]}"}

    step "3. training"
    plan train "$out" "$@"
    if [ "$train_needed" != yes ]; then
        echo "$out/checkpoints: complete, nothing to do"
        return
    fi
    rm -rf -- "$out/metrics.json" "$out/tuned.json" "$out/results" "$out"/run.*.trec "$out"/qrels.*.trec
    printf 'fairseq-train %s' "$out/data-bin --user-dir $root/cart_fairseq --save-dir $out/checkpoints"
    printf ' %q' "${train_flags[@]}" "$@"
    printf '\n'
    log=$out/checkpoints/train.log # all that fairseq says; the terminal sees the progress
    if ! "$PYTHON" -W ignore -m fairseq_cli.train "$out/data-bin" --user-dir "$root/cart_fairseq" \
        --save-dir "$out/checkpoints" "${train_flags[@]}" "$@" 2>&1 | tee -a "$log" |
        { grep --line-buffered -aE ' \| (train_inner|valid) \| |Loaded checkpoint' || true; }; then
        tail -n 20 "$log" >&2
        exit 1
    fi
    plan trained "$out"
}

# join DATA OUT: embeddings and captions to OUT/joined, which train then builds on; called by train
join() {
    local more encoder=() borrowed=${INDEX_CAPTIONS:-include}
    [ -z "${TEXT_ENCODER:-}" ] || encoder=(--text-features "$TEXT_ENCODER")
    [ "$borrowed" = include ] || encoder+=(--index-captions exclude --keep-embedding)

    step "0. captions joined with embeddings: $2/joined"
    read -ra more <<<"${JOIN_FLAGS:-}"
    "$PYTHON" -m preprocess.join_captions --embeddings "$embeddings" --items "$1/items.jsonl" \
        --captions "$1/captions.jsonl" --output "$2/joined" "${join_flags[@]}" ${encoder[@]+"${encoder[@]}"} \
        ${more[@]+"${more[@]}"}
    embeddings=$2/joined
    if [ "$borrowed" = borrowed ]; then
        texts=$2/captions.jsonl
        "$PYTHON" -m preprocess.generate_captions --items "$1/items.jsonl" --captions "$1/captions.jsonl" \
            --captioner neighbours --embeddings "$2/joined/aligned.npy" --splits valid test --captions-per-item 5 \
            --output "$texts"
    fi
    binarize_flags=(--embeddings "$2/joined" --index-captions "$borrowed" ${binarize_flags[@]+"${binarize_flags[@]}"})
    [ -z "${TEXT_ENCODER:-}" ] || binarize_flags+=(--text-encoder "$TEXT_ENCODER")
}

# evaluate OUT [paper's figures]
evaluate() {
    local out subset candidates results
    out=$(folder "$1")
    shift

    step "4. figures"
    plan measure "$out"
    if [ "$tuned" = yes ] && [ ! -f "$out/tuned.json" ]; then
        "$PYTHON" -m cart_fairseq.tune --data "$out/data-bin" --path "$checkpoint" --beam "$beam" --json "$out/tuned.json"
    fi
    for subset in ${measured[@]+"${measured[@]}"}; do
        for candidates in "${sets[@]}"; do
            results=$out/results/$candidates
            [ -f "$results/metrics.$subset.json" ] || measure "$out" "$subset" "$candidates" "$results"
        done
    done
    "$PYTHON" "$recipes/report.py" "$out" "$checkpoint" "$@"
}

# measure OUT SUBSET CANDIDATES RESULTS: search for all queries of the subset; metrics.SUBSET.json is written last
measure() {
    local evaluate=("$4/generate-$2.txt" --data "$1/data-bin" --candidates "$3" --json "$4/metrics.$2.json")
    echo "searching: $2 queries, candidates: $3"
    mkdir -p -- "$4"
    if ! "$PYTHON" -m fairseq_cli.generate "$1/data-bin" --user-dir "$root/cart_fairseq" --task cart_retrieval \
        --path "$checkpoint" --gen-subset "$2" --candidates "$3" --beam "$beam" --nbest 10 --batch-size 256 \
        --required-batch-size-multiple 1 --num-workers 0 --results-path "$4" ${device_flags[@]+"${device_flags[@]}"} \
        >/dev/null 2>"$4/generate-$2.log"; then
        tail -n 20 "$4/generate-$2.log" >&2
        exit 1
    fi
    if [ "$3" = split ]; then
        evaluate+=(--trec-run "$1/run.$2.trec" --qrels "$1/qrels.$2.trec")
    fi
    "$PYTHON" -m cart_fairseq.evaluate "${evaluate[@]}" >/dev/null
}

# train_data_set OUT [fairseq-train flags ...]
train_data_set() {
    if [ "$#" -lt 1 ] || [ ! -e "$1/data/items.jsonl" ]; then
        usage "OUT [fairseq-train flags ...]   (OUT: what prepare.sh made)"
    fi
    export RECIPE=${RECIPE:-paper}
    train "$1/data" "$@"
}

# evaluate_data_set OUT [paper's figures]
evaluate_data_set() {
    if [ ! -d "$1/checkpoints" ]; then
        usage "OUT   (OUT: what train.sh made)"
    fi
    evaluate "$@"
}
