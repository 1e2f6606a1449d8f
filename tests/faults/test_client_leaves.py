"""Clients that leave (docs/faults.md, row C1), at a real server."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from e2e.serving import Serving
from faults import byte_server as play
from faults.byte_server import ByteServer, byte_server
from faults.raw import RESET, Wire, address, ask, chat, eventually, post, wire
from faults.rig import Behind, Here, backstage, counters, gateway, gateway_here, in_flight, workers
from slipstream.config.settings import Simulated
from slipstream.testing.simulator import Simulator, run_simulator

EVENT = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"sea"}}]}\n\n'
PATIENT = {"MODELS__FIRST_TOKEN_SECONDS": "60", "MODELS__IDLE_SECONDS": "60", "MODELS__TOTAL_SECONDS": "300"}
LEAVES = {"reset": Wire.reset, "fin": Wire.fin, "half close": Wire.half_close}
MODELS = ("well", "m#hang", "m#hang@3", "m#early_head,hang@0", "m#ttft=20,itl=3", "m#itl=2,tokens=30")


@dataclass
class House:
    """The server under test; a model without bounds, one with a single slot, and exact bytes."""

    server: Serving
    simulator: Simulator
    busy: Simulator
    bytes: ByteServer

    def upstreams_are_free(self) -> bool:
        stats = (self.simulator.stats, self.busy.stats)
        return all(s.in_flight == 0 and s.queued == 0 for s in stats)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("clients")
    with backstage() as stage:
        simulator, busy = (
            stage.open(run_simulator(Simulated(output_tokens=8, slots=slots))) for slots in (0, 1)
        )
        served = stage.open(byte_server())
        served.plays.update(
            {
                "/v1/responses": (play.HEAD + play.chunk(EVENT), "hang"),
                "/v1/silent": ("hang",),
                "one connection": ("hang",),
            }
        )
        base = f"http://127.0.0.1:{served.port}/v1"
        behind = [
            Behind(base, "bytes"),  # the first: what is no call of ours is forwarded to it
            Behind(base, "one connection", {"connections": 1}),
            Behind(f"{busy.url}/v1", "m#hang@1"),
            Behind(f"{busy.url}/v1", "busy"),
            *(Behind(f"{simulator.url}/v1", model, {"idle_seconds": 1}) for model in MODELS),
        ]
        with gateway(folder, behind, **PATIENT) as server:
            yield House(server, simulator, busy, served)


def completion(model: str) -> bytes:
    return post("/v1/completions", {"model": model, "prompt": "sea", "stream": True})


def embedding(model: str) -> bytes:
    return post("/v1/embeddings", {"model": model, "input": "sea"})


def whole(model: str) -> bytes:
    return chat(model, stream=False)


ROUTES: dict[str, Callable[[str], bytes]] = {
    "chat": chat,
    "chat whole": whole,
    "completions": completion,
    "embeddings": embedding,
}
ANYTHING = {**ROUTES, "forwarded": lambda model: post("/v1/responses", {"model": model, "input": "sea"})}
AT_THE_SIMULATOR = [
    *(("m#hang", route, b"") for route in ROUTES),
    ("m#early_head,hang@0", "chat", b"role"),
    ("m#hang@3", "chat", b"data: " * 3),
    ("m#hang@3", "completions", b"data: "),
    ("m#hang@3", "chat whole", b"chat.completion"),
]
"""Model, route, and what the client has read when it leaves."""


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize(("model", "route", "seen"), AT_THE_SIMULATOR)
def test_leaving_ends_the_answer(house: House, model: str, route: str, seen: bytes, leave: str) -> None:
    """C1: before the first token or in the middle, by whatever way it leaves: the model hears of it at once."""
    stats = house.simulator.stats
    with wire(house.server.url) as client:
        client.send(ROUTES[route](model))
        if seen.startswith(b"data: "):
            while client.received.count(b"data: ") < seen.count(b"data: "):
                assert client.receive()
        elif seen:
            client.until(seen)
        eventually(lambda: house.simulator.stats.in_flight == 1)
        LEAVES[leave](client)
        eventually(lambda: house.simulator.stats.aborted == stats.aborted + 1)
        assert house.upstreams_are_free()
        assert leave != "half close" or client.end()


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("route", ["chat", "chat whole", "embeddings"])
def test_leaving_the_models_queue(house: House, route: str, leave: str) -> None:
    """C1: queued at the model: its place there is free, and whoever is served goes on."""
    with wire(house.server.url) as holder, wire(house.server.url) as client:
        holder.send(chat("m#hang@1"))
        eventually(lambda: house.busy.stats.in_flight == 1)
        client.send(ROUTES[route]("busy"))
        eventually(lambda: house.busy.stats.queued == 1)
        LEAVES[leave](client)
        eventually(lambda: house.busy.stats.queued == 0)
        assert house.busy.stats.in_flight == 1
    eventually(house.upstreams_are_free)


@pytest.mark.parametrize("leave", LEAVES)
def test_leaving_the_wait_for_a_connection(house: House, leave: str) -> None:
    """C1: queued for a connection of ours: nothing is ever sent for it."""
    before = house.bytes.requests["one connection"]
    with wire(house.server.url) as holder, wire(house.server.url) as client:
        holder.send(chat("one connection"))
        eventually(lambda: house.bytes.requests["one connection"] == before + 1)
        client.send(whole("one connection"))
        eventually(lambda: in_flight(house.server) == 2)
        LEAVES[leave](client)
        eventually(lambda: in_flight(house.server) == 1)
    eventually(lambda: in_flight(house.server) == 0)
    assert house.bytes.requests["one connection"] == before + 1


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/silent"])
def test_leaving_a_forwarded_call(house: House, path: str, leave: str) -> None:
    """C1: a route that we only pass on, in the middle of its answer and before it."""
    left = house.bytes.left[path]
    asked = house.bytes.requests[path]
    with wire(house.server.url) as client:
        client.send(post(path, {"input": "sea"}))
        eventually(lambda: house.bytes.requests[path] == asked + 1)
        if path == "/v1/responses":
            client.until(b"data: ")
        LEAVES[leave](client)
        eventually(lambda: house.bytes.left[path] == left + 1)


@pytest.mark.parametrize("leave", LEAVES)
def test_leaving_with_requests_sent_ahead(house: House, leave: str) -> None:
    """C1: a client that has sent more requests ahead is heard when it leaves; those are never begun."""
    asked = house.simulator.stats.requests
    with wire(house.server.url) as client:
        client.send(chat("m#hang@3") + chat("well") + chat("well"))
        eventually(lambda: house.simulator.stats.in_flight == 1)
        LEAVES[leave](client)
        eventually(house.upstreams_are_free)
    assert house.simulator.stats.requests == asked + 1


async def leave_somewhere(url: str, rng: random.Random) -> None:
    """One client that asks for something and leaves at some moment, in some way."""
    host, port = address(url)
    model = rng.choice((*MODELS, "busy"))
    make = ANYTHING[rng.choice(list(ANYTHING))]
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(make(model))
        if rng.random() < 0.3:
            with contextlib.suppress(ConnectionError):
                writer.write(chat("well"))
        delay = 0.0 if rng.random() < 0.2 else rng.expovariate(1 / 0.02)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(delay):
                while await reader.read(rng.choice((1, 100, 65536))):
                    pass
        way = rng.choice(tuple(LEAVES))
        if way == "half close" and not writer.is_closing():
            writer.write_eof()
            async with asyncio.timeout(30):
                with contextlib.suppress(ConnectionError):
                    while await reader.read(65536):
                        pass
        elif way == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def leave_often(url: str, count: int, seed: int, together: int = 40) -> None:
    """`count` such clients, at most `together` at a time."""
    rng = random.Random(seed)
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in left:
            await leave_somewhere(url, rng)

    async with asyncio.TaskGroup() as group:
        for _ in range(together):
            group.create_task(one_after_the_other())


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.long)])
def test_random_cancels_leave_nothing(house: House, count: int) -> None:
    """C1: after any number of them no slot, no request in flight, no connection and no descriptor is left."""
    server = house.server
    assert ask(server.url, chat("well")).whole
    eventually(lambda: in_flight(server) == 0)
    (worker,) = workers(server)
    eventually(lambda: len(worker.net_connections("tcp")) <= 6)
    before, aborted = worker.num_fds(), counters(server)["requests_aborted"]
    asyncio.run(leave_often(server.url, count, seed=count))
    eventually(house.upstreams_are_free)
    eventually(lambda: in_flight(server) == 0)
    eventually(lambda: worker.num_fds() <= before)  # the pool's idle connections are closed after a second
    assert ask(server.url, chat("well")).whole
    eventually(lambda: counters(server)["requests_aborted"] - aborted > count // 4)
    print(f"\n{counters(server)['requests_aborted'] - aborted} of {count} left before the end")
    assert counters(server)["unexpected_errors"] == 0, server.log.read_text()[-4000:]


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.long)])
def test_random_cancels_leave_no_task(count: int) -> None:
    """C1: the same inside one loop: no task is left, and every connection of the pools rests."""

    async def main() -> None:
        async with run_simulator(Simulated(output_tokens=8, slots=16)) as simulator:
            behind = [Behind(f"{simulator.url}/v1", model) for model in (*MODELS, "busy")]
            async with gateway_here(behind, first_token_seconds=60) as here:
                tasks = asyncio.all_tasks()
                await leave_often(here.url, count, seed=count + 1)
                await settled(here, simulator)
                async with asyncio.timeout(20):  # a connection's own task ends a turn after its connection
                    while asyncio.all_tasks() != tasks:
                        await asyncio.sleep(0.001)
                assert not here.server._state.connections
                assert here.counters.snapshot()["unexpected_errors"] == 0

    asyncio.run(main())


async def settled(here: Here, simulator: Simulator) -> None:
    """Nothing in flight anywhere, no client connected."""
    await here.settled()
    async with asyncio.timeout(20):
        while simulator.stats.in_flight or simulator.stats.queued or here.server._state.connections:
            await asyncio.sleep(0.005)
