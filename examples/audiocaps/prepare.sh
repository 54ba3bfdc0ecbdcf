#!/usr/bin/env bash
# AudioCaps, 1 of 3: from the sounds and the csv files to embeddings and captions. README.md says where they come from.
#
#     bash examples/audiocaps/prepare.sh RAW OUT
#
# RAW holds train.csv, val.csv, test.csv and the sounds, in any folders below.
# OUT receives data/. Embeddings are ImageBind's, as in the paper, which does not name its captioner; an audio Whisper is ours. Others:
#
#     ENCODER=pe-av CAPTIONER=neighbours bash examples/audiocaps/prepare.sh RAW OUT
set -euo pipefail
# shellcheck source=../recipes/steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../recipes/steps.sh"

ENCODER=${ENCODER:-imagebind} CAPTIONER=${CAPTIONER:-whisper}
raw=${1:-}
annotations=(audiocaps --train "$raw/train.csv" --valid "$raw/val.csv" --test "$raw/test.csv" --media "$raw")
if [ "${CAPTIONER%%:*}" = whisper ]; then
    captions=(--prompt "audiocaps > caption: ") # the style of this data set, which the model was trained in, too
fi
prepare "$@"
