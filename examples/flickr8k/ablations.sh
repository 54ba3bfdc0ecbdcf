#!/usr/bin/env bash
# What carries the recommended recipe: small models, the same number of updates each, three seeds where a claim depends on it.
#
#     TEXT_ENCODER=PATH bash examples/flickr8k/ablations.sh DATA OUT [fairseq-train flags ...]
#
# Each line of ablations.py is a run in OUT/LINE-SEED, with the join of the first, full-1; a stopped call goes on when it is
# given again. Ends with the table on the valid queries, beam 30, symbols of all levels counting alike; OUT/ablations.json is the
# record of its runs.
#
#     ABLATIONS="full rdrop"   these lines alone; two calls with different ones can run side by side once full-1 is there
#     TEXT_ENCODER=            nothing pretrained reads the queries: slower, and less is learned in as many updates
set -euo pipefail
# shellcheck source=../environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../environment.sh"

exec "$PYTHON" "$root/examples/recipes/run.py" flickr8k/ablations "$@"
