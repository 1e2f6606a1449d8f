"""Which upstream is asked, and asked again, when one fails (docs/faults.md, rows U1, U3 and U5), on sockets.

What needs minutes is shown on virtual time: tests/flow/test_upstreams.py.
"""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.byte_server import byte_server, stream
from faults.raw import Answer, ask, chat, eventually
from faults.rig import Behind, Here, backstage, counters, gateway, gateway_here, in_flight
from faults.upstreams import DONE, EVENT, LAST, TOKENS, WELL
from slipstream.config.settings import Simulated
from slipstream.core.breaker import RULES
from slipstream.testing.chaos import Chaos
from slipstream.testing.simulator import run_simulator


async def asked(here: Here, count: int = 1) -> list[Answer]:
    """So many chat calls at once, each on a connection of its own."""
    return await asyncio.gather(*(asyncio.to_thread(ask, here.url, chat("m")) for _ in range(count)))


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so, on this loop."""
    await asyncio.to_thread(eventually, is_so)


def state_of(here: Here, upstream: str) -> str:
    (state,) = [each.state for each in here.parts.catalog.snapshot() if each.upstream == upstream]
    return state


@pytest.mark.long
def test_dead_upstream_is_left_alone_and_probed_by_one() -> None:
    """U1: one of two is dead: nobody notices; five failures open its breaker; then one request at a time tries it."""

    async def main() -> None:
        async with run_simulator(Simulated(output_tokens=4)) as simulator, byte_server() as ill:
            ill.plays["m"] = ("reset",)
            behind = [Behind(f"http://127.0.0.1:{ill.port}/v1", "m"), Behind(f"{simulator.url}/v1", "m")]
            async with gateway_here(behind, first_token_seconds=60) as here:
                for _ in range(60):
                    (answer,) = await asked(here)
                    assert (answer.status, answer.datas[-1]) == (200, b"[DONE]")
                assert ill.requests["m"] == RULES.consecutive == 5
                assert state_of(here, "up0") == "open"
                ill.plays["m"] = ("hang",)
                await until(lambda: state_of(here, "up0") == "half_open")
                answers = await asked(here, 30)
                assert [answer.status for answer in answers] == [200] * 30
                assert ill.requests["m"] == 6  # the probe, which was served by the other one after a moment
                ill.plays["m"] = (stream(EVENT, LAST, DONE),)
                await until(lambda: state_of(here, "up0") == "half_open")
                while state_of(here, "up0") != "closed":
                    assert (await asked(here))[0].status == 200
                assert here.counters.snapshot()["requests_failed"] == 0
                await here.settled()

    asyncio.run(main())


def test_connecting_has_a_deadline() -> None:
    """U1: an upstream that takes no connection is given up after `connect_seconds`, and the next one is asked."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first:
            first.connect(full.getsockname())  # the queue is full: nobody else is let in, nor refused
            silent = Behind(f"http://127.0.0.1:{full.getsockname()[1]}/v1", "m")
            async with gateway_here([silent], connect_seconds=0.2, attempts=1) as here:
                (answer,) = await asked(here)
                assert (answer.status, answer.error["code"]) == (504, "connect_timeout")
            async with (
                run_simulator(Simulated(output_tokens=4)) as simulator,
                gateway_here([silent, Behind(f"{simulator.url}/v1", "m")], connect_seconds=0.2) as here,
            ):
                assert [answer.status for answer in await asked(here, 20)] == [200] * 20

    asyncio.run(main())


def test_storm_is_not_amplified() -> None:
    """U5: all of three upstreams fail: they get at most 1.1 times what was asked, whatever each answer would allow."""

    async def main() -> None:
        async with byte_server() as ill:
            ill.plays["m"] = (b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\n{}",)
            behind = [Behind(f"http://127.0.0.1:{ill.port}/v1", "m") for _ in range(3)]
            async with gateway_here(behind, retry_minimum=0, wait_seconds=0.0, attempts=3) as here:
                answers = [answer for _ in range(10) for answer in await asked(here, 20)]
                assert {answer.status for answer in answers} <= {500, 503}
                assert ill.requests["m"] <= 1.1 * len(answers)
                counted = here.counters.snapshot()
                assert counted["upstream_retries"] <= 0.1 * len(answers)
                assert counted["upstream_retries_refused"] > 0

    asyncio.run(main())


@pytest.mark.parametrize("runs", [40, pytest.param(1000, marks=pytest.mark.long)])
def test_no_character_twice(tmp_path: Path, runs: int) -> None:
    """U3: over many runs with resets anywhere, every client has a prefix, and all of it or an error."""
    faults = ["http_reset,rate=0.1", "sse_reset@2,rate=0.1", "sse_reset@5,rate=0.1", "sse_fin@done,rate=0.1"]
    with backstage() as stage:
        simulator = stage.open(run_simulator(Simulated(output_tokens=TOKENS)))
        behind = [Behind(f"{simulator.url}/v1", WELL)]
        for number in range(8):  # several, so that an open breaker does not end the test
            chaos = stage.open(Chaos(simulator.url, faults=faults, seed=number))
            behind.append(Behind(f"{chaos.url}/v1", f"broken {number}"))
        with gateway(tmp_path, behind) as server:
            said = ask(server.url, chat(WELL)).text
            served = broken = 0
            for number in range(runs):
                answer = ask(server.url, chat(f"broken {number % 8}"))
                assert answer.whole
                assert said.startswith(answer.text)
                if answer.status == 200 and answer.datas[-1] == b"[DONE]":
                    assert answer.text == said
                    served += 1
                else:
                    assert answer.error if answer.status != 200 else answer.stream_error
                    broken += 1
            print(f"\n{runs} runs: {served} whole, {broken} with an error")
            assert served > runs // 4
            assert broken > runs // 20
            eventually(lambda: in_flight(server) == 0)
            assert counters(server)["unexpected_errors"] == 0
