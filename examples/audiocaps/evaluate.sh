#!/usr/bin/env bash
# AudioCaps, 3 of 3: search with beam 30, recall@1/5/10 and MRR@10, TREC files, and the paper's figures (Table 2) beside.
#
#     bash examples/audiocaps/evaluate.sh OUT
set -euo pipefail
# shellcheck source=../recipes/steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../recipes/steps.sh"

evaluate_data_set "$@" 49.8 79.8 86.8 62.0
