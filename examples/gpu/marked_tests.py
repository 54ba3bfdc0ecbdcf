"""The tests that are marked ``gpu``, by pytest; without a GPU they are skipped."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from parts import Record, arguments, run

from cart_fairseq.base.processes import end_with_parent

ROOT = Path(__file__).resolve().parents[2]
COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")
PYTEST = ("pytest", "-q", "-m", "gpu", "--color=no", "-p", "no:cacheprovider", "tests/gpu")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tests and write how many passed."""
    args = arguments(__doc__, argv)
    record = Record(args, "tests", {"command": " ".join(["python -m", *PYTEST])})
    command = [sys.executable, "-m", *PYTEST]
    ended = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, preexec_fn=end_with_parent
    )
    print(ended.stdout)
    last = ended.stdout.splitlines()[-1] if ended.stdout.strip() else ""
    counts = {word: int(number) for number, word in COUNT.findall(last)}
    record.rows = [counts]
    ran = "passed" in counts or args.device == "cpu"  # where there is a GPU, skipped tests show nothing
    record.write(complete=ended.returncode == 0 and ran)
    raise SystemExit(ended.returncode)


if __name__ == "__main__":
    run(main)
