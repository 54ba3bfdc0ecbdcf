#!/usr/bin/env bash
# Flickr30k, 1 of 3: from the images and Karpathy's file to embeddings and captions. README.md says where they come from.
#
#     bash examples/flickr30k/prepare.sh RAW OUT
#
# RAW holds dataset_flickr30k.json and the images, in any folders below.
# OUT receives data/. Embeddings are ImageBind's, as in the paper, which does not name its captioner; BLIP-2 is ours. Others:
#
#     ENCODER=pe-av CAPTIONER=neighbours bash examples/flickr30k/prepare.sh RAW OUT
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" flickr30k/prepare "$@"
