"""The service on Ray Serve: what it answers through Ray's proxies, and on a cluster of which a node is lost."""

import contextlib
import copy
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from serving_samples import PICTURE, SECRET, SOUND, add_items, copy_world, listening, settings

from cart_fairseq.serving.ray_app import NAME, Placement, app, application, deploy
from cart_fairseq.serving.service import Service

try:
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster
except ImportError:
    serve = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parents[2]
needs_ray = pytest.mark.skipif(serve is None, reason="needs the extra [ray], as make trust installs it")
TOKEN = "a token of the tests"
SEARCHES: list[Any] = [
    {"query": "a red dog", "k": 5},
    {"queries": ["a dog", {"text": "a cat in the snow"}], "k": 48},
    {"query": "a bird", "where": {"split": "test"}, "candidates": "test"},
    {"query": "a bird", "candidates": ["item 7", "item 30"]},
]
WRONG: list[Any] = [{}, {"query": "a", "k": 1000}, {"query": {"item_id": "nobody"}}, {"query": "a", "where": {"?": 1}}]
CLIENTS = 4
RETRIES, PAUSE = 3, 0.5
"""How often a client sends a request again that failed, and by how many seconds it waits longer each time."""
MEDIA = f"/media/{quote(PICTURE, safe='')}"
OF_PROXY = {"date", "server", "x-request-id"}
"""Headers that Ray's proxy adds, or another server writes."""


class Reply(NamedTuple):
    """An answer: its status, its headers but those of the server, and its body, without the time where it is JSON."""

    status: int
    headers: dict[str, str]
    body: Any


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """Send one request on a connection of its own. The path is sent as it is; a list is sent in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named, encode_chunked=isinstance(body, list))
        found = connection.getresponse()
        content: Any = found.read()
    if found.headers.get("content-type") == "application/json" and content:
        content = json.loads(content)
        content.pop("took_ms", None)
        if "results" in content:
            found.headers.replace_header("content-length", "")  # scores may have more digits
    kept = {name.lower(): value for name, value in found.headers.items() if name.lower() not in OF_PROXY}
    return Reply(found.status, kept, content)


def about(reply: Reply) -> Reply:
    """What equals a reply though the last digits of scores differ, which depend on the process."""
    body = copy.deepcopy(reply.body)
    for result in body.get("results", ()):
        for hit in result["hits"]:
            hit["score"] = pytest.approx(hit["score"], rel=1e-5)
    return reply._replace(body=body)


def search(port: int, request: Any, **headers: str) -> Reply:
    return ask(port, "POST", "/api/search", json.dumps(request), content_type="application/json", **headers)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in a minute"
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def metric(port: int, name: str, **headers: str) -> float:
    text = ask(port, "GET", "/metrics", **headers).body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers inherit; nothing is reported to Ray's makers."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture
def one_node(environment: None) -> Iterator[None]:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, namespace="serve")
    try:
        yield
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.fixture
def nodes(environment: None) -> Iterator[Any]:
    """A head without processors and two nodes with one each, every one a raylet process of its own."""
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}  # a lost node is noticed in 2.5 seconds
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": soon})
    try:
        workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, namespace="serve")
        yield cluster, workers
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


@needs_ray
def test_through_rays_proxy_the_service_is_the_same(tmp_path: Path, one_node: None):
    world = copy_world(tmp_path, media=True)
    (tmp_path / "token").write_text(TOKEN)
    own = settings(
        world,
        port=free_port(),
        media_root=world / "media",
        token_file=tmp_path / "token",
        queue=2,
        max_batch=1,
        max_body_mib=1,
        timeout=10.0,
        drain=0.2,
    )
    deploy(own)
    with listening(Service(own)) as plain:
        check_answers(plain, own.port)
        check_slow_body(plain, own.port)
    check_chunked_body(own.port)
    check_overload(own.port)
    check_leaving(own.port)
    check_end(own.port)


def check_answers(plain: int, port: int) -> None:
    """Status, headers and body are those of the plain service, whatever is asked."""
    bearer = {"authorization": f"Bearer {TOKEN}"}
    for request in (*SEARCHES, *WRONG):
        assert search(port, request, **bearer) == about(search(plain, request, **bearer))
    parts = '--b\r\ncontent-disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    form = parts.format("media", '; filename="a"', "no media") + parts.format("request", "", '{"k": 1}') + "--b--\r\n"
    for method, path, body, headers in (
        ("GET", MEDIA, None, {}),
        ("HEAD", MEDIA, None, {}),
        ("GET", f"/media/{SOUND}", None, {"range": "bytes=10-29"}),
        ("GET", f"/media/{SOUND}", None, {"range": "bytes=-7"}),
        ("GET", f"/media/{SOUND}", None, {"range": "bytes=99999999-"}),
        ("GET", f"/media/{SECRET}", None, {}),
        ("GET", "/media/..%2Fsecret.txt", None, {}),
        ("GET", "/media/../secret.txt", None, {}),
        ("GET", MEDIA.replace("/media/", "/api/items/"), None, {}),
        ("GET", "/api/items/item%203", None, {}),
        ("GET", "/api/items/nobody", None, {}),
        ("GET", "/api/info", None, {}),
        ("GET", "/api/facets", None, {}),
        ("GET", "/openapi.json", None, {}),
        ("GET", "/", None, {}),
        ("GET", "/page/app/app.js", None, {}),
        ("GET", "/healthz", None, {}),
        ("GET", "/readyz", None, {}),
        ("GET", "/nowhere", None, {}),
        ("GET", "/api/search", None, {}),
        ("POST", "/api/search", "{}", {"content_type": "text/plain"}),
        ("POST", "/api/search", "{" * 2**21, {"content_type": "application/json"}),
        ("POST", "/api/search", form, {"content_type": "multipart/form-data; boundary=b"}),
        ("POST", "/api/session", "", {}),
    ):
        for sent in (headers, {**headers, **bearer}):
            assert ask(port, method, path, body, **sent) == ask(plain, method, path, body, **sent), (method, path)
    assert search(port, SEARCHES[0]).status == 401
    found = ask(port, "GET", f"/media/{SOUND}", range="bytes=10-29", **bearer)
    assert (found.status, len(found.body)) == (206, 20)
    cookie = ask(port, "POST", "/api/session", "", **bearer).headers["set-cookie"].partition(";")[0]
    assert ask(port, "GET", MEDIA, cookie=cookie).status == 200


def check_slow_body(*ports: int) -> None:
    """A body that does not come is not waited for longer than the timeout."""
    head = (
        f"POST /api/search HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n"
    )
    for port in ports:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
            slow.sendall(f"{head}content-length: 9\r\n\r\n{{".encode())
            assert slow.recv(1000).startswith(b"HTTP/1.1 408"), port


def check_chunked_body(port: int) -> None:
    """A body whose length is not said is limited, too."""
    headers = {"authorization": f"Bearer {TOKEN}", "content_type": "application/json", "transfer_encoding": "chunked"}
    assert ask(port, "POST", "/api/search", [b"[" * 2**16] * 8, **headers).status == 422
    with contextlib.suppress(ConnectionError):  # the answer may come before all is sent, and close the connection
        assert ask(port, "POST", "/api/search", [b"[" * 2**16] * 40, **headers).status == 413


def check_overload(port: int) -> None:
    """Ray holds no request back: the service's own queue refuses, with the time to wait."""
    found: list[Reply] = []
    request = {"query": "a dog", "k": 48}
    clients = [
        threading.Thread(target=lambda: found.append(search(port, request, authorization=f"Bearer {TOKEN}")))
        for _ in range(30)
    ]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert {reply.status for reply in found} == {200, 429}
    refused = [reply for reply in found if reply.status == 429]
    assert all(int(reply.headers["retry-after"]) >= 1 and reply.body["error"]["field"] == "queue" for reply in refused)


