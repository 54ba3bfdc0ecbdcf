#!/usr/bin/env bash
# From a folder of pictures, sounds and videos to a page that searches them:
#
#     bash examples/folder/run.sh FOLDER OUT [fairseq-train flags ...]
#
# FOLDER may hold anything; preprocess.read_folder finds media and captions in it and changes nothing. It may also be a
# data set: tar, Parquet or Arrow files with media, which are unpacked to OUT/folder.media, or a folder of clip-retrieval.
# OUT receives the lists (folder/), embeddings/, data/, and what examples/own_data/run.sh makes of them. The same call
# again goes on where the first one stopped and, once all is there, takes over only what is new, changed or gone in
# FOLDER, without training.
# Without captions nothing is trained, and the page searches by example alone.
#
# ENCODER=clip embeds with a pretrained encoder; unset, features of the files themselves do (the encoder "plain", which
# knows colours, shapes and sounds, not what they mean). CAPTIONER=blip2 writes captions. RECIPE is "joined".
# In a terminal the page is served at the end, at PORT (8000); elsewhere, and with SERVE=0, the command is printed.
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" folder/run "$@"
