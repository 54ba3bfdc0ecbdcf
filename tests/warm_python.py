"""A Python that has the large libraries loaded already, so that a recipe's dozens of short commands take seconds, not minutes.

A server imports torch, fairseq and transformers once. What the recipes call as PYTHON is a small client: it hands its arguments,
environment and standard streams to the server, which forks a process that runs the command as `python` would, from its
own files. The commands are the real ones; only their imports are shared. The server writes each command to a log.

Variables of a call that tests use:

    WARM_STOP_BEFORE=TEXT    a command that contains TEXT is not run: it ends as if it had been killed
    WARM_PARSE_ONLY=1        modules of this project read their command line and end
"""

import argparse
import importlib
import json
import logging
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIBRARIES = [
    "torch",
    "fairseq.options",
    "fairseq.tasks",
    "fairseq.trainer",
    "fairseq.checkpoint_utils",
    "fairseq.models.transformer",
    "fairseq.criterions",
    "fairseq.optim.lr_scheduler",
    "sklearn.cluster",
    "sklearn.feature_extraction.text",
    "sklearn.neighbors",
    "sklearn.decomposition",
    "pyarrow.parquet",
    "sentencepiece",
    "safetensors.torch",
    "tqdm",
    "PIL.Image",
    "PIL.ImageOps",
    "av",
    "soundfile",
    "soxr",
    "transformers",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clap.modeling_clap",
    "transformers.models.auto.modeling_auto",
]
KILLED = 137

CLIENT = """#!{python} -SEs
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(line, [len(request).to_bytes(8, "big")], [0, 1, 2])
    line.sendall(request)
    answer = line.recv(1)
sys.exit(answer[0] if answer else 1)
"""


class WarmPython:
    """What `serving` gives.

    Attributes:
        python: the executable to set as PYTHON.
        log: the commands so far, one JSON array of arguments a line.
    """

    def __init__(self, folder: Path):
        self.python = folder / "python"
        self.log = folder / "log.jsonl"

    def commands(self) -> list[str]:
        """The commands since the last call, the module or script first."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        self.log.write_text("", encoding="utf-8")
        return [" ".join(command_of(json.loads(line))) for line in lines]


@contextmanager
def serving(folder: Path) -> Iterator[WarmPython]:
    """Serve while the block runs; `folder` receives the client, the socket and the log."""
    warm = WarmPython(folder)
    address = str(folder / "s")
    warm.python.write_text(CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
    warm.python.chmod(0o755)
    command = [sys.executable, __file__, address, str(warm.log)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # more threads do not survive a fork
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
    try:
        while not os.path.exists(address):
            assert server.poll() is None, "the server of warm_python.py ended"
            time.sleep(0.05)
        yield warm
    finally:
        server.terminate()
        server.wait()


def command_of(arguments: list[str]) -> list[str]:
    """Arguments of Python without its options: a module's or a script's name, then what it is given."""
    rest = list(arguments)
    while rest[0] in ("-W", "-m"):
        if rest.pop(0) == "-W":
            rest.pop(0)
    return rest


def serve(address: str, log: str) -> None:
    """Answer calls until this process, or the one that started it, is ended."""
    parent = os.getppid()
    warnings.simplefilter("ignore")
    try:
        importlib.import_module("torchaudio")
    except (
        Exception
    ):  # as cart_fairseq.base.libraries does, which must not be imported here: fairseq imports the plugin itself
        sys.modules["torchaudio"] = None  # type: ignore[assignment]
    for name in LIBRARIES:
        importlib.import_module(name)
    logging.getLogger().handlers.clear()  # or commands could not set up their own
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address + ".new")
        listener.listen(16)
        os.rename(address + ".new", address)
        listener.settimeout(5)
        while True:
            try:
                line, _ = listener.accept()
            except TimeoutError:
                if os.getppid() != parent:  # the tests were killed
                    return
                continue
            if os.fork() == 0:
                line.setblocking(True)
                listener.close()
                answer(line, log)
            line.close()


def answer(line: socket.socket, log: str) -> None:
    """Run one command in this process, which ends with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(line, 8, 3)
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += line.recv(1 << 16)
    arguments, folder, environment = json.loads(request)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    threading.Thread(target=end_with_caller, args=(line,), daemon=True).start()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    stop = environment.get("WARM_STOP_BEFORE")
    status = KILLED
    if not stop or stop not in " ".join(arguments):
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps(arguments) + "\n")
        status = run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    line.sendall(bytes([status]))
    os._exit(status)


def end_with_caller(line: socket.socket) -> None:
    """End this process as soon as the client that called it is gone, as one that was killed because it hung."""
    line.recv(1)  # nothing more is sent, so this returns when the line is closed
    os._exit(KILLED)


def run(arguments: list[str]) -> int:
    """Run a command as `python ARGUMENTS` would; returns its exit status."""
    warnings.resetwarnings()
    if "-W" in arguments[:1]:
        warnings.simplefilter("ignore")
    sys.argv = command_of(arguments)
    sys.path[0] = os.getcwd()
    sys.path[1:1] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if "WARM_PARSE_ONLY" in os.environ and sys.argv[0].startswith(("preprocess.", "cart_fairseq.")):
        parse_only()
    try:
        if "-m" in arguments[:3]:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        try:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        except SystemExit as end:
            return int(end.code or 0)
        return 1
    return 0


def parse_only() -> None:
    """Let the command end as soon as its command line is read."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        parse(self, *args, **kwargs)
        raise SystemExit(0)

    argparse.ArgumentParser.parse_args = parse_and_end  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    serve(*sys.argv[1:])
