"""Clients that are slow (docs/faults.md, rows C2 and C3), at a real server: in reading, or in sending."""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.serving import Serving
from faults import byte_server as play
from faults.byte_server import ByteServer, byte_server
from faults.raw import CHAT, JSON_LINE, Wire, address, ask, body_of, chat, eventually, request, wire
from faults.rig import Behind, backstage, counters, gateway, gateway_here, in_flight, workers
from slipstream.config.settings import Simulated
from slipstream.gateway import protocol
from slipstream.testing.simulator import Simulator, run_simulator, start_simulator

EVENT = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"' + b"sea " * 200 + b'"}}]}\n\n'
PATIENT = {"MODELS__FIRST_TOKEN_SECONDS": "60", "MODELS__IDLE_SECONDS": "60", "MODELS__TOTAL_SECONDS": "300"}
NOISE_BYTES = 8 * 1024 * 1024
FDS_SPARE = 32
"""Connections between the worker and the supervisor, which pages come over; they are kept for a while."""


@dataclass
class House:
    """The server under test and what stands behind it."""

    server: Serving
    simulator: Simulator
    bytes: ByteServer


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with backstage() as stage:
        simulator = stage.open(run_simulator(Simulated(output_tokens=8)))
        served = stage.open(byte_server())
        served.plays["endless"] = (play.HEAD, itertools.repeat(play.chunk(EVENT)))
        behind = [
            Behind(f"{simulator.url}/v1", "well"),
            Behind(f"http://127.0.0.1:{served.port}/v1", "endless"),
        ]
        settings = {
            **PATIENT,
            "SERVER__HEADER_SECONDS": "2",
            "SERVER__KEEP_ALIVE_SECONDS": "4",
            "SERVER__WRITE_SECONDS": "2",
        }
        with gateway(tmp_path_factory.mktemp("slow"), behind, **settings) as server:
            yield House(server, simulator, served)


# C2: in reading.


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.long)])
def test_slow_readers_hold_up_their_own_model_only(house: House, count: int) -> None:
    """C2: what a client does not read is not read from its model either; after `write_seconds` it is dropped."""
    server, readers = house.server, []
    left = house.bytes.left["endless"]
    dropped = counters(server)["readers_timed_out"]
    try:
        for _ in range(count):
            readers.append(Wire(server.url, receive_buffer=4096))
            readers[-1].send(chat("endless"))
        eventually(lambda: all(reader.receive() for reader in readers))
        eventually(lambda: is_still(house, 0.3))
        assert ask(server.url, chat("well")).whole  # others go on
        eventually(lambda: house.bytes.left["endless"] == left + count)
        for reader in readers:
            assert reader.end()
    finally:
        for reader in readers:
            reader.socket.close()
    eventually(lambda: in_flight(server) == 0)
    eventually(lambda: counters(server)["readers_timed_out"] == dropped + count)


def is_still(house: House, seconds: float) -> bool:
    """Whether the endless upstream has not got rid of a byte for a while."""
    sent = house.bytes.sent["endless"]
    time.sleep(seconds)
    return sent == house.bytes.sent["endless"]


@pytest.mark.parametrize(
    ("slow", "idle"), [(20, 100), pytest.param(200, 2000, marks=pytest.mark.long, id="200-2000")]
)
def test_memory_under_slow_and_idle_streams(tmp_path: Path, slow: int, idle: int) -> None:
    """C2: an idle stream takes at most 64 KiB, a reader of 1 KB/s before a model at full speed at most 1 MiB.

    All of 2,200 together take at most 64 KiB each and 64 MiB (row O3 of the field's catalogue).
    """
    settings = {**PATIENT, "SERVER__WRITE_SECONDS": "120"}
    with start_simulator(Simulated()) as simulator:
        options = {"connections": 4096}
        behind = [Behind(f"{simulator.url}/v1", m, options) for m in ("well", "m#tokens=131072", "m#hang@1")]
        with gateway(tmp_path, behind, **settings) as server, contextlib.ExitStack() as stack:
            assert ask(server.url, chat("well")).whole
            (worker,) = workers(server)
            base = worker.memory_info().rss
            streams = [stack.enter_context(wire(server.url)) for _ in range(idle)]
            for stream in streams:
                stream.send(chat("m#hang@1"))
            for stream in streams:
                stream.until(b"data: ")
            idle_bytes = worker.memory_info().rss - base
            readers = [stack.enter_context(wire(server.url, receive_buffer=4096)) for _ in range(slow)]
            for reader in readers:
                reader.send(chat("m#tokens=131072", max_tokens=131_072))
            for _ in range(4):
                for reader in readers:
                    assert reader.socket.recv(1024)
                time.sleep(1 if slow > 50 else 0.2)
            slow_bytes = worker.memory_info().rss - base - idle_bytes
            print(f"\nKiB each: idle {idle_bytes / idle / 1024:.0f}, slow {slow_bytes / slow / 1024:.0f}")
            print(f"all {(idle_bytes + slow_bytes) / 1e6:.0f} MB more")
            assert idle_bytes <= idle * 64 * 1024 + NOISE_BYTES
            assert slow_bytes <= slow * 1024 * 1024 + NOISE_BYTES
            assert idle_bytes + slow_bytes <= (idle + slow) * 64 * 1024 + 64 * 1024 * 1024
            assert ask(server.url, chat("well")).whole
        eventually(lambda: not worker.is_running())


# C3: in sending, and many of them.


def slow_clients(server: Serving, count: int, begin: bytes) -> list[Wire]:
    clients = [Wire(server.url) for _ in range(count)]
    for client in clients:
        client.send(begin)
    return clients


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "begin", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"], ids=["silent", "header"]
)
def test_slow_headers(house: House, begin: bytes, count: int) -> None:
    """C3: many connections that send nothing, or a header line at a time: others are served, these are closed."""
    server = house.server
    assert ask(server.url, chat("well", stream=False)).status == 200
    (worker,) = workers(server)
    before = worker.num_fds()
    clients = slow_clients(server, count, begin)
    is_over = threading.Event()

    def drip() -> None:
        while begin and not is_over.wait(0.2):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.socket.send(b"X: a\r\n")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        legitimate = [ask(server.url, chat("well", stream=False)).status for _ in range(50)]
        assert legitimate == [200] * 50
        eventually(lambda: worker.num_fds() <= before)
    finally:
        is_over.set()
        dripping.join()
        for client in clients:
            client.socket.close()


@pytest.mark.parametrize("count", [20, pytest.param(500, marks=pytest.mark.long)])
def test_slow_bodies(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """C3: a body below the least rate is a 408 after the grace; a slow one above it is taken."""
    monkeypatch.setattr(protocol, "RATE_GRACE_SECONDS", 0.5)

    async def attack(url: str) -> bytes:
        reader, writer = await asyncio.open_connection(*address(url))
        with contextlib.closing(writer):
            writer.write(request("POST", CHAT, JSON_LINE, "Content-Length: 9000", framed=False))
            with contextlib.suppress(ConnectionError):
                for _ in range(60):
                    writer.write(b" ")
                    await asyncio.sleep(0.05)
                    if reader.at_eof() or reader._buffer:  # type: ignore[attr-defined]
                        break
            return await reader.read()

    async def legitimate(url: str) -> bytes:
        reader, writer = await asyncio.open_connection(*address(url))
        with contextlib.closing(writer):
            body = body_of(9000)
            head = request(
                "POST", CHAT, JSON_LINE, "Connection: close", f"Content-Length: {len(body)}", framed=False
            )
            writer.write(head)
            for at in range(0, len(body), 900):
                writer.write(body[at : at + 900])
                await asyncio.sleep(0.1)  # 9 KB/s
            return await reader.read()

    async def main() -> None:
        async with (
            run_simulator() as simulator,
            gateway_here([Behind(f"{simulator.url}/v1", "well")]) as here,
        ):
            answers = await asyncio.gather(
                *(attack(here.url) for _ in range(count)), *(legitimate(here.url) for _ in range(5))
            )
            assert all(b"HTTP/1.1 408 " in answer and b'"too_slow"' in answer for answer in answers[:count])
            assert all(b"HTTP/1.1 200 " in answer for answer in answers[count:])
            assert here.counters.snapshot()["http_timeouts"] == count

    asyncio.run(main())


@pytest.mark.long
def test_idle_connection_is_closed(house: House) -> None:
    """C3: a connection that asks nothing more is closed after `keep_alive_seconds`, without a word."""
    with wire(house.server.url) as client:
        client.send(request("GET", "/healthz"))
        assert client.answer().status == 200
        received = len(client.received)
        assert client.end() == "fin"
        assert len(client.received) == received


def clients_of(server: Serving) -> int:
    """Connections that clients have to it."""
    port = address(server.url)[1]
    found = [each for worker in workers(server) for each in worker.net_connections("tcp")]
    return sum(each.status == "ESTABLISHED" and each.laddr.port == port for each in found)


def test_connection_limit(tmp_path: Path) -> None:
    """C4: beyond the limit a connection is told so; when others leave there is room again."""
    with gateway(tmp_path, [], SERVER__CONNECTIONS="5", MODELS__SIMULATED__WELL__OUTPUT_TOKENS="4") as server:
        eventually(lambda: not clients_of(server))  # those of the start have gone
        clients = [Wire(server.url) for _ in range(5)]
        try:
            for client in clients:
                assert client.is_kept()
            with wire(server.url) as refused:
                answer = refused.answer()
                assert (answer.status, answer.error["code"]) == (503, "unavailable")
                assert answer.headers[b"retry-after"] == b"1"
                assert refused.end()
        finally:
            for client in clients:
                client.socket.close()
        eventually(lambda: ask(server.url, request("GET", "/healthz")).status == 200)
        eventually(lambda: counters(server)["connections_refused"] >= 1)


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_pages_read_slowly(house: House, count: int) -> None:
    """C3: clients that ask for pages again and again and read none of them: others are served, these are dropped."""
    server = house.server
    assert ask(server.url, chat("well", stream=False)).status == 200
    (worker,) = workers(server)
    before = worker.num_fds()
    clients = [Wire(server.url, receive_buffer=4096) for _ in range(count)]
    try:
        for client in clients:
            client.send(request("GET", "/assets/app.js") * 20)
        answers = [ask(server.url, chat("well", stream=False)).status for _ in range(50)]
        assert answers == [200] * 50
        assert ask(server.url, request("GET", "/")).status == 200
        eventually(lambda: worker.num_fds() <= before + FDS_SPARE)
    finally:
        for client in clients:
            client.socket.close()


def test_ranges_are_not_multiplied(house: House) -> None:
    """C3: a page asked for in a thousand overlapping ranges comes once, whole."""
    ranges = "Range: bytes=" + ",".join(f"{at}-" for at in range(1000))
    whole = ask(house.server.url, request("GET", "/assets/app.js"))
    answer = ask(house.server.url, request("GET", "/assets/app.js", ranges))
    assert (answer.status, answer.body) == (200, whole.body)
    assert len(whole.body) > 1000


def test_nothing_unplanned(house: House) -> None:
    """After all of these no error was unplanned, and the server serves."""
    assert ask(house.server.url, chat("well")).whole
    eventually(lambda: counters(house.server)["http_timeouts"] > 0)
    assert counters(house.server)["unexpected_errors"] == 0, house.server.log.read_text()[-4000:]
