#!/usr/bin/env bash
# The ablation tables of the paper on any data:
#
#     bash examples/ablations/run.sh TABLE DATA OUT [fairseq-train flags ...]
#
# TABLE: 4 (parts of the model), 5 (encoder layers), 6 (K and codebook size), 7 (identifier length), 8-clotho, 8-audiocaps,
# 8-msrvtt, 8-msvd, 9 (as 4, beside the paper's figures on those data), 10 (decoder layers), 11 (width of the codewords).
# DATA holds embeddings, items.jsonl and captions.jsonl, as OUT/data of the recipes does.
#
# Each line is a run of examples/own_data/run.sh in OUT/LINE with the same flags; lines that several tables share are run
# once, and a stopped call goes on when it is given again. Ends with the table on the valid queries (SUBSET=test for the
# others). RECIPE=paper takes the paper's schedule, IDENTIFIER_FLAGS go to build_identifiers in every line.
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" ablations/run "$@"
