"""Requests nobody sane would send, at a real server: 4xx, never a 500, and the server goes on."""

import socket
from collections.abc import Iterator

import msgspec
import pytest

from e2e.serving import Serving, serving

GOOD = b'{"model":"sim","messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(
        tmp_path_factory.mktemp("hostile"),
        SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS="4",
        SLIPSTREAM__SERVER__BODY_BYTES="100000",
        SLIPSTREAM__SERVER__HEADER_SECONDS="1",
    ) as running:
        yield running


def send(server: Serving, raw: bytes) -> bytes:
    """Send bytes; everything that comes back until the server closes or is silent."""
    host, port = server.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR) if raw.endswith(b"\n\n\n") else None
        sock.settimeout(3)
        try:
            while data := sock.recv(65536):
                received += data
                if b"\r\n\r\n" in received and complete(received):
                    break
        except TimeoutError:
            pass
    return received


def complete(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return body.endswith(b"0\r\n\r\n")


def post(body: bytes, *headers: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    given = {line.split(b":")[0].lower() for line in headers}
    lines = [b"POST " + path + b" HTTP/1.1", *headers]
    if b"host" not in given:
        lines.append(b"Host: 127.0.0.1")
    if b"content-type" not in given:
        lines.append(b"Content-Type: application/json")
    if not given & {b"content-length", b"transfer-encoding"}:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer[9:12])


BODIES = {
    "empty": b"",
    "not json": b"hello",
    "half": b'{"messages": [',
    "array": b"[]",
    "number": b"1",
    "null": b"null",
    "bom": b"\xef\xbb\xbf" + GOOD,
    "two objects": GOOD + GOOD,
    "bad utf-8": b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
    "overlong utf-8": b'{"messages":[{"role":"user","content":"\xc0\xaf"}]}',
    "surrogate": b'{"messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
    "nan": b'{"messages":[],"temperature":NaN}',
    "duplicate": b'{"model":"sim","model":"sim","messages":[]}',
    "duplicate spaced": b'{"model": "sim", "messages": [], "model": "other"}',
    "duplicate escaped": b'{"model":"sim","mod\\u0065l":"x","messages":[]}',
    "deep": b'{"messages":' + b"[" * 40000 + b"]" * 40000 + b"}",
    "no messages": b'{"model":"sim"}',
    "messages a string": b'{"messages":"hi"}',
    "model a number": b'{"model":1,"messages":[]}',
    "stream a string": b'{"stream":"yes","messages":[]}',
    "max_tokens a string": b'{"max_tokens":"many","messages":[]}',
    "max_tokens huge": b'{"max_tokens":' + b"9" * 5000 + b',"messages":[]}',
    "stream_options a number": b'{"stream_options":3,"messages":[]}',
    "nul byte": b'{"messages":[{"role":"user","content":"\x00"}]}',
}


@pytest.mark.parametrize("name", BODIES)
def test_malformed_bodies(server: Serving, name: str) -> None:
    """Each is answered 400 in OpenAI's shape, with a message that says what is wrong."""
    answer = send(server, post(BODIES[name]))
    assert status(answer) == 400, answer[:500]
    error = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["message"]
    assert error["type"] == "invalid_request_error"


FRAMING = {
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    "foreign host": (b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    "host with a path": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1/?x\r\n\r\n", 421),
    "length and chunked": (post(b"", b"Content-Length: 3", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "two lengths": (post(b"abc", b"Content-Length: 3", b"Content-Length: 4"), 400),
    "signed length": (post(b"abc", b"Content-Length: +3"), 400),
    "chunked on 1.0": (
        b"POST /v1/chat/completions HTTP/1.0\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400
    ),
    "bad chunk": (post(b"0x2\r\nab\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"), 400),
    "space before colon": (b"GET /healthz HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n", 400),
    "folded header": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\r\n b\r\n\r\n", 400),
    "bare line feed": (b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n", 400),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "too large a header": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 70000 + b"\r\n\r\n", 431),
    "too many headers": (
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(b"x%d: 1\r\n" % n for n in range(150)) + b"\r\n", 431
    ),
    "too large a body": (post(b"", b"Content-Length: 100001"), 413),
    "too large a chunked body": (
        post(b"", b"Transfer-Encoding: chunked") + b"20000\r\n" + b"a" * 0x20000 + b"\r\n0\r\n\r\n", 413
    ),
    "form": (post(b"a=b", b"Content-Type: application/x-www-form-urlencoded"), 415),
    "text": (post(GOOD, b"Content-Type: text/plain"), 415),
    "foreign origin": (post(GOOD, b"Origin: https://evil.example"), 403),
    "foreign site": (post(GOOD, b"Sec-Fetch-Site: cross-site"), 403),
    "wrong method": (b"GET /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405),
    "unknown path": (b"GET /v1/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
    "traversal": (b"GET /assets/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
    "tunnel": (b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    "slow header": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a", 408),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMING)
def test_malformed_requests(server: Serving, name: str) -> None:
    """Each gets its status, and the server answers the next one."""
    raw, expected = FRAMING[name]
    assert status(send(server, raw)) == expected
    assert server.get("/healthz") == (200, b'{"status":"ok"}')


def test_nothing_unexpected_happened(server: Serving) -> None:
    """After all that no error was unplanned."""
    for name in BODIES:
        send(server, post(BODIES[name]))
    assert status(send(server, post(GOOD))) == 200
    assert "unexpected" not in server.log.read_text()


def test_an_upgrade_is_declined(server: Serving) -> None:
    """The request is served as it is, and the connection closed: what follows may be another protocol."""
    answer = send(
        server, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    )
    assert status(answer) == 200
    assert b"connection: close" in answer


def test_pipelined_requests_are_answered_in_order(server: Serving) -> None:
    """Two requests in one packet get two answers, in their order."""
    first = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    second = b"GET /v1/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(first + second)
        received = b""
        while data := sock.recv(65536):
            received += data
    assert received.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 404" in received
