"""Requests that a service must withstand, made by hand: paths, ranges, headers, uploads and JSON."""

import random
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

JSON = "content-type: application/json"
FORM = "content-type: multipart/form-data; boundary=BOUNDARY"
MAGIC = [
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"RIFF\xff\xff\xff\xffWAVEfmt ",
    b"ID3\x03\0\0\x7f\x7f\x7f\x7f",
]
MAGIC += [b"OggS", b"fLaC", b"\0\0\0\x18ftypisom", b"\x1a\x45\xdf\xa3", b"#EXTM3U\nfile:///etc/passwd\n"]


class Attack(NamedTuple):
    """One request, as bytes.

    Attributes:
        kind: traversal, range, header, upload or json.
        request: what is sent.
    """

    kind: str
    request: bytes


def made(kind: str, method: str, path: str, *headers: str, body: bytes = b"", length: bool = True) -> Attack:
    """A request whose path and headers go out as they are."""
    lines = [f"{method} {path} HTTP/1.1", "host: a", "connection: close", *headers]
    lines += [f"content-length: {len(body)}"] if length else []
    return Attack(kind, "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body)


def traversals() -> Iterator[Attack]:
    """Paths out of the media folder."""
    steps = ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..\\", "....//", "%252e%252e%252f", "..%c0%af", "..;/"]
    targets = ["etc/passwd", "secret.txt", "proc/self/environ", "etc/passwd%00.png", "proc/self/fd/3"]
    for base in ("/media/", "/api/items/", "/page/", "/"):
        for step in steps:
            for target in targets:
                yield made("traversal", "GET", base + step * 6 + target)
    for address in ("file:///etc/passwd", "http://127.0.0.1:22/", "//etc/passwd", "/etc/passwd", "%2fetc%2fpasswd"):
        yield made("traversal", "GET", "/media/" + address)
        yield made("traversal", "GET", f"http://127.0.0.1/media/{address}")


def ranges(item: str) -> Iterator[Attack]:
    """Ranges of a real file."""
    path = f"/media/{quote(item, safe='')}"
    values = [
        "bytes=0-",
        "bytes=-0",
        "bytes=-",
        "bytes=",
        "bytes",
        "bytes=a-b",
        "bytes=9-1",
        "bytes=0-0,0-0",
        "none=0-1",
    ]
    values += [f"bytes={10**n}-" for n in range(1, 40, 3)] + [f"bytes=-{10**n}" for n in range(1, 40, 3)]
    values += ["bytes=" + ",".join(f"{n}-{n + 1}" for n in range(0, count, 2)) for count in (10, 100, 1000, 5000)]
    values += ["bytes=" + "0-," * count for count in (10, 1000, 8000)] + [
        "bytes=\u0663-\u0669",
        "bytes=0x1-0x2",
        "bytes=1e1-",
    ]
    for value in values:
        yield made("range", "GET", path, f"range: {value}")
        yield made("range", "HEAD", path, f"range: {value}", "if-range: x")


def headers() -> Iterator[Attack]:
    """Headers that are long, many, doubled, or say something else than what comes."""
    search, body = "/api/search", b'{"query": "a dog"}'
    for size in (1_000, 60_000, 70_000, 1_000_000):
        yield made("header", "GET", "/api/info", "x: " + "a" * size)
        yield made("header", "GET", "/" + "a" * size)
        yield made("header", "GET", "/api/info?" + "a" * size)
    for count in (100, 1_000, 20_000):
        yield made("header", "GET", "/api/info", *(f"x{n}: 1" for n in range(count)))
    for length in ("-1", "1e3", "0x10", "99999999999999999999", "5, 5", "+18", "", "\u0661", "18\r\ncontent-length: 3"):
        yield made("header", "POST", search, JSON, f"content-length: {length}", body=body, length=False)
    for coding in ("chunked", "chunked, chunked", "gzip", "identity", "xchunked", "chunked\r\ntransfer-encoding: gzip"):
        for chunks in (
            b"0\r\n\r\n",
            b"5\r\nabcde\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\n",
            b"-1\r\n",
            b"zz\r\n",
            b"5\r\nabc",
        ):
            yield made("header", "POST", search, JSON, f"transfer-encoding: {coding}", body=chunks, length=False)
        yield made("header", "POST", search, JSON, f"transfer-encoding: {coding}", body=body)
    for kind in (
        "application/json; charset=utf-7",
        "application/json\0",
        "text/plain",
        "multipart/form-data",
        "a" * 9_000,
        "",
    ):
        yield made("header", "POST", search, f"content-type: {kind}", body=body)
    for method in ("TRACE", "CONNECT", "PUT", "PATCH", "OPTIONS", "get", "G\0T", "A" * 5_000, "PRI"):
        yield made("header", method, "/api/info")
    for line in (
        "\x00: 1",
        "x\n: 1",
        " x: 1",
        "x : 1",
        "x: \x0b",
        ": 1",
        "x",
        "x: a\r\n b",
        "upgrade: websocket",
        "expect: 100-continue",
    ):
        yield made("header", "GET", "/api/info", line)
    for value in ("Bearer ", "Bearer \xff", "Basic Og==", "Bearer " + "a" * 50_000, "bearer\ta"):
        yield made("header", "GET", "/api/info", f"authorization: {value}", "cookie: " + "a=b; " * 5_000)


def uploads(draw: random.Random) -> Iterator[Attack]:
    """Forms with strange files and parts."""

    def form(*parts: tuple[str, bytes], end: bytes = b"--BOUNDARY--\r\n") -> Attack:
        body = b"".join(b"--BOUNDARY\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
        return made("upload", "POST", "/api/search", FORM, body=body + end)

    media = 'content-disposition: form-data; name="media"; filename="{}"'
    for magic in MAGIC:
        for size in (0, 1, 100, 5_000, 300_000):
            yield form((media.format("a.png"), magic + draw.randbytes(size)))
        yield form((media.format("a.png"), magic + b"#EXTM3U\nfile:///etc/passwd\n" * 10))
    for name in (
        "../../etc/passwd",
        "/etc/passwd",
        "a" * 10_000,
        "a\0b.png",
        "",
        "\u202egnp.exe",
        "con",
        "|id",
        "$(id)",
    ):
        yield form((media.format(name), MAGIC[0]))
    request = 'content-disposition: form-data; name="request"'
    for text in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"k": -1}',
        b'{"query": {"media": "/etc/passwd"}}',
        b"[" * 50_000,
        b"\xff",
    ):
        yield form((media.format("a.png"), MAGIC[0]), (request, text))
    for count in (2, 50, 2_000):
        yield form(*[(media.format("a.png"), MAGIC[0])] * count)
        yield form(*[(request, b"{}")] * count)
    for end in (b"", b"--BOUNDARY", b"--OTHER--\r\n", b"\r\n" * 1_000, b"--BOUNDARY\r\n" * 5_000):
        yield form((media.format("a.png"), MAGIC[0]), end=end)
    for head in (
        "",
        "x: " + "a" * 100_000,
        "content-disposition: form-data",
        'content-disposition: form-data; name="' + "a" * 50_000,
    ):
        yield form((head, b"abc"))


