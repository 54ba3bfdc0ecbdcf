#!/usr/bin/env bash
# A catalogue that grows: items join a trained model's catalogue, and are found (a) without any training, (b) after a
# short fine-tuning on their index captions and a few old ones, against (c) identifiers and a model made anew.
#
#     bash examples/changing_catalogue/run.sh DATA OUT [fairseq-train flags ...]
#
# DATA holds embeddings.npy, items.jsonl and captions.jsonl (of Flickr8k: 7,000 items of today, the 1,000 of the valid split
# tomorrow; see split.py). A stopped call goes on when it is given again. Other steps take flags from the environment:
#
#     SPLIT_FLAGS="--new-split valid --old-queries 1000 --replay 5"
#     FINE_TUNE_FLAGS="--max-epoch 3 --lr 2e-4"      flags of the short training, after those of the long ones
#
# RECIPE=joined joins new items with their index captions, replays all captions for one epoch, and measures the dual tower of
# each join beside the model.
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" changing_catalogue/run "$@"
