#!/usr/bin/env bash
# The built-in demo: make a small world of pictures, sounds and clips, train on each kind, ask for them in words never
# trained on, show the answers.
#
#     bash examples/demo/run.sh OUT [fairseq-train flags ...]
#
# OUT receives pictures/, sounds/ and clips/, each with data/ (media and their descriptions) and run/ (identifiers,
# data-bin, checkpoints, metrics.json, TREC files), index.html, and all/: one catalogue of all kinds with a model that is
# searched by text and by example. In a terminal its page is served at the end, at PORT (8000); elsewhere, and with
# SERVE=0, the command is printed. The same call again goes on where the first one stopped. KINDS="sounds clips" makes
# only these, and no catalogue of all.
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" demo/run "$@"