def jsons(draw: random.Random) -> Iterator[Attack]:
    """Bodies that are deep, large, or no JSON."""
    texts = [
        b"",
        b"null",
        b"0",
        b'""',
        b"[]",
        b"{",
        b"}",
        b"\xff\xfe\xfd",
        b"\xef\xbb\xbf{}",
        b"nul",
        b'{"query":"a"}x',
    ]
    for depth in (10, 200, 1_000, 100_000, 2_000_000):
        texts += [b"[" * depth, b'{"query":' * depth, b'{"query":{"text":' + b"[" * depth + b"]" * depth + b"}}"]
        texts += [b'{"query":"a","where":{"a":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}}"]
    for number in (
        b"1e999",
        b"-1e999",
        b"NaN",
        b"Infinity",
        b"9" * 5_000,
        b"1" + b"0" * 400,
        b"0." + b"0" * 100_000 + b"1",
        b"-0",
        b"01",
        b"1.",
    ):
        for field in (b"k", b"at_least"):
            texts.append(b'{"query":"a","' + field + b'":' + number + b"}")
        texts += [b'{"query":{"embedding":[' + number + b"]}}", b'{"query":"a","where":{"split":' + number + b"}}"]
        texts.append(b'{"query":{"text":"a","weights":{"text":' + number + b"}}}")
    strings = [
        b"\\ud83d",
        b"\\u0000",
        b"\\udfff\\ud800",
        b"a" * 3_000_000,
        b"\\x",
        b"\x00",
        b"\xf0\x9f\x98",
        b"\\" * 1_001,
    ]
    for text in strings:
        texts += [b'{"query":"' + text + b'"}', b'{"query":{"item_id":"' + text + b'"}}']
        texts += [b'{"query":"a","candidates":"' + text + b'"}', b'{"query":"a","candidates":["' + text + b'"]}']
        texts += [b'{"query":"a","where":{"' + text + b'":1}}', b'{"query":"a","where":{"split":"' + text + b'"}}']
    for count in (257, 20_000, 300_000):
        many = b",".join([b'"a"'] * count)
        texts += [b'{"queries":[' + many + b"]}", b'{"query":{"text":[' + many + b"]}}"]
        texts += [b'{"query":"a","candidates":[' + many + b"]}", b'{"query":"a","where":{"split":[' + many + b"]}}"]
        texts.append(b"{" + b",".join(b'"x%d":1' % n for n in range(count)) + b"}")
        texts.append(b'{"query":{"embedding":[' + b",".join([b"0.1"] * count) + b"]}}")
    for _ in range(100):
        whole = bytearray(
            b'{"queries":[{"text":["a dog","snow"],"weights":{"text":[1,-0.5]}},"a"],"k":3,"where":{"split":"test"}}'
        )
        for _ in range(draw.randint(1, 4)):
            whole[draw.randrange(len(whole))] = draw.randrange(256)
        texts.append(bytes(whole))
    for text in texts:
        yield made("json", "POST", "/api/search", JSON, body=text)


def all_attacks(item: str, seed: int = 0) -> list[Attack]:
    """All of them in a random order.

    Args:
        item: the id of an item with a media file.
        seed: of what is drawn.
    """
    draw = random.Random(seed)
    attacks = [*traversals(), *ranges(item), *headers(), *uploads(draw), *jsons(draw)]
    draw.shuffle(attacks)
    return attacks
