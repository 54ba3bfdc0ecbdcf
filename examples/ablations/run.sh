#!/usr/bin/env bash
# The ablation tables of the paper on any data:
#
#     bash examples/ablations/run.sh TABLE DATA OUT [fairseq-train flags ...]
#
# TABLE: 4 (parts of the model), 5 (encoder layers), 6 (K and codebook size), 7 (identifier length), 8-clotho, 8-audiocaps,
# 8-msrvtt, 8-msvd, 9 (as 4, beside the paper's figures on those data), 10 (decoder layers), 11 (width of the codewords).
# DATA holds embeddings, items.jsonl and captions.jsonl, as OUT/data of the recipes does.
#
# Each line is a run of examples/own_data/run.sh in OUT/LINE with the same flags; lines that several tables share are run
# once, and a stopped call goes on when it is given again. Ends with the table on the valid queries (SUBSET=test for the
# others). RECIPE=paper takes the paper's schedule, IDENTIFIER_FLAGS go to build_identifiers in every line.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../environment.sh
. "$here/../environment.sh"

if [ "$#" -lt 3 ] || [ ! -d "$2" ]; then
    echo "usage: bash $0 TABLE DATA OUT [fairseq-train flags ...]   (DATA: an existing folder)" >&2
    exit 2
fi
table=$1 data=$2 out=$3
shift 3
lines=$("$PYTHON" "$here/table.py" lines "$table")
sizes="--kmeans-clusters 128 --codebook-size 128" # whatever own_data would take for few items: some tables name them
common=${IDENTIFIER_FLAGS:-}

while IFS='|' read -r line identifiers train <&3; do
    printf '\n==== %s\n' "$line"
    if [ -z "$identifiers" ] && [ "$line" != cart ] && [ ! -d "$out/$line/data-bin" ]; then
        rm -rf -- "${out:?}/$line.tmp" "${out:?}/$line" # same identifiers and data as the full model
        mkdir -- "$out/$line.tmp"
        cp -R -- "$out/cart/identifiers" "$out/cart/data-bin" "$out/$line.tmp"
        mv -- "$out/$line.tmp" "$out/$line"
    fi
    read -ra flags <<<"$train"
    IDENTIFIER_FLAGS="$sizes $common $identifiers" \
        bash "$here/../own_data/run.sh" "$data" "$out/$line" "$@" ${flags[@]+"${flags[@]}"}
done 3<<<"$lines"

printf '\n'
"$PYTHON" "$here/table.py" print "$table" "$out" "${SUBSET:-valid}"
