#!/usr/bin/env bash
# MSVD, 3 of 3: search with beam 30, recall@1/5/10 and MRR@10, TREC files, and the paper's figures (Table 2) beside.
#
#     bash examples/msvd/evaluate.sh OUT
set -euo pipefail
# shellcheck source=../recipes/steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../recipes/steps.sh"

evaluate_data_set "$@" 63.6 87.9 92.8 73.6
