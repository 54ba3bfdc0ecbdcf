#!/usr/bin/env bash
# Lucide's icons, 1 of 3: from the published package to pictures, captions and embeddings. README.md says how to get it.
#
#     bash examples/icons/prepare.sh PACKAGE OUT
#
# PACKAGE is the folder of the unpacked package: it holds tags.json and icons/*.svg. OUT receives icons/ and data/.
# Embeddings are those of the encoder plain, which needs no weights. Others:
#
#     ENCODER=siglip bash examples/icons/prepare.sh PACKAGE OUT
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" icons/prepare "$@"
