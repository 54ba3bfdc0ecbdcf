"""The service on Ray Serve: the same application as :mod:`cart_fairseq.serve`, in replicas over the nodes of a cluster.

serve run cart_fairseq.serving.ray_app:app data=/shared/data-bin path=/shared/checkpoint_best.pt replicas=4

Each replica is a whole service: it opens data-bin and checkpoint, has its own queue and batches, and watches for
updates by itself. Importing this module needs neither Ray nor torch.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cart_fairseq.base.checks import Settings, check_count
from cart_fairseq.serving.settings import ServingSettings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve import Application

NAME = "cart"
MOST_PER_NODE = 100
"""The largest number of replicas on a node that Ray takes as a limit."""
ONGOING = 1 << 16
"""Requests that Ray sends to a replica before it holds others back itself: never, because the service's own queue is
bounded, and refuses with the time to wait."""
LEAST_DRAIN = 0.1
"""Seconds between two looks at whether a replica that ends has answered everything."""
ENDING = 5.0
"""Seconds that a replica may need to end after its last answer."""
OF_RAY = ("host", "port")

T = TypeVar("T")


@dataclass(frozen=True)
class Placement(Settings):
    """How many replicas there are, and where.

    Attributes:
        replicas: the number of replicas.
        replicas_per_node: the largest number of them on one node; None: Ray decides.
        cpus: processors that Ray reserves for each. It is the number of threads of a search, too.
        gpus: GPUs that Ray reserves for each. Without one a replica sees no GPU.

    Raises:
        ValueError: a value is out of range.
    """

    replicas: int = 1
    replicas_per_node: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("replicas", self.replicas)
        if self.replicas_per_node is not None:
            check_count("replicas_per_node", self.replicas_per_node)
            if self.replicas_per_node > MOST_PER_NODE:
                raise ValueError(f"replicas_per_node is {self.replicas_per_node}; Ray takes at most {MOST_PER_NODE}")
        for name in ("cpus", "gpus"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name):g}; it must be at least 0")


DEFAULT_PLACEMENT = Placement()


class Replica:
    """What Ray asks a replica beside requests.

    Attributes:
        app: the application, which Ray makes on the node of the replica.
    """

    app: "FastAPI"

    def check_health(self) -> None:
        """Say whether this replica is well; Ray replaces one that is not.

        Raises:
            RuntimeError: it is not ready, as ``/readyz`` says.
        """
        if not self.app.state.service.ready:
            raise RuntimeError("the service is not ready")


def app(arguments: Mapping[str, Any]) -> "Application":
    """Build the application from the arguments of ``serve run``, or of a configuration of ``serve deploy``.

    Args:
        arguments: the fields of :class:`~cart_fairseq.serving.settings.ServingSettings`, except ``host`` and ``port``,
            which are Ray's, and of :class:`Placement`. Numbers may be texts.

    Raises:
        ValueError: an argument is unknown, missing or wrong; or the extra is not installed.
    """
    _serve()
    placing = {field.name for field in dataclasses.fields(Placement)}
    serving = {field.name for field in dataclasses.fields(ServingSettings)}.difference(OF_RAY)
    for name in arguments:
        if name in OF_RAY:
            raise ValueError(f"{name}={arguments[name]}: the address is Ray's; set http_options of the cluster")
        if name not in serving | placing:
            raise ValueError(f"{name}={arguments[name]}: no such argument; use {', '.join(sorted(serving | placing))}")
    return application(
        _read(ServingSettings, {name: value for name, value in arguments.items() if name in serving}),
        _read(Placement, {name: value for name, value in arguments.items() if name in placing}),
    )


def application(settings: ServingSettings, placement: Placement = DEFAULT_PLACEMENT) -> "Application":
    """Build the application for ``serve.run``, which must be given the route prefix ``/``.

    Args:
        settings: of the service in each replica; ``host`` and ``port`` are not used. Paths are those of the nodes.
        placement: the number of replicas, and where they are.

    Raises:
        ValueError: a path is not absolute, or the extra is not installed.
    """
    serve = _serve()
    _check_paths(settings)

    def build() -> "FastAPI":
        from cart_fairseq.serving.web.application import create_app
        from cart_fairseq.serving.web.server import open_service

        return create_app(open_service(settings))

    made = serve.deployment(
        serve.ingress(build)(Replica),
        name=NAME,
        num_replicas=placement.replicas,
        max_replicas_per_node=placement.replicas_per_node,
        ray_actor_options={"num_cpus": placement.cpus, "num_gpus": placement.gpus},
        max_ongoing_requests=ONGOING,
        graceful_shutdown_wait_loop_s=max(settings.drain, LEAST_DRAIN),
        graceful_shutdown_timeout_s=settings.drain + settings.timeout + ENDING,
    )
    return made.bind()


def deploy(settings: ServingSettings, placement: Placement = DEFAULT_PLACEMENT) -> None:
    """Deploy the service on the Ray cluster that this process is connected to, and wait until it answers.

    Ray is connected to as by ``ray.init()`` if it is not yet. A proxy on each node with a replica listens on
    ``settings.host`` and ``settings.port``, unless Ray Serve runs already, whose address stays. A service that was
    deployed before is replaced.

    Raises:
        ValueError: the port is 0, a path is not absolute, or the extra is not installed.
        RuntimeError: the replicas do not start, for example because a node does not have the data-bin.
    """
    serve = _serve()
    made = application(settings, placement)
    if not settings.port:
        raise ValueError("--port is 0; every node listens on the same port, so give one")
    serve.start(proxy_location="EveryNode", http_options={"host": settings.host, "port": settings.port})
    serve.run(made, name=NAME, route_prefix="/")


def _serve() -> Any:
    """Import Ray Serve.

    Raises:
        ValueError: the extra is not installed.
    """
    try:
        from ray import serve
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed; pip install 'cart-fairseq[ray]'") from None
    return serve


def _read(kind: type[T], arguments: Mapping[str, Any]) -> T:
    """Make settings of texts.

    Raises:
        ValueError: one is missing, or of another type, or out of range.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(arguments)
    except ValidationError as error:
        wrong = error.errors()[0]
        if "error" in wrong.get("ctx", {}):  # of the settings themselves
            raise ValueError(str(wrong["ctx"]["error"])) from None
        name = str(wrong["loc"][0])
        if name not in arguments:
            raise ValueError(f"{name} is missing; give {name}=…") from None
        raise ValueError(f"{name}={arguments[name]}: {wrong['msg']}; correct it") from None


def _check_paths(settings: ServingSettings) -> None:
    """Check that all paths are absolute: processes on the nodes have other working folders.

    Raises:
        ValueError: one is not.
    """
    for name in ("data", "path", "model", "media_root", "media_base", "token_file"):
        value = getattr(settings, name)
        if value is None:
            continue
        for each in str(value).split(":") if name == "path" else [value]:
            if not Path(each).is_absolute():
                raise ValueError(f"{name}={value}: {str(each)!r} is relative; give a path from / that all nodes have")
