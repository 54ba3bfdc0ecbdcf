#!/usr/bin/env bash
# The recommended recipe beside the paper's and beside everything else that finds Flickr8k's pictures, in one table:
#
#     TEXT_ENCODER=PATH bash examples/flickr8k/compare.sh DATA OUT [fairseq-train flags ...]
#
# Trains with run.sh into OUT/scratch, OUT/paper and, where TEXT_ENCODER names a pretrained model, OUT/pretrained and
# OUT/borrowed (without index captions). What is there already stays; a stopped call goes on when it is given again.
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" flickr8k/compare "$@"
