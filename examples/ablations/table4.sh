#!/usr/bin/env bash
# The paper's Table 4 on any data; run.sh makes the others, too.
#
#     bash examples/ablations/table4.sh DATA OUT [fairseq-train flags ...]
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: bash $0 DATA OUT [fairseq-train flags ...]" >&2
    exit 2
fi
exec bash "$(dirname -- "${BASH_SOURCE[0]}")/run.sh" 4 "$@"
