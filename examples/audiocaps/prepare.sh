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
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" audiocaps/prepare "$@"
