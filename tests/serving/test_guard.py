"""Token, sizes of bodies, headers, uploads: what every request passes first."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving_samples import PICTURE, client_of, copy_world, png

from cart_fairseq.serving.metrics import Metrics
from cart_fairseq.serving.settings import MIB
from cart_fairseq.serving.web import guard
from cart_fairseq.serving.web.guard import Guard, Token

SECRET = "0123456789abcdef-a-token"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_world(tmp_path_factory.mktemp("world"), media=True)


@pytest.fixture(scope="module")
def client(world: Path) -> Iterator[TestClient]:
    with client_of(world, media_root=world / "media", max_body_mib=1, max_upload_mib=2) as found:
        yield found


@pytest.fixture(scope="module")
def locked(world: Path) -> Iterator[TestClient]:
    (world / "token").write_text(f"{SECRET}\n")
    with client_of(world, media_root=world / "media", token_file=world / "token") as found:
        yield found


PROTECTED = ["/api/info", "/api/facets", "/api/items/item 3", "/media/sound", "/metrics", "/openapi.json", "/nothing"]


@pytest.mark.parametrize("path", PROTECTED)
def test_the_token_is_asked_for(locked: TestClient, path: str):
    assert locked.get(path).status_code == 401
    for wrong in ("", "Bearer", f"Basic {SECRET}", f"Bearer {SECRET}x", f"Bearer {SECRET[:-1]}", "Bearer ä"):
        answer = locked.get(path, headers={b"authorization": wrong.encode("latin-1")})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert SECRET not in answer.text
    assert locked.get(path, headers={"authorization": f"Bearer {SECRET}"}).status_code in (200, 404)


def test_a_search_without_the_token_is_not_even_read(locked: TestClient):
    assert locked.post("/api/search", content=b"x" * 100 * MIB).status_code == 401
    headers = {"authorization": f"bearer {SECRET}"}
    assert locked.post("/api/search", json={"query": "a dog"}, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_whether_it_lives_is_told_to_everyone(locked: TestClient, path: str):
    assert locked.get(path).status_code == 200


def test_a_session_loads_media_and_nothing_else(locked: TestClient):
    assert locked.post("/api/session").status_code == 401
    answer = locked.post("/api/session", headers={"authorization": f"Bearer {SECRET}"})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie.lower() for part in ("httponly", "samesite=strict", "path=/media"))
    assert SECRET not in cookie
    own = {"cookie": cookie.partition(";")[0]}
    locked.cookies.clear()
    assert locked.get("/media/sound", headers=own).status_code == 200
    assert locked.get("/api/info", headers=own).status_code == 401
    assert locked.get("/media/sound", headers={"cookie": "cart_session="}).status_code == 401
    assert locked.get("/media/sound").status_code == 401


def test_without_a_token_file_no_token_is_asked_for(client: TestClient):
    assert client.post("/api/session").status_code == 204
    assert "set-cookie" not in client.post("/api/session").headers
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


def test_the_description_says_that_a_token_is_needed(locked: TestClient):
    described = locked.get("/openapi.json", headers={"authorization": f"Bearer {SECRET}"}).json()
    assert described["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}


@pytest.mark.parametrize("content", [b"", b"short\n", b"\n0123456789abcdef"])
def test_short_tokens_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ValueError, match=r"--token-file is .* characters; write at least 16"):
        Token(tmp_path / "token")
    with pytest.raises(ValueError, match=r"--token-file is .*missing"):
        Token(tmp_path / "missing")


@pytest.mark.parametrize("path", ["/api/info", "/nothing", "/healthz", "/metrics", "/media/sound"])
def test_every_answer_has_the_headers(client: TestClient, path: str):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    kept = "private, max-age=3600" if path.startswith("/media") else "no-cache"
    assert headers["cache-control"] == kept
    assert "access-control-allow-origin" not in headers
    assert (
        "'unsafe-inline'" not in headers["content-security-policy"] or "sandbox" in headers["content-security-policy"]
    )
    assert headers["content-security-policy"].startswith("default-src '")


def test_other_sites_are_not_let_in(client: TestClient):
    origin = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    answer = client.options("/api/search", headers=origin)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in client.post("/api/search", json={"query": "a"}, headers=origin).headers


def test_large_bodies_are_refused(client: TestClient):
    headers = {"content-type": "application/json"}
    assert client.post("/api/search", content=b"x" * (MIB + 1), headers=headers).status_code == 413
    parts = iter([b"x" * MIB, b"x"])  # no length is said before
    answer = client.post("/api/search", content=parts, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["field"] == "body"


@pytest.mark.parametrize("length", [b"99999999999999999999999999", b"-1", b"1e3", b""])
def test_lengths_that_are_none_are_refused(length: bytes):
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    async def never(*parts: Any) -> Any:
        raise AssertionError("the application was asked")

    scope = {"type": "http", "method": "POST", "path": "/api/search", "headers": [(b"content-length", length)]}
    asyncio.run(Guard(never, Token(None), Metrics(), MIB, MIB)(scope, never, send))
    assert said[0]["status"] == 413


def test_errors_of_the_service_are_logged_and_not_told(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch
):
    def fail(*parts: Any) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(client.app.state.service, "search", fail)  # type: ignore[attr-defined]
    answer = client.post("/api/search", json={"query": "a dog"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["error"]["remedy"] == "see its log; please report it"
    assert "a secret" in caplog.text


def test_counted_routes_are_ours_alone(client: TestClient):
    for number in range(5):
        client.get(f"/strange/{number}")
        client.get(f"/api/items/{number}")
    text = client.get("/metrics").text
    routes = {line.split('"')[1] for line in text.splitlines() if line.startswith("cart_requests_total{")}
    assert {"other", "/api/items"} <= routes
    assert all(guard.ROUTES.fullmatch(route) or route == "other" for route in routes)


def upload(client: TestClient, content: bytes, **form: str) -> Any:
    return client.post("/api/search", files={"media": ("../../etc/passwd", content)}, data=form)


def test_uploads_are_kept_for_the_search_alone(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    service = client.app.state.service  # type: ignore[attr-defined]
    seen: list[Path] = []
    inner = service.batcher.submit

    async def submit(job: Any) -> Any:
        seen.append(Path(job.asked.upload))
        assert seen[-1].read_bytes() == png()
        assert seen[-1].parent == service.uploads
        assert seen[-1].suffix == ".png"
        return await inner(job)

    monkeypatch.setattr(service.batcher, "submit", submit)
    answer = upload(client, png(), request='{"k": 2}')
    assert answer.status_code == 422  # this data-bin names no encoder of media
    assert "media" in answer.json()["error"]["found"]
    assert str(service.uploads) not in answer.text
    assert len(seen) == 1
    assert [*service.uploads.iterdir()] == []


@pytest.mark.parametrize(
    ("content", "form", "found"),
    [
        (b"", {}, "an empty file"),
        (b"<script>", {}, "no picture, sound or video"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\nfile:///etc/passwd\n", {}, "no picture, sound or video"),
        (b"ID3\x03\0\0\0\0\0\x02..#EXTM3U\n", {}, "begins with a tag"),
        (b"ID3", {}, "begins with a tag"),
        (png(), {"request": "{"}, "Invalid JSON"),
        (png(), {"request": '{"queries": ["a"]}'}, "queries beside a media file"),
        (png(), {"other": "1"}, "the parts media, other"),
        (png(), {"request": "{}", "second": "{}"}, "Too many fields"),
    ],
)
def test_wrong_uploads_are_refused_and_leave_nothing(client: TestClient, content: bytes, form: dict, found: str):
    answer = upload(client, content, **form)
    assert answer.status_code == 422
    assert found in answer.json()["error"]["found"]
    assert [*client.app.state.service.uploads.iterdir()] == []  # type: ignore[attr-defined]


def test_large_uploads_are_refused(client: TestClient):
    assert upload(client, png() + bytes(2 * MIB)).status_code == 413
    assert upload(client, png() + bytes(4 * MIB)).status_code == 413
    assert [*client.app.state.service.uploads.iterdir()] == []  # type: ignore[attr-defined]


def test_a_form_needs_a_file(client: TestClient):
    answer = client.post("/api/search", files={"request": (None, '{"query": "a"}')})
    assert answer.status_code == 422
    assert "the parts request" in answer.json()["error"]["found"]
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = client.post("/api/search", content=b"abc", headers={"content-type": kind})
        assert answer.status_code == 422
    assert PICTURE in client.get("/api/items/" + PICTURE.replace("/", "%2F").replace("?", "%3F")).text
