#!/usr/bin/env bash
# From the published images of Flickr8k and Karpathy's file to embeddings, items and captions for run.sh: OUT/data.
#
#     bash examples/flickr8k/prepare.sh IMAGES KARPATHY OUT
#
# IMAGES is the folder of the images, at any depth; KARPATHY is dataset_flickr8k.json. README.md says where they come from.
# Embeddings are ImageBind's, as in the paper. Others:
#
#     ENCODER=siglip bash examples/flickr8k/prepare.sh IMAGES KARPATHY OUT
#
# ENCODER=plain needs no weights.
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" flickr8k/prepare "$@"
