#!/usr/bin/env bash
# Clotho, 3 of 3: search with beam 30, recall@1/5/10 and MRR@10, TREC files, and the paper's figures (Table 2) beside.
#
#     bash examples/clotho/evaluate.sh OUT
set -euo pipefail
# shellcheck source=../recipes/steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../recipes/steps.sh"

evaluate_data_set "$@" 46.4 70.6 76.0 52.3
