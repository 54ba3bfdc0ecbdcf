#!/usr/bin/env bash
# Clotho, 3 of 3: search with beam 30, recall@1/5/10 and MRR@10, TREC files, and the paper's figures (Table 2) beside.
#
#     bash examples/clotho/evaluate.sh OUT
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" clotho/evaluate "$@"
