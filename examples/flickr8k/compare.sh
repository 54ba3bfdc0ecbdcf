#!/usr/bin/env bash
# The recommended recipe beside the paper's and beside everything else that finds Flickr8k's pictures, in one table:
#
#     TEXT_ENCODER=PATH bash examples/flickr8k/compare.sh DATA OUT [fairseq-train flags ...]
#
# Trains with run.sh into OUT/scratch, OUT/paper and, where TEXT_ENCODER names a pretrained model, OUT/pretrained and
# OUT/borrowed (without index captions). What is there already stays; a stopped call goes on when it is given again.
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: bash $0 DATA OUT [fairseq-train flags ...]   (TEXT_ENCODER=PATH for the pretrained runs)" >&2
    exit 2
fi
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../environment.sh
. "$here/../environment.sh"
data=$1 out=$2
shift 2
encoder=${TEXT_ENCODER:-} flags=("$@")

# recipe NAME RECIPE TEXT_ENCODER INDEX_CAPTIONS: train into OUT/NAME
recipe() {
    RECIPE=$2 TEXT_ENCODER=$3 INDEX_CAPTIONS=$4 bash "$here/run.sh" "$data" "$out/$1" ${flags[@]+"${flags[@]}"}
}

recipe scratch joined '' ''
recipe paper cpu '' ''
if [ -n "$encoder" ]; then
    recipe pretrained joined "$encoder" ''
    recipe borrowed joined "$encoder" borrowed
fi
printf '\n'
"$PYTHON" "$here/comparison.py" --data "$data" --runs "$out" --json "$out/comparison.json"
