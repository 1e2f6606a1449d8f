"""Requests that are too much (docs/faults.md, row C4), at a real server: refused early, read in bounded memory."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from e2e.serving import Serving
from faults.raw import CHAT, JSON_LINE, ask, body_of, chat, chunked, eventually, post, request, wire
from faults.rig import Behind, backstage, counters, gateway, workers
from slipstream.config.settings import Simulated
from slipstream.testing.simulator import run_simulator

BODY_BYTES = 1_000_000
TINY_BYTES = 100_000
HEADER_BYTES = 32 * 1024
CHUNKED = "Transfer-Encoding: chunked"


@dataclass
class House:
    """The server under test."""

    server: Serving


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with backstage() as stage:
        simulator = stage.open(run_simulator(Simulated(output_tokens=8)))
        behind = [Behind(f"{simulator.url}/v1", "well")]
        folder = tmp_path_factory.mktemp("large")
        with gateway(folder, behind, SERVER__BODY_BYTES=str(BODY_BYTES)) as server:
            yield House(server)


LIMITS = {
    "body at the cap": (post(CHAT, body_of(BODY_BYTES)), 200, ""),
    "body one over": (post(CHAT, body_of(BODY_BYTES + 1)), 413, "body_too_large"),
    "chunked body at the cap": (chunked(body_of(BODY_BYTES), 5000), 200, ""),
    "chunked body one over": (chunked(body_of(BODY_BYTES + 1), 5000), 413, "body_too_large"),
    "declared 5 GB": (
        request("POST", CHAT, JSON_LINE, "Content-Length: 5000000000", framed=False), 413, "body_too_large"
    ),
    "length beyond 64 bits": (
        request("POST", CHAT, JSON_LINE, "Content-Length: " + "9" * 5000, framed=False), 400, "invalid_http"
    ),
    "length of 5,000 digits": (
        request("POST", CHAT, JSON_LINE, "Content-Length: " + "0" * 4999 + "2", framed=False) + b"{}",
        400,
        "ambiguous_length",
    ),
    "header lines at the cap": (request("GET", "/healthz", *(f"X{n}: 1" for n in range(99))), 200, ""),
    "one header line over": (request("GET", "/healthz", *(f"X{n}: 1" for n in range(100))), 431, "header_too_large"),
    "the same line 50,000 times": (request("GET", "/healthz", *(["X: 1"] * 50_000)), 431, "header_too_large"),
    "header over": (request("GET", "/healthz", "X: " + "a" * HEADER_BYTES), 431, "header_too_large"),
    "target over": (request("GET", "/healthz?" + "a" * HEADER_BYTES), 431, "header_too_large"),
    "endless header": (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 3_000_000, 431, "header_too_large"),
    "endless blank lines": (b"\r\n" * 200_000, 431, "header_too_large"),
    "endless chunk extension": (
        request("POST", CHAT, JSON_LINE, CHUNKED, framed=False) + b"1;" + b"a" * 3_000_000, 400, "chunk_overhead"
    ),
    "endless trailers": (
        request("POST", CHAT, JSON_LINE, CHUNKED, framed=False) + b"0\r\n" + b"X: a\r\n" * 100_000,
        400,
        "chunk_overhead",
    ),
    "compressed": (post(CHAT, b"\x1f\x8b\x08", "Content-Encoding: gzip"), 415, "wrong_encoding"),
    "multipart": (
        request("POST", CHAT, "Content-Type: multipart/form-data; boundary=x", body=b"--x--"), 415, "wrong_content_type"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_limits(house: House, name: str) -> None:
    """C4: at the cap it is served, beyond it is a typed error that the client gets to read."""
    raw, status, code = LIMITS[name]
    with wire(house.server.url) as client:
        client.send(raw)
        answer = client.answer()
        assert answer.status == status, answer
        assert status == 200 or (answer.error["code"] == code and answer.error["hint"])
        assert answer.headers.get(b"server-timing") != b""  # absent where nothing was timed
        if status in {200, 415}:
            assert client.is_kept()
        else:
            assert answer.headers[b"connection"] == b"close"
            assert client.end()


def test_refusals_are_counted(house: House) -> None:
    """C4: each shows in the counters."""
    errors = counters(house.server)["http_errors"]
    refused = [raw for raw, status, _ in LIMITS.values() if status in {400, 413, 431}]
    for raw in refused:
        ask(house.server.url, raw)
    eventually(lambda: counters(house.server)["http_errors"] >= errors + len(refused))


def test_body_beyond_the_cap_is_not_kept(house: House) -> None:
    """C4: bodies of 32 times the cap, chunked or with a length, leave no more than twice the cap behind."""
    (worker,) = workers(house.server)
    ask(house.server.url, post(CHAT, body_of(BODY_BYTES)))
    before = worker.memory_info().rss
    for raw in (chunked(body_of(32 * BODY_BYTES), 5000), post(CHAT, body_of(32 * BODY_BYTES))):
        for _ in range(5):
            assert ask(house.server.url, raw).error["code"] == "body_too_large"
    assert worker.memory_info().rss - before <= 2 * BODY_BYTES


@pytest.mark.parametrize("size", [1, 2])
def test_many_tiny_chunks(house: House, size: int) -> None:
    """C4: a body in 10^5 chunks of a byte or two is taken, and takes no more memory than any other."""
    (worker,) = workers(house.server)
    before = worker.memory_info().rss
    for _ in range(3):
        assert ask(house.server.url, chunked(body_of(TINY_BYTES), size)).status == 200
    assert worker.memory_info().rss - before <= 2 * BODY_BYTES


def test_refusal_reaches_a_client_that_sends_on(house: House) -> None:
    """C4: a client that writes its whole body before it reads still reads why it was refused."""
    body = b" " * 3_000_000
    with wire(house.server.url) as client:
        client.socket.sendall(request("POST", CHAT, JSON_LINE, f"Content-Length: {len(body)}", framed=False))
        for at in range(0, len(body), 65536):
            client.socket.sendall(body[at : at + 65536])
        answer = client.answer()
        assert (answer.status, answer.error["code"]) == (413, "body_too_large")
        assert client.end() == "fin"


def test_refused_client_that_stays_is_cut(house: House) -> None:
    """C4: a client that does not close after its refusal is cut off after a moment."""
    with wire(house.server.url) as client:
        client.send(b"nonsense\r\n\r\n")
        assert client.answer().status == 400
        started = time.monotonic()
        while time.monotonic() - started < 30:
            try:
                client.socket.sendall(b"more of it")
            except OSError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("it could go on for ever")


def test_nothing_unplanned(house: House) -> None:
    """After all of these no error was unplanned, and the server serves."""
    assert ask(house.server.url, chat("well")).whole
    eventually(lambda: counters(house.server)["http_errors"] > 0)
    assert counters(house.server)["unexpected_errors"] == 0, house.server.log.read_text()[-4000:]
