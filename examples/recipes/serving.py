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


def offer(out: Path, media: Path) -> None:
    """Serve ``out/data-bin`` with its model, if there is one, until Ctrl-C; or print the command.

    SERVE=0 never serves, SERVE=1 always does; unset, it is done in a terminal.

    Args:
        out: the run.
        media: folder that the items' media are relative to.

    Raises:
        ValueError: SERVE or PORT has a value that nothing understands.
    """
    wanted = os.environ.get("SERVE", "")
    if wanted not in CHOICES:
        raise ValueError(f"SERVE is {wanted!r}; use 0 or 1, or leave it out")
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
    """PORT, else the usual port, or 0, for any, where something listens there.

    Raises:
        ValueError: PORT is no port.
    """
    given = os.environ.get("PORT")
    if given:
        if not given.isdigit() or int(given) >= 1 << 16:
            raise ValueError(f"PORT is {given!r}; give a number from 0 to 65535")
        return int(given)
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT
