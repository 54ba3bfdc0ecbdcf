"""Attacks on a running service: requests made from its own description by schemathesis, and hundreds made by hand.

    python examples/serving/attacks.py --port 8000 --item ID --canary TEXT --examples 1500 --json attacks.json

Nothing may end in a 5xx answer, show a file from outside the media folder (the canary is the text of a file beside it),
or take memory for good. `pip install schemathesis` for the first part; without it `--examples 0`.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

from attack_requests import Attack, all_attacks
from http_client import HOST, Client, metrics
from provenance import provenance

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script


async def send(attack: Attack, port: int) -> tuple[int, bytes]:
    """Send an attack; return the status, 0 where the connection was closed without one, and all that came."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(attack.request)
        answer = await asyncio.wait_for(reader.read(-1), 60)
    except (OSError, asyncio.TimeoutError):
        return 0, b""
    finally:
        writer.close()
    first = answer.split(b"\r\n", 1)[0].split(b" ")
    return (int(first[1]) if len(first) > 1 and first[1].isdigit() else 0), answer


async def by_hand(port: int, item: str, canary: bytes, share: float) -> dict[str, Any]:
    """All attacks, one after the other, or a share of them.

    Raises:
        ValueError: one worked; the message has its request.
    """
    attacks = all_attacks(item)
    counts: Counter[str] = Counter()
    for attack in attacks[: max(1, int(share * len(attacks)))]:
        status, answer = await send(attack, port)
        counts[f"{attack.kind} {status}"] += 1
        shows = b"root:x:" in answer or (canary and canary in answer)
        if status >= 500 or shows:
            said = "showed a file from outside" if shows else f"ended in {status}"
            raise ValueError(f"{attack.kind}: {attack.request[:300]!r} {said}; please report it")
    return dict(sorted(counts.items()))


def by_schemathesis(port: int, examples: int, python: str) -> None:
    """Requests made from the service's description, right and wrong ones.

    Raises:
        ValueError: an answer was wrong; the report is above.
    """
    # a data-bin without an encoder of media answers right uploads with 422
    checks = ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    options = ["--max-examples", str(examples), "--continue-on-failure", "--request-timeout", "60", "--no-color"]
    command = [python, "-m", "schemathesis.cli", "run", f"http://{HOST}:{port}/openapi.json", *checks, *options]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
            raise ValueError("schemathesis found wrong answers; see its report above")


def requests_of(found: dict[str, float]) -> dict[str, float]:
    """The number of answers of each status."""
    counts: Counter[str] = Counter()
    for name, value in found.items():
        if name.startswith("cart_requests_total{"):
            counts[name.split('status="')[1].split('"')[0]] += int(value)
    return dict(sorted(counts.items()))


async def figures(port: int) -> dict[str, float]:
    """The service's metrics."""
    client = Client(port)
    found = await metrics(client)
    client.close()
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Attack.

    Raises:
        ValueError: an attack worked, or the service does not answer any more.
    """
    before = asyncio.run(figures(args.port))
    counts = asyncio.run(by_hand(args.port, args.item, args.canary.encode(), args.share))
    if args.examples:
        by_schemathesis(args.port, args.examples, args.python)
    alive = asyncio.run(Client(args.port).search({"query": "a dog"}))
    after = asyncio.run(figures(args.port))
    statuses = {status: count - requests_of(before).get(status, 0) for status, count in requests_of(after).items()}
    if alive.status != 200 or any(status >= "500" for status, count in statuses.items() if count):
        raise ValueError(f"answers by status: {json.dumps(statuses)}; none may be 5xx")
    return {
        "attacks": counts,
        "attack_count": sum(counts.values()),
        "answers_by_status": statuses,
        "answers": sum(statuses.values()),
        "memory_mib_before": before["process_resident_memory_bytes"] / 2**20,
        "memory_mib": after["process_resident_memory_bytes"] / 2**20,
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made_parser = argparse.ArgumentParser(description="Attack a service that runs on this machine.")
    made_parser.add_argument("--port", type=int, required=True, help="of the service")
    made_parser.add_argument("--item", required=True, metavar="ID", help="an item with a media file")
    made_parser.add_argument("--canary", default="", metavar="TEXT", help="text of a file outside the media folder")
    examples = "requests that schemathesis makes for each route and phase; 0: none (default: %(default)s)"
    made_parser.add_argument("--examples", type=int, default=1500, metavar="N", help=examples)
    python = "a Python with schemathesis (default: this one)"
    made_parser.add_argument("--python", default=sys.executable, metavar="FILE", help=python)
    share = "share of the attacks made by hand (default: %(default)s)"
    made_parser.add_argument("--share", type=float, default=1.0, metavar="S", help=share)
    made_parser.add_argument("--json", type=Path, metavar="FILE", help="write the record to this file")
    return made_parser


def main(argv: Sequence[str] | None = None) -> None:
    """Attack and print what came back; see the module's docstring."""
    args = parser().parse_args(argv)
    found = run(args)
    print(json.dumps(found, indent=1))
    if args.json:
        write_json(
            args.json, {**provenance(vars(args), "json", "python", "port", "canary"), "seed": 0, "results": [found]}
        )


if __name__ == "__main__":
    run_script(main)
