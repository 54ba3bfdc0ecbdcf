#!/usr/bin/env bash
# The five lines of the paper's Table 4 on any data: CART, and CART without each of its parts.
#
#     bash examples/ablations/table4.sh DATA OUT [fairseq-train flags ...]
#
# Each line is a run of examples/own_data/run.sh in OUT/LINE, with the same flags; a stopped call goes on when it is given
# again. Ends with the table on the valid queries (SUBSET=test for the others).
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: bash $0 DATA OUT [fairseq-train flags ...]" >&2
    exit 2
fi
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
data=$1 out=$2
shift 2
common=${IDENTIFIER_FLAGS:-}

# line LINE IDENTIFIER-FLAGS TRAIN-FLAGS...
line() {
    local name=$1 scheme=$2
    shift 2
    if [ -z "$scheme" ] && [ "$name" != cart ] && [ ! -d "$out/$name" ]; then
        mkdir -p "$out/$name" # same identifiers and data as the full model
        cp -R "$out/cart/identifiers" "$out/cart/data-bin" "$out/$name/"
    fi
    printf '\n==== %s\n' "$name"
    IDENTIFIER_FLAGS="$common $scheme" bash "$here/../own_data/run.sh" "$data" "$out/$name" "$@"
}

line cart "" "$@"
line without-consistency "" "$@" --consistency-weight 0
line without-fusion "" "$@" --fusion none
line without-kmeans "--scheme rqvae --allow-collapse" "$@"
line without-rqvae "--scheme hierarchical-kmeans --allow-collapse" "$@"

python=${PYTHON:-}
if [ -z "$python" ]; then
    python=python3
    [ -x "$here/../../.venv/bin/python" ] && python=$here/../../.venv/bin/python
fi
"$python" "$here/table4.py" "$out" "${SUBSET:-valid}"