def check_leaving(port: int) -> None:
    """A request whose client has left is not searched."""
    bearer = {"authorization": f"Bearer {TOKEN}"}
    body = json.dumps({"query": "a dog"})
    head = (
        f"POST /api/search HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n"
    )

    def left_in_time() -> bool:
        """Whether a client left during a long search; on a busy machine the search may end before."""
        before = metric(port, "cart_wait_seconds_count", **bearer)
        long = threading.Thread(target=lambda: search(port, {"queries": ["a dog"] * 100, "k": 48}, **bearer))
        long.start()
        wait_for(lambda: metric(port, "cart_wait_seconds_count", **bearer) > before)
        with socket.create_connection(("127.0.0.1", port)) as leaver:
            leaver.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            time.sleep(0.1)
        long.join()
        return metric(port, 'cart_refusals_total{reason="left"}', **bearer) > 0

    wait_for(left_in_time)


def check_end(port: int) -> None:
    """What was accepted is answered after the end began."""
    found: list[Reply] = []
    bearer = {"authorization": f"Bearer {TOKEN}"}
    searched = metric(port, "cart_wait_seconds_count", **bearer)
    request = {"queries": ["a dog"] * 100, "k": 48}
    client = threading.Thread(target=lambda: found.append(search(port, request, **bearer)))
    client.start()
    wait_for(lambda: metric(port, "cart_wait_seconds_count", **bearer) > searched)
    serve.delete(NAME)
    client.join()
    assert [reply.status for reply in found] == [200]
    assert len(found[0].body["results"]) == 100
    assert search(port, SEARCHES[0], **bearer).status == 404


