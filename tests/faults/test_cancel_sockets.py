"""The gateway on sockets, cancelled or left at every single moment (docs/faults.md, row C1).

Its handler is cancelled at its k-th await, or its client's connection reset at the k-th turn of the loop, for
all k: no task, no connection, no slot is left, and the next client is served.
"""

import asyncio
import contextlib
import socket
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, TypeVar

import pytest

from faults.byte_server import HEAD, byte_server, chunk
from faults.raw import RESET, Answer, Collector, address, chat, post, request
from faults.rig import Behind, Here, gateway_here
from faults.turns import RealTurns, Turns
from slipstream.config.settings import Simulated
from slipstream.testing.simulator import Simulator, run_simulator

T = TypeVar("T")

TURNS_MAX = 2000
"""No scenario here takes as many turns of the loop; if one did, the test would not have ended at the end."""

SOCKETS = {
    "streamed": chat("well"),
    "slow": chat("m#ttft=2,itl=1"),
    "whole": chat("well", stream=False),
    "embeddings": post("/v1/embeddings", {"model": "well", "input": "sea"}),
    "tried again": chat("m#cut"),
    "broken": chat("m#cut@3"),
    "forwarded": post("/v1/responses", {"input": "sea"}),
    "refused": chat("nothing"),
    "a page": request("GET", "/"),
}


@types.coroutine
def counted(work: Coroutine[Any, Any, T], on_wait: Callable[[], None]) -> Generator[Any, Any, T]:
    """Run `work`, and call `on_wait` each time it waits."""
    steps = work.__await__()
    error: BaseException | None = None
    while True:
        try:
            waited = steps.send(None) if error is None else steps.throw(error)
        except StopIteration as end:
            return end.value
        error = None
        on_wait()
        try:
            yield waited
        except BaseException as thrown:  # noqa: BLE001 - handed on to `work`
            error = thrown


class Striker:
    """Stands in for the server's handler, and cancels it at its k-th await."""

    def __init__(self, here: Here) -> None:
        self._handler = here.server.handler
        self.at = 0
        self.waits = 0
        here.server.handler = self.handle  # type: ignore[method-assign]

    def handle(self, exchange: Any) -> Any:
        """Serve, and strike."""
        self.waits = 0
        return counted(self._handler(exchange), self._wait)

    def _wait(self) -> None:
        self.waits += 1
        if self.waits == self.at:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()


@contextlib.asynccontextmanager
async def house() -> Any:
    """A gateway here, with a simulator and a byte server behind it."""
    async with run_simulator(Simulated(output_tokens=6)) as simulator, byte_server() as served:
        served.plays["/v1/responses"] = (HEAD, chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n"), b"0\r\n\r\n")
        models = ("well", "m#ttft=2,itl=1", "m#cut", "m#cut@3")
        behind = [Behind(f"http://127.0.0.1:{served.port}/v1", "bytes")]
        behind += [Behind(f"{simulator.url}/v1", model) for model in models]
        async with gateway_here(behind, retry_minimum=100_000, wait_seconds=0.0) as here:
            yield here, simulator


async def exchange(here: Here, raw: bytes, turns: Turns | None = None, at: int = 0) -> Answer | None:
    """Send it and read the answer; with `at`, reset the connection after so many turns: None if that came first."""
    reader, writer = await asyncio.open_connection(*address(here.url))
    collector = Collector()
    task = asyncio.current_task()
    assert task is not None

    def strike() -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    try:
        if turns is not None:
            turns.arm(at, strike)
        writer.write(raw)
        with contextlib.suppress(ConnectionError):
            while not (collector.answers and collector.answers[0].whole):
                data = await reader.read(65536)
                if not data:
                    break
                collector.feed(data)
        if turns is not None and turns.disarm():
            return None
        return collector.answers[0] if collector.answers else Answer()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def is_clean(here: Here, simulator: Simulator, tasks: set[asyncio.Task[Any]]) -> None:
    """Nothing may be left of the exchange."""
    await here.settled()
    async with asyncio.timeout(20):
        while (
            simulator.stats.in_flight
            or here.server._state.connections
            or len(asyncio.all_tasks()) > len(tasks)
        ):
            await asyncio.sleep(0.001)
    assert here.counters.snapshot()["unexpected_errors"] == 0


def run_real(main: Callable[[Turns], Coroutine[Any, Any, None]]) -> None:
    loop = RealTurns()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main(loop.turns))


def loops() -> Iterator[int]:
    yield from range(1, TURNS_MAX)
    pytest.fail("this never came to an end")


@pytest.mark.parametrize("name", SOCKETS)
def test_handler_cancelled_at_every_await(name: str) -> None:
    """The gateway: cancelled at await k, the client has a whole answer or a broken connection, and nothing is left."""
    raw = SOCKETS[name]

    async def main(_: Turns) -> None:
        async with house() as (here, simulator):
            striker = Striker(here)
            await exchange(here, raw)
            await is_clean(here, simulator, asyncio.all_tasks())
            tasks = asyncio.all_tasks()
            for at in loops():
                striker.at = at
                answer = await exchange(here, raw)
                assert answer is not None
                assert answer.whole or not answer.status or name in {"forwarded", "whole", "embeddings"}
                if answer.whole and answer.status == 503:
                    assert answer.error["code"] == "unavailable"
                await is_clean(here, simulator, tasks)
                if striker.waits < at:
                    print(f"\n{at} awaits")
                    break
            striker.at = 0
            assert (await exchange(here, chat("well"))) is not None

    run_real(main)


@pytest.mark.parametrize("name", SOCKETS)
def test_connection_reset_at_every_turn(name: str) -> None:
    """The gateway: reset at turn k of the loop, nothing is left of the request, and the next is served."""
    raw = SOCKETS[name]

    async def main(turns: Turns) -> None:
        async with house() as (here, simulator):
            await exchange(here, raw)
            await is_clean(here, simulator, asyncio.all_tasks())
            tasks = asyncio.all_tasks()
            finished = 0
            for at in loops():
                answer = await exchange(here, raw, turns, at)
                await is_clean(here, simulator, tasks)
                finished += answer is not None
                if finished == 3:
                    print(f"\n{at} turns")
                    break
            answer = await exchange(here, chat("well"))
            assert answer is not None
            assert answer.whole
            assert answer.status == 200

    run_real(main)


HUNG = {
    "before the head": "m#hang",
    "before the first token": "m#early_head,hang@0",
    "in the middle": "m#hang@3",
}
TURNS_TO_HEAR = 20
"""From the client's reset until its upstream has heard: nine on this loop, which the upstream shares."""


@pytest.mark.parametrize("moment", HUNG)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_upstream_hears_at_once(moment: str, stream: bool) -> None:
    """The gateway: nothing but the work itself stands between a client's leaving and its upstream's hearing of it.

    Told in turns of the loop: no timer, no sweep, no other request is waited for.
    """
    raw = chat(HUNG[moment], stream=stream)

    async def main(turns: Turns) -> None:
        async with (
            run_simulator(Simulated(output_tokens=6)) as simulator,
            gateway_here([Behind(f"{simulator.url}/v1", HUNG[moment])]) as here,
        ):
            reader, writer = await asyncio.open_connection(*address(here.url))
            writer.write(raw)
            await turns.until(lambda: simulator.stats.in_flight)
            if "middle" in moment and stream:
                await reader.readuntil(b"data: ")
            began = turns.count
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
            heard = await turns.until(lambda: simulator.stats.aborted)
            print(f"heard after {heard - began} turns")
            assert heard - began <= TURNS_TO_HEAR
            await here.settled()

    run_real(main)
