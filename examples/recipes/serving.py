"""Serves the page of a run at its end in a terminal; elsewhere says how to."""

import importlib.util
import os
import shlex
import socket
import sys
from pathlib import Path

from plan import checkpoint_of

PORT = 8000
CHOICES = ("", "0", "1")


def check_page() -> None:
    """Refuse variables that `offer` does not understand, before any work.

    Raises:
        ValueError: SERVE or PORT has such a value.
    """
    wanted, port = os.environ.get("SERVE", ""), os.environ.get("PORT") or "0"
    if wanted not in CHOICES:
        raise ValueError(f"SERVE is {wanted!r}; use 0 or 1, or leave it out")
    if not port.isdecimal() or int(port) >= 1 << 16:
        raise ValueError(f"PORT is {port!r}; give a number from 0 to 65535")


def offer(out: Path, media: Path) -> None:
    """Serve ``out/data-bin`` with its model, if there is one, until Ctrl-C; or print the command.

    SERVE=0 never serves, SERVE=1 always does; unset, it is done in a terminal.

    Args:
        out: the run.
        media: folder that the items' media are relative to.

    Raises:
        ValueError: see `check_page`.
    """
    check_page()
    wanted = os.environ.get("SERVE", "")
    command = [sys.executable, "-m", "cart_fairseq.serve", "--data", str(out / "data-bin")]
    if (out / "checkpoints").is_dir():
        command += ["--path", str(checkpoint_of(out / "checkpoints"))]
    command += ["--media-root", str(media), "--port", str(free_port())]
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if wanted == "0" or missing or not (wanted == "1" or sys.stdout.isatty()):
        needs = "\n(first: pip install '.[serve]' in the checkout)" if missing else ""
        print(f"\nThis serves the page:{needs}\n\n    {shlex.join(command)}\n")
        return
    print("\n== the page; Ctrl-C ends it\n", flush=True)
    os.execv(command[0], command)


def free_port() -> int:
    """PORT, else the usual port, or 0, for any, where something listens there."""
    if os.environ.get("PORT"):
        return int(os.environ["PORT"])
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT
