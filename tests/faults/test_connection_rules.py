"""The rules of a connection (docs/faults.md, row C6), at a real server: order, ends, versions, one name."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from e2e.serving import Serving
from faults.byte_server import byte_server
from faults.raw import CHAT, JSON_LINE, PROMPT, ask, body_of, chat, chunked, eventually, post, request, wire
from faults.rig import Behind, backstage, counters, gateway
from slipstream.config.settings import Simulated
from slipstream.testing.simulator import Simulator, run_simulator

PATIENT = {"MODELS__FIRST_TOKEN_SECONDS": "30", "MODELS__IDLE_SECONDS": "30"}


@dataclass
class House:
    """The server under test and what stands behind it."""

    server: Serving
    simulator: Simulator


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with backstage() as stage:
        simulator = stage.open(run_simulator(Simulated(output_tokens=8)))
        served = stage.open(byte_server())
        served.plays["cut body"] = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
            0.3,
            "reset",
        )
        behind = [Behind(f"{simulator.url}/v1", m) for m in ("well", "m#hang@3", "m#pause=1@3")]
        behind.append(Behind(f"http://127.0.0.1:{served.port}/v1", "cut body"))
        folder = tmp_path_factory.mktemp("rules")
        settings = {"SERVER__HEADER_SECONDS": "2", "SERVER__BODY_BYTES": "100000"}
        with gateway(folder, behind, **PATIENT, **settings) as server:
            yield House(server, simulator)


def test_answers_in_order_then_the_refusal(house: House) -> None:
    """A bad request behind good ones: those are answered first, then it is refused, then the end."""
    with wire(house.server.url) as client:
        client.send(
            chat("well", stream=False)
            + request("GET", "/healthz")
            + b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n"
        )
        assert [client.answer().status for _ in range(3)] == [200, 200, 400]
        assert client.end() == "fin"


def test_too_many_requests_ahead(house: House) -> None:
    """More than 32 waiting requests: those are answered, the rest is not, and the client is told by `close`."""
    cut = counters(house.server)["pipelines_cut"]
    with wire(house.server.url) as client:
        client.send(chat("m#pause=1@3", stream=False) + request("GET", "/healthz") * 200)
        answers = []
        while not client.ended and (answer := client.answer()).status:
            answers.append(answer)
    assert len(answers) == 33
    assert all(answer.whole for answer in answers)
    assert answers[-1].headers[b"connection"] == b"close"
    eventually(lambda: counters(house.server)["pipelines_cut"] == cut + 1)


def test_header_of_a_request_sent_ahead_is_bounded(house: House) -> None:
    """The limit of the header holds for a request that comes in one packet with the one before it."""
    with wire(house.server.url) as client:
        client.send(request("GET", "/healthz") + request("GET", "/healthz", "X: " + "a" * 60_000))
        assert [client.answer().status for _ in range(2)] == [200, 431]


def test_slow_header_of_a_request_sent_ahead(house: House) -> None:
    """The time for a header holds while the answer before it is still under way; that one is not cut."""
    with wire(house.server.url) as client:
        client.send(chat("m#pause=1@3") + request("GET", "/healthz") + b"GET /healthz HTTP/1.1\r\nX: a")
        answers = [client.answer() for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 408]
        assert answers[0].datas[-1] == b"[DONE]"
        assert client.end() == "fin"


def test_continue_waits_for_its_turn(house: House) -> None:
    """`100 Continue` for a request sent ahead never stands inside the answer before it."""
    body = post(CHAT, {"model": "well", "messages": PROMPT}).partition(b"\r\n\r\n")[2]
    head = request(
        "POST", CHAT, JSON_LINE, "Expect: 100-continue", f"Content-Length: {len(body)}", framed=False
    )
    with wire(house.server.url) as client:
        client.send(chat("m#pause=1@3") + head)
        first = client.answer()
        assert (first.status, first.datas[-1]) == (200, b"[DONE]")
        client.until(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.received.index(b"[DONE]") < client.received.index(b"HTTP/1.1 100 ")
        client.send(body)
        assert client.answer().status == 200


def test_continue_is_not_said_to_what_is_refused(house: House) -> None:
    """A body that is too large is refused before a byte of it is asked for."""
    with wire(house.server.url) as client:
        client.send(
            request("POST", CHAT, JSON_LINE, "Expect: 100-continue", "Content-Length: 999999", framed=False)
        )
        assert client.answer().status == 413
        assert b"100 Continue" not in client.received


def test_trailers_change_nothing(house: House) -> None:
    """What comes behind a chunked body is not a header: it cannot say who asks, or what the body is."""
    body = body_of(300)
    sneaky = chunked(
        body, 100, "Content-Type: text/plain", "Host: evil.example", "Origin: https://evil.example"
    )
    assert ask(house.server.url, sneaky).status == 200
    late = chunked(body, 100, JSON_LINE).replace(b"Content-Type: application/json\r\n", b"", 1)
    assert ask(house.server.url, late).status == 415


def test_close_is_obeyed(house: House) -> None:
    """After `Connection: close` the answer comes, then the end; what follows the request is not served."""
    asked = house.simulator.stats.requests
    with wire(house.server.url) as client:
        client.send(request("GET", "/healthz", "Connection: close") + chat("well", stream=False))
        assert client.answer().headers[b"connection"] == b"close"
        assert client.end()
        assert client.answer().status == 0
    assert house.simulator.stats.requests == asked


def test_http_1_0(house: House) -> None:
    """An HTTP/1.0 client gets a body that ends with the connection; one that breaks off ends in a reset."""
    old = chat("well").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with wire(house.server.url) as client:
        client.send(old)
        assert client.end() == "fin"
        assert client.received.endswith(b"data: [DONE]\n\n")
        assert b"transfer-encoding" not in client.received
    with wire(house.server.url) as client:
        client.send(chat("cut body", stream=False).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        assert client.end() == "reset"


def test_one_host_in_two_places(house: House) -> None:
    """A target that names a server is served if the Host names the same, and refused if it does not."""
    for target, host, status in (
        ("http://127.0.0.1/healthz", "127.0.0.1", 200),
        ("HTTP://127.0.0.1/healthz", "127.0.0.1", 200),
        ("http://evil.example/healthz", "127.0.0.1", 400),
        ("http://127.0.0.1/healthz", "evil.example", 400),
        ("http://127.0.0.1@evil.example/healthz", "127.0.0.1", 400),
        ("http:///healthz", "127.0.0.1", 400),
        ("ftp://127.0.0.1/healthz", "127.0.0.1", 400),
        ("*", "127.0.0.1", 400),
        ("127.0.0.1:80", "127.0.0.1", 400),
    ):
        assert ask(house.server.url, request("GET", target, host=host)).status == status, target


def test_other_versions(house: House) -> None:
    """HTTP/2 by prior knowledge, 0.9 and what does not exist are refused in HTTP/1.1."""
    for version, status in (("2.0", 505), ("0.9", 505), ("1.2", 400), ("3", 400), ("1.1 ", 400)):
        raw = request("GET", "/healthz").replace(b"HTTP/1.1", b"HTTP/" + version.encode())
        assert ask(house.server.url, raw).status == status, version
    assert ask(house.server.url, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status == 400


def test_nothing_unplanned(house: House) -> None:
    """After all of these no error was unplanned, and the server serves."""
    assert ask(house.server.url, chat("well")).whole
    before = counters(house.server)["requests"]
    assert ask(house.server.url, chat("well")).whole
    eventually(lambda: counters(house.server)["requests"] > before)  # they are as of now
    assert counters(house.server)["unexpected_errors"] == 0, house.server.log.read_text()[-4000:]
