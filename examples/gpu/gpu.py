"""The driver of ``gpu.sh``: runs each part as a process with a time limit; the part writes a JSON file of its own."""

import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from lock import locked
from settings import words

from cart_fairseq.base.processes import end_with_parent
from cart_fairseq.base.reading import read_json

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent
LIMIT = 570
"""Seconds of a part; with `GRACE` it ends within ten minutes."""
GRACE = 25
"""Seconds that a part has to end after it was told to stop."""
DEVICES = ("cuda", "cpu")
INPUTS = ("embeddings.npy", "items.jsonl", "captions.jsonl")
NEEDED = {
    "fairseq": "ve-fairseq",
    "omegaconf": "omegaconf<2.4",
    "hydra": "hydra-core>=1.3.2",
    "antlr4": "antlr4-python3-runtime==4.9.*",
    "bitarray": "bitarray",
    "sacrebleu": "sacrebleu",
    "regex": "regex",
    "numpy": "numpy",
    "sklearn": "scikit-learn",
    "sentencepiece": "sentencepiece",
    "safetensors": "safetensors",
    "pyarrow": "pyarrow",
    "tqdm": "tqdm",
    "transformers": "transformers",
    "pytest": "pytest",
    "pytest_timeout": "pytest-timeout",
}
"""Module -> the distribution that brings it, where fairseq needs one with its version; the first five are rarely there beside
torch."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: also of its JSON file.
        script: in this folder.
        says: what it finds out.
        needs_data: whether it needs DATA.
    """

    name: str
    script: str
    says: str
    needs_data: bool = False


