#!/usr/bin/env bash
# Lucide's icons, 2 of 3: identifiers, data-bin and training by the recommended recipe (RECIPE=cpu: the paper's method).
#
#     bash examples/icons/train.sh OUT [fairseq-train flags ...]
#
# The same call goes on where it was stopped. Flags given here win: --max-epoch 30 ...
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" icons/train "$@"
