#!/usr/bin/env bash
# MSR-VTT, 1 of 3: from the videos, their captions and the lists of the 1k-A split to embeddings and captions. README.md says where they come from.
#
#     bash examples/msrvtt/prepare.sh RAW OUT
#
# RAW holds MSRVTT_data.json, MSRVTT_train.9k.csv, MSRVTT_JSFUSION_test.csv and the videos, in any folders below.
# OUT receives data/. Embeddings are ImageBind's, as in the paper, which does not name its captioner; BLIP-2 is ours. Others:
#
#     ENCODER=pe-av CAPTIONER=neighbours bash examples/msrvtt/prepare.sh RAW OUT
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" msrvtt/prepare "$@"
