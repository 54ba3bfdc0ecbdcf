"""Kills, damage, full disks, power cuts and readers beside a writer, many times: `make trust`, or `--help`.

The table that is printed counts outcomes by class. Any other class than those in `trials.GOOD` is a fault, and the exit
code is 1.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from worlds import TESTS  # isort: skip - it finds the others

import damage
import disks
import kills
import power
import recipe
from trials import Campaign

from cart_fairseq.base.files import write_json

PARTS = {
    "kills": (kills.kills, 230, "kills of each update; a quarter of them of other steps"),
    "searches": (kills.kills_of_searches, 50, "kills of what writes files of searches, of each step"),
    "limits": (disks.limits, 30, "limits of file sizes, of each step"),
    "disks": (disks.full_disks, 15, "sizes of a full ext4 and a full tmpfs, of each step"),
    "power": (power.power_cuts, 30, "power cuts of each step"),
    "mutations": (damage.mutations, 1500, "damaged files"),
    "flips": (damage.flips, 25, "flipped bits of each file"),
    "partials": (damage.partials, 100, "damaged working folders of each step that goes on"),
    "recipes": (recipe.recipes, 10, "kills of run.sh by its group, and as many of its first process"),
    "readers": (kills.readers, 600, "seconds of readers beside a writer"),
}


def main() -> None:
    """Run the parts and print the table."""
    parser = argparse.ArgumentParser(prog="tests/trust/campaign", description=__doc__.splitlines()[0])
    for name, (_, default, text) in PARTS.items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (%(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], help="what to run (all)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where copies of the worlds lie, such as /dev/shm, which is fast")
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    args = parser.parse_args()
    seconds: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        campaign = Campaign(Path(folder), args.seed)
        for part in args.parts:
            began = time.monotonic()
            PARTS[part][0](campaign, getattr(args, part))
            campaign.show()
            seconds[part] = round(time.monotonic() - began)
    for fault in campaign.faults[:20]:
        print(f"fault: {fault}", file=sys.stderr)
    if args.json:
        sys.path.append(str(TESTS.parent / "examples" / "recipes"))
        from provenance import provenance

        counts = {trial: dict(found) for trial, found in campaign.counts.items()}
        found = {"seconds": seconds, "counts": counts, "skipped": campaign.skipped, "faults": campaign.faults}
        write_json(args.json, json.loads(json.dumps(provenance(vars(args), "json", "folder") | found)))
    raise SystemExit(bool(campaign.faults))


if __name__ == "__main__":
    main()
