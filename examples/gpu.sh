#!/usr/bin/env bash
# Everything that needs a GPU, in the order of what is worth most:
#
#     bash examples/gpu.sh OUT
#
# agreement  the same items on the GPU and on a processor, in float32, bf16 and fp16
# tests      the tests that are marked gpu
# search     queries/s and the latency of one query, CLIP and CLAP beside (Figure 4), from 10,000 to ten million items
# updates    time of an update and of an epoch at the paper's size, in float32, TF32, bf16 and fp16
# quality    recall after training, and after searching, in float32, bf16 and fp16; needs DATA
# paper      RECIPE=paper; needs DATA
#
# Each part writes OUT/PART.json: command, settings, seed, commit, machine, figures. It is stopped after LIMIT seconds (570).
# Given again, the command goes on: with the next figure, or after the last epoch that was trained. What is complete is not
# run again.
#
#     PARTS="search updates"   these parts alone
#     DATA=FOLDER              embeddings.npy, items.jsonl and captions.jsonl, such as Flickr8k's
#     DEVICE=cpu SMALL=1       tries all parts on a processor, in small sizes
#     PROJECT_COMMIT=ID        names the commit in the records, where the project is a copy without .git
#
# The Python needs torch with CUDA and the packages of `pip install .`; those that are missing are named. A machine without a
# network takes them as wheels: examples/README.md says how.
set -euo pipefail
# shellcheck source=environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" gpu "$@"
