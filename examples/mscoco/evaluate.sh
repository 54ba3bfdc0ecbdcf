#!/usr/bin/env bash
# MS-COCO, 3 of 3: search with beam 30, recall@1/5/10 and MRR@10, TREC files, and the paper's figures (Table 2) beside.
#
#     bash examples/mscoco/evaluate.sh OUT
set -euo pipefail
# shellcheck source=../recipes/steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../recipes/steps.sh"

evaluate_data_set "$@" 52.4 77.5 86.1 63.2
