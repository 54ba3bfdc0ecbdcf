"""Where a figure comes from: command, commit and machine. Records of runs and benchmarks contain all three."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def commit() -> str | None:
    """The project's commit, with a plus sign where files differ from it.

    Outside a checkout it is what the variable PROJECT_COMMIT says, or None.
    """
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    # GIT_DIR and the like, as in a hook, name another repository
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True, env=surroundings).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("PROJECT_COMMIT") or None


def command() -> str | None:
    """The command that started the program, without its arguments; None outside ``examples/``."""
    root, script = Path(__file__).resolve().parents[2], Path(sys.argv[0]).resolve()
    if not script.is_relative_to(root / "examples"):
        return None
    if script == root / "examples" / "recipes" / "run.py":
        return f"bash examples/{sys.argv[1]}.sh"
    return f"python {script.relative_to(root)}"


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, memory, threads, versions and GPU."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        names = [line.split(":")[1].strip() for line in information.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    versions = {}
    # the two distributions of fairseq, of which one is installed
    for name in ("torch", "numpy", "ve-fairseq", "fairseq-fixed", "transformers", "faiss-cpu"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
        "gpu": gpu(),
    }


def gpu() -> dict[str, Any] | None:
    """The first GPU and the version of CUDA; None without one."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "count": torch.cuda.device_count(),
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
    }


def provenance(arguments: Mapping[str, Any], *left_out: str) -> dict[str, Any]:
    """What the record of a command begins with: its name, commit, machine, settings and, where it has one, seed.

    Args:
        arguments: those of the command line, with their defaults.
        left_out: names of arguments that do not change a figure, such as the file to write.
    """
    settings = {name: value for name, value in arguments.items() if name not in left_out}
    as_json = json.loads(json.dumps(settings, default=str))  # paths become strings
    seed = {"seed": as_json.pop("seed")} if "seed" in as_json else {}
    return {"command": command(), "commit": commit(), "machine": machine(), "settings": as_json, **seed}


def memory_bytes() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
