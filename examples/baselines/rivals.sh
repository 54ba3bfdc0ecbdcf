#!/usr/bin/env bash
# The generative rivals of the paper's Table 3 on any data, and CART, each trained in the same way with other identifiers:
#
#     bash examples/baselines/rivals.sh DATA OUT [fairseq-train flags ...]
#
# Each is a run of examples/own_data/run.sh in OUT/SCHEME, with the same flags; a stopped call goes on when it is given
# again. SCHEMES chooses among them. The table: python examples/baselines/compare.py --data DATA --runs OUT --output OUT/comparison
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" baselines/rivals "$@"
