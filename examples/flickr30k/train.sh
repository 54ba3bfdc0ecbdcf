#!/usr/bin/env bash
# Flickr30k, 2 of 3: identifiers, data-bin and training with the paper's settings (RECIPE=cpu: a model for two cores).
#
#     bash examples/flickr30k/train.sh OUT [fairseq-train flags ...]
#
# The same call goes on where it was stopped. Flags given here win: --fp16, --max-epoch 30 ...
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" flickr30k/train "$@"
