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
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" msvd/prepare "$@"
