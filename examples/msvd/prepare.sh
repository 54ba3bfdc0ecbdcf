#!/usr/bin/env bash
# MSVD, 1 of 3: from the clips, their captions and the lists to embeddings and captions. README.md says where they come from.
#
#     bash examples/msvd/prepare.sh RAW OUT
#
# RAW holds AllVideoDescriptions.txt, {train,val,test}_list.txt and the clips, in any folders below.
# OUT receives data/. Embeddings are ImageBind's, as in the paper, which does not name its captioner; BLIP-2 is ours. Others:
#
#     ENCODER=pe-av CAPTIONER=neighbours bash examples/msvd/prepare.sh RAW OUT
set -euo pipefail
# shellcheck source=../recipes/steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../recipes/steps.sh"

ENCODER=${ENCODER:-imagebind} CAPTIONER=${CAPTIONER:-blip2}
raw=${1:-}
annotations=(msvd --captions "$raw/AllVideoDescriptions.txt" --media "$raw"
    --train-list "$raw/train_list.txt"
    --valid-list "$raw/val_list.txt"
    --test-list "$raw/test_list.txt")
prepare "$@"
