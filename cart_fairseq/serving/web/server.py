"""Runs the service: listens, and ends in order when it is told to."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from cart_fairseq.serving.service import Service
from cart_fairseq.serving.settings import ServingSettings
from cart_fairseq.serving.web.application import create_app

HEADER_BYTES = 1 << 16
SWITCH = 0.001
"""Seconds after which Python lets another thread run: a refusal does not wait for a search."""

logger = logging.getLogger(__name__)


def serve(settings: ServingSettings) -> None:
    """Answer requests until SIGTERM or Ctrl-C.

    Raises:
        ValueError: the data-bin or the checkpoint is missing or damaged, or the address cannot be listened on.
    """
    with _bound(settings) as listener:
        asyncio.run(_run(open_service(settings), listener))


def open_service(settings: ServingSettings) -> Service:
    """Open the service in a process that does nothing else.

    Raises:
        ValueError: the data-bin or the checkpoint is missing or damaged.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # warns of every form that is wrong
    for name in ("httpx", "httpx2"):  # of huggingface_hub: each download's address, which may be signed
        logging.getLogger(name).setLevel(logging.WARNING)
    service = Service(settings)
    gc.freeze()  # collections between searches look at what is new alone
    sys.setswitchinterval(SWITCH)
    return service


@contextlib.contextmanager
def _bound(settings: ServingSettings) -> Iterator[socket.socket]:
    """Yield a socket with the address, which does not listen yet.

    Raises:
        ValueError: the address is in use, or none of this machine.
    """
    where = f"--host {settings.host} --port {settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ValueError(f"{where}: {error.strerror}; give an address of this machine") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise ValueError(f"{where}: {error.strerror}; give another --port, or an address of this machine") from None
        yield listener


class _Server(uvicorn.Server):
    """uvicorn's server, whose end is decided here.

    Args:
        config: of uvicorn.
        line: what is logged as soon as the server listens.
    """

    def __init__(self, config: uvicorn.Config, line: str):
        super().__init__(config)
        self.line = line

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        logger.info(self.line)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run(service: Service, listener: socket.socket) -> None:
    """Serve; after the first signal go on for a moment, or until a second one, then answer what was accepted and end."""
    config = uvicorn.Config(
        create_app(service),
        http="h11",  # its memory for headers is bounded
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # not each invalid request of a stranger
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(service.settings.timeout) + 5,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    server = _Server(config, f"{service.served.items:,} items, revision {service.served.revision}, at {address}")
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if service.ending:
            server.should_exit = True
            return
        service.end()
        logger.info("ending: what was accepted is answered")
        loop.call_later(service.settings.drain, setattr, server, "should_exit", True)

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop)
    await server.serve([listener])
