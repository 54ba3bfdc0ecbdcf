#!/usr/bin/env bash
# The generative rivals of the paper's Table 3 on any data, and CART, each trained in the same way with other identifiers:
#
#     bash examples/baselines/rivals.sh DATA OUT [fairseq-train flags ...]
#
# Each is a run of examples/own_data/run.sh in OUT/SCHEME, with the same flags; a stopped call goes on when it is given
# again. SCHEMES chooses among them. The table: python examples/baselines/compare.py --data DATA --runs OUT --output OUT/comparison
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: bash $0 DATA OUT [fairseq-train flags ...]" >&2
    exit 2
fi
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
data=$1 out=$2
shift 2
common=${IDENTIFIER_FLAGS:-}

for scheme in ${SCHEMES:-coarse-fine atomic structured hierarchical-kmeans rqvae}; do
    printf '\n==== %s\n' "$scheme"
    flags="--scheme $scheme"
    [ "$scheme" = coarse-fine ] || flags="$flags --allow-collapse" # a rival's identifiers are what they are
    IDENTIFIER_FLAGS="$common $flags" bash "$here/../own_data/run.sh" "$data" "$out/$scheme" "$@"
done
