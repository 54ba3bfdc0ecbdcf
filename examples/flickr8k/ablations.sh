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
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../recipes/steps.sh
. "$here/../recipes/steps.sh"

if [ "$#" -lt 2 ] || [ ! -d "$1" ]; then
    usage "DATA OUT [fairseq-train flags ...]   (DATA: an existing folder)"
fi
data=$(folder "$1") out=$(folder "$2")
shift 2
export RECIPE=joined
read -ra chosen <<<"${ABLATIONS:-}"
lines=$("$PYTHON" "$here/ablations.py" lines ${chosen[@]+"${chosen[@]}"})

while IFS='|' read -r line seed captions identifiers more tuning <&3; do
    run=$out/$line-$seed
    [ ! -f "$run.json" ] || continue
    printf '\n==== %s, seed %s\n' "$line" "$seed"
    read -ra flags <<<"$more"
    read -ra search <<<"$tuning"
    if [ "${#search[@]}" -gt 0 ]; then
        run=$out/full-$seed # the same model, searched in another way
    else
        mkdir -p -- "$run"
        if [ "$line-$seed" != full-1 ] && [ -z "$captions" ] && [ -f "$out/full-1.json" ]; then
            shared=(joined)
            [ -n "$identifiers" ] || shared+=(identifiers data-bin)
            for name in "${shared[@]}"; do
                [ -e "$run/$name" ] || ln -s "../full-1/$name" "$run/$name" # a run begun before full-1 keeps its own
            done
        fi
        identifiers=${identifiers//DATA/$data} identifiers=${identifiers//OUT/$out}
        INDEX_CAPTIONS=$captions IDENTIFIER_FLAGS=$identifiers train "$data" "$run" --seed "$seed" --max-update 660 --fusion none \
            --consistency-weight 0 --decoder-layers 2 --disable-validation ${flags[@]+"${flags[@]}"} "$@"
    fi
    plan measure "$run"
    "$PYTHON" -m cart_fairseq.tune --data "$run/data-bin" --path "$checkpoint" --json "$out/$line-$seed.tuned.json" \
        --dry-run --beam 30 --discounts 1 ${search[@]+"${search[@]}"}
    "$PYTHON" "$here/ablations.py" record "$run" "$out/$line-$seed.tuned.json" "$out/$line-$seed.json"
done 3<<<"$lines"

printf '\n'
"$PYTHON" "$here/ablations.py" print "$out"
