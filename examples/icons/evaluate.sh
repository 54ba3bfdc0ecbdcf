#!/usr/bin/env bash
# Lucide's icons, 3 of 3: search among all icons, recall@1/5/10 and MRR@10, TREC files.
#
#     bash examples/icons/evaluate.sh OUT
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" icons/evaluate "$@"