PARTS = (
    Part("agreement", "agreement.py", "the same items on both devices"),
    Part("tests", "marked_tests.py", "the tests that are marked gpu"),
    Part("search", "search.py", "queries/s, latency, Figure 4"),
    Part("updates", "updates.py", "time of an update and of an epoch at the paper's size"),
    Part("quality", "quality.py", "recall in float32, bf16 and fp16", needs_data=True),
    Part("paper", "paper.py", "the paper's recipe", needs_data=True),
)


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the environment's variables ask for.

    Attributes:
        parts: those to run.
        device: ``cuda`` or ``cpu``.
        small: whether sizes are small.
        data: a folder, or None.
        limit: seconds of a part.
    """

    parts: tuple[Part, ...]
    device: str
    small: bool
    data: Path | None
    limit: int


def wish() -> Wish:
    """Read PARTS, DEVICE, SMALL, DATA and LIMIT.

    Raises:
        ValueError: a part is unknown, LIMIT is no number, DATA lacks a file, or DEVICE is neither name.
    """
    chosen, names = words("PARTS"), [part.name for part in PARTS]
    for name in chosen:
        if name not in names:
            raise ValueError(f"PARTS: no part {name!r}; use some of {', '.join(names)}")
    limit = os.environ.get("LIMIT") or str(LIMIT)
    if not (limit.isascii() and limit.isdecimal() and int(limit)):
        raise ValueError(f"LIMIT is {limit!r}; give a number of seconds above 0")
    device = os.environ.get("DEVICE") or "cuda"
    if device not in DEVICES:
        raise ValueError(f"DEVICE is {device!r}; use one of {', '.join(DEVICES)}")
    text = os.environ.get("DATA")
    data = Path(os.path.abspath(text)) if text else None
    for name in INPUTS if data else ():
        if not (data / name).is_file():  # type: ignore[operator]
            raise ValueError(f"DATA is {text!r}, which has no {name}; name a folder with {', '.join(INPUTS)}")
    parts = tuple(part for part in PARTS if not chosen or part.name in chosen)
    return Wish(parts, device, bool(os.environ.get("SMALL")), data, int(limit))


def run(out: Path) -> None:
    """Run the parts.

    Raises:
        ValueError: variables are wrong, packages or the GPU are missing, another call is at work in ``out``, or ``out``
            has figures of another device or size.
        SystemExit: with status 1 if a part failed, after the others ran.
    """
    wanted = wish()
    require(wanted.device)
    for part in wanted.parts:
        check_record(out / f"{part.name}.json", wanted)
    failed, skipped = [], []
    with locked(out):
        for part in wanted.parts:
            print(f"\n== {part.name}: {part.says}", flush=True)
            result = out / f"{part.name}.json"
            if result.is_file() and read_json(result)["complete"]:
                print(f"{result}: complete, nothing to do")
            elif part.needs_data and wanted.data is None:
                skipped.append(part.name)
                print(f"skipped: set DATA to a folder with {', '.join(INPUTS)}")
            elif not call(part, out, wanted):
                failed.append(part.name)
    if skipped:
        print(f"\nskipped without DATA: {', '.join(skipped)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise SystemExit(1)


def require(device: str) -> None:
    """Refuse at the start what would fail in every part.

    Raises:
        ValueError: packages are missing or of a wrong version, or the GPU is missing.
    """
    missing = [needed for module, needed in NEEDED.items() if importlib.util.find_spec(module) is None]
    wrong = [] if missing else other_versions()
    if missing or wrong:
        found = f"no {', '.join(missing)}" if missing else ", ".join(wrong)
        raise ValueError(
            f"{sys.executable}: has {found}; pip install . where there is a network, else bring wheels as "
            "examples/README.md says"
        )
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch finds no CUDA device; DEVICE=cpu SMALL=1 tries the parts on a processor")


def other_versions() -> list[str]:
    """What is installed in a version that fairseq does not take."""
    from packaging.requirements import Requirement

    found = []
    for needed in map(Requirement, NEEDED.values()):
        version = metadata.version(needed.name) if needed.specifier else ""
        if version and not needed.specifier.contains(version, prereleases=True):
            found.append(f"{needed.name} {version} instead of {needed}")
    return found


def check_record(path: Path, wanted: Wish) -> None:
    """Refuse a record of another device or size.

    Raises:
        ValueError: ``path`` is such a record.
    """
    if not path.is_file():
        return
    found: dict[str, Any] = read_json(path)["settings"]
    if (found["device"], found["small"]) != (wanted.device, wanted.small):
        size = "small" if found["small"] else "full"
        raise ValueError(f"{path}: has figures of DEVICE={found['device']} in {size} size; choose another OUT")


def call(part: Part, out: Path, wanted: Wish) -> bool:
    """Run a part until it ends or its time is up. Returns False if it failed."""
    command = [sys.executable, str(HERE / part.script), "--out", str(out), "--device", wanted.device]
    command += ["--data", str(wanted.data)] if wanted.data else []
    command += ["--small"] if wanted.small else []
    start = time.monotonic()
    code = ended_within(command, environment(wanted.device), wanted.limit)
    result = out / f"{part.name}.json"
    if result.is_file() and read_json(result)["complete"] and not code:
        state = "complete"
    else:
        state = "stopped; give the same command again to go on" if code is None else "failed"
    print(f"{part.name}: {state}, {time.monotonic() - start:.0f} s", flush=True)
    return state != "failed"


def environment(device: str) -> dict[str, str]:
    """That of a part: modules of neighbours, and no GPU where none is wanted."""
    folders = [str(EXAMPLES / "efficiency"), str(EXAMPLES / "recipes"), os.environ.get("PYTHONPATH", "")]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    return found if device == "cuda" else {**found, "CUDA_VISIBLE_DEVICES": ""}


def ended_within(command: Sequence[str], variables: dict[str, str], seconds: float) -> int | None:
    """Exit status of a command, or None if it was told to stop after so many seconds. It ends with this process, too."""
    with subprocess.Popen(command, env=variables, start_new_session=True, preexec_fn=end_with_parent) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            stop(process)
            return None
        except BaseException:  # this process is told to stop, and so must the other be
            stop(process)
            raise


def stop(process: subprocess.Popen) -> None:
    """Tell a part to end, which ends what it started; kill all of it if it does not."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