@needs_ray
def test_on_a_cluster_answers_are_right_though_a_node_is_lost(tmp_path: Path, nodes: Any):
    world = copy_world(tmp_path)
    cluster, workers = nodes
    own = settings(world, port=free_port(), poll=0.1)
    deploy(own, Placement(replicas=2, replicas_per_node=1))
    wait_for(lambda: list(replicas(own.port).values()) == [0, 0])
    first = {*replicas(own.port)}
    with listening(Service(own)) as plain:
        for request in SEARCHES:
            expected = about(search(plain, request))
            assert expected.status == 200
            assert [search(own.port, request) for _ in range(8)] == [expected] * 8
        add_items(world / "data-bin", [{"item_id": "new"}])
        wait_for(lambda: list(replicas(own.port).values()) == [1, 1])
        assert {*replicas(own.port)} == first  # none was started anew
        wait_for(lambda: search(plain, SEARCHES[0]).body["catalogue"]["revision"] == 1)
        expected = about(search(plain, SEARCHES[0]))
    with asking(own.port, expected) as tries:
        wait_for(lambda: len(tries) > 20)
        cluster.remove_node(workers[0], allow_graceful=False)
        wait_for(lambda: len(replicas(own.port)) == 1)
        [left] = replicas(own.port)
        assert left in first  # each node had one replica
        before = len(tries)
        wait_for(lambda: len(tries) > before + 20)
        assert {*tries[before:]} == {1}
        cluster.add_node(num_cpus=1)
        wait_for(lambda: list(replicas(own.port).values()) == [1, 1])
        assert left in replicas(own.port)
    assert sum(tries) - len(tries) <= 2 * CLIENTS  # of hundreds: those that were on their way to the lost node


def replicas(port: int) -> dict[float, float]:
    """The revision of each replica that answers, by the time at which it opened."""
    found = {}
    for _ in range(24):  # a request goes to one of two replicas by chance
        try:
            reply = ask(port, "GET", "/metrics")
        except (OSError, http.client.HTTPException):
            return {}
        if reply.status != 200:
            return {}
        lines = (line.rsplit(" ", 1) for line in reply.body.decode().splitlines() if line[0] != "#")
        values = {name: float(value) for name, value in lines}
        found[values["cart_wait_seconds_created"]] = values["cart_catalogue_revision"]
    return found


@contextlib.contextmanager
def asking(port: int, expected: Reply) -> Iterator[list[int]]:
    """Yield how often each request of some clients was sent until it was answered, while they go on asking.

    A request that fails is sent again after a moment. No answer is wrong.
    """
    tries: list[int] = []
    wrong: list[Any] = []
    ending = threading.Event()

    def client() -> None:
        while not ending.is_set():
            for number in range(1 + RETRIES):
                time.sleep(number * PAUSE)
                try:
                    found = search(port, SEARCHES[0])
                except (OSError, http.client.HTTPException):  # the proxy was lost
                    continue
                if found.status < 500:
                    break
            else:
                found = Reply(0, {}, f"no answer after {RETRIES} retries")
            tries.append(1 + number)
            if found != expected:
                wrong.append(found)

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for each in clients:
        each.start()
    try:
        yield tries
    finally:
        ending.set()
        for each in clients:
            each.join()
    assert wrong == []


def test_arguments_of_serve_run_are_checked(tmp_path: Path):
    if serve is None:
        pytest.skip("needs ray[serve]")
    paths = {"data": f"{tmp_path}/data-bin", "path": f"{tmp_path}/a.pt:{tmp_path}/b.pt"}
    made = app({**paths, "replicas": "2", "replicas_per_node": "1", "cpus": "3", "timeout": "20", "drain": "0"})
    deployment = made._bound_deployment
    assert (deployment.num_replicas, deployment._replica_config.max_replicas_per_node) == (2, 1)
    assert deployment.ray_actor_options == {"num_cpus": 3.0, "num_gpus": 0.0}
    for wrong, said in (
        ({"port": "8000"}, "port=8000: the address is Ray's"),
        ({"beem": "3"}, "beem=3: no such argument; use batch_wait_ms, beam"),
        ({"queue": "many"}, "queue=many: Input should be a valid integer"),
        ({"queue": "0"}, "--queue is 0"),
        ({"replicas": "0"}, "replicas is 0"),
        ({"replicas_per_node": "101"}, "replicas_per_node is 101"),
        ({"gpus": "-1"}, "gpus is -1"),
        ({"path": "/a.pt:b.pt"}, "path=/a.pt:b.pt: 'b.pt' is relative"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            app({**paths, **wrong})
    with pytest.raises(ValueError, match="neither --data nor --model is given"):
        app({"path": "/a.pt"})
    with pytest.raises(ValueError, match="--port is 0"):
        deploy(settings(tmp_path))


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for call in (lambda: application(settings(tmp_path)), lambda: app({}), lambda: deploy(settings(tmp_path))):
        with pytest.raises(ValueError, match=r"ray is not installed; pip install 'cart-fairseq\[ray\]'"):
            call()


def test_importing_the_module_imports_nothing_heavy():
    heavy = (
        "import sys, cart_fairseq.serving.ray_app; print({'ray', 'torch', 'fastapi', 'pydantic'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "set()"
