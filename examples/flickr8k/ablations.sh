#!/usr/bin/env bash
# What carries the recommended recipe: small models, the same number of updates each, three seeds where a claim depends on it.
#
#     bash examples/flickr8k/ablations.sh DATA OUT [fairseq-train flags ...]
#
# Each line of ablations.py is a run in OUT/LINE-SEED, with the join of OUT/joined; a stopped call goes on when it is given
# again. Ends with the table on the valid queries, beam 100; OUT/LINE-SEED.json is the record of a run.
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
lines=$("$PYTHON" "$here/ablations.py" lines)

while IFS='|' read -r line seed identifiers more tuning <&3; do
    run=$out/$line-$seed
    [ ! -f "$run.json" ] || continue
    printf '\n==== %s, seed %s\n' "$line" "$seed"
    read -ra flags <<<"$more"
    read -ra search <<<"$tuning"
    if [ "${#search[@]}" -gt 0 ]; then
        run=$out/full-$seed # the same model, searched in another way
    else
        mkdir -p -- "$run" "$out/joined"
        ln -sfn ../joined "$run/joined"
        if [ -z "$identifiers" ] && [ "$line-$seed" != full-1 ]; then
            ln -sfn ../full-1/identifiers "$run/identifiers"
        fi
        identifiers=${identifiers//DATA/$data} identifiers=${identifiers//OUT/$out}
        IDENTIFIER_FLAGS=$identifiers train "$data" "$run" --seed "$seed" --max-update 400 --encoder-embed-dim 128 \
            --encoder-ffn-embed-dim 512 --disable-validation ${flags[@]+"${flags[@]}"} "$@"
    fi
    plan measure "$run"
    "$PYTHON" -m cart_fairseq.tune --data "$run/data-bin" --path "$checkpoint" --json "$out/$line-$seed.tuned.json" \
        --dry-run --beam 100 ${search[@]+"${search[@]}"}
    "$PYTHON" "$here/ablations.py" record "$run" "$out/$line-$seed.tuned.json" "$out/$line-$seed.json"
done 3<<<"$lines"

printf '\n'
"$PYTHON" "$here/ablations.py" print "$out"
