"""The floor: its mock upstream, its bare proxy, its driver, and what is made of their figures."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.errors import Unavailable
from slipstream.core.record import Record, Step
from slipstream.testing.floor_driver import Run, drive, request_bytes
from slipstream.testing.floor_mock import ANSWER, CHUNKS, PACE_SECONDS, STREAM
from slipstream.testing.floor_probe import Waits
from slipstream.testing.floor_process import Child, child, on_core, share_out
from slipstream.testing.floor_report import AROUND, HAND_OVERS, Measured, Part, parts_of, percentile, report

MOCK = "slipstream.testing.floor_mock"
PROBE = "slipstream.testing.floor_probe"
STREAMED = b'{"model":"m","stream":true,"messages":[]}'


@contextlib.asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Child, Child]]:
    """A mock upstream and the bare proxy in front of it."""
    async with child(MOCK) as mock, child(PROBE, str(mock.port)) as probe:
        yield mock, probe


def post(body: bytes, *, close: bool = False) -> bytes:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n"
    return head % (b"connection: close\r\n" if close else b"", len(body)) + body


async def answer(port: int, request: bytes) -> bytes:
    """What comes back until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(20):
            return await reader.read(-1)
    finally:
        writer.close()
        await writer.wait_closed()


async def waits(port: int) -> Waits:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    told = msgspec.json.decode(await reader.readuntil(b"}"), type=Waits)
    writer.close()
    await writer.wait_closed()
    return told


@pytest.mark.parametrize("through_proxy", [False, True])
def test_answers_are_whole_and_the_same_through_the_proxy(*, through_proxy: bool) -> None:
    """The mock plays its bytes, and the bare proxy passes on exactly those, streamed or not."""

    async def main() -> None:
        async with proxied() as (mock, probe):
            port = probe.port if through_proxy else mock.port
            assert await answer(port, post(b"{}", close=True)) == ANSWER
            assert await answer(port, post(STREAMED, close=True)) == b"".join(STREAM)

    asyncio.run(main())


def test_a_stream_has_the_promised_chunks() -> None:
    """64 chunks with a token, and an end."""
    whole = b"".join(STREAM)

    assert whole.count(b'"content":"hello "') == CHUNKS
    assert whole.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_paced_chunks_come_one_by_one() -> None:
    """With `paced` in the body each event waits its 2 ms: a reader in time reads no two together."""

    async def main() -> float:
        async with child(MOCK) as mock:
            request = post(b'{"stream":true,"x":"paced"}', close=True)
            asked = time.perf_counter()
            assert await answer(mock.port, request) == b"".join(STREAM)
            return time.perf_counter() - asked

    assert asyncio.run(main()) >= (len(STREAM) - 1) * PACE_SECONDS


def test_bare_proxy_tells_the_upstreams_time_and_starts_over() -> None:
    """The waits are those since they were asked for last."""

    async def main() -> None:
        async with proxied() as (_, probe):
            run = await drive(probe.port, request_bytes("m", probe.port), 1, 0.2)
            told, again = await waits(probe.port), await waits(probe.port)
            assert told.asked >= run.answered > 0
            assert told.p50_us is not None
            assert 0 < told.p50_us <= percentile(run.latencies_ns, 0.99) / 1e3
            assert again == Waits(0, None)

    asyncio.run(main())


def test_a_client_that_leaves_mid_stream_spoils_nothing_for_the_next() -> None:
    """The connection whose answer nobody reads is not used again."""

    async def main() -> None:
        async with proxied() as (_, probe):
            for _ in range(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", probe.port)
                writer.write(post(b'{"stream":true,"x":"paced"}'))
                await reader.read(64)
                writer.close()
                await writer.wait_closed()
                assert await answer(probe.port, post(b"{}", close=True)) == ANSWER

    asyncio.run(main())


def test_without_an_upstream_the_client_is_dropped() -> None:
    """No answer is made up."""

    async def main() -> None:
        async with child(MOCK) as mock:
            gone = mock.port
        async with child(PROBE, str(gone)) as probe:
            with contextlib.suppress(ConnectionResetError):
                assert await answer(probe.port, post(b"{}")) == b""

    asyncio.run(main())


def test_driver_counts_answers_by_connection() -> None:
    """Every answer has a latency, none is lost at the end of a run."""

    async def main() -> None:
        async with child(MOCK) as mock:
            run = await drive(mock.port, request_bytes("m", mock.port), 8, 0.3)
            assert run.answered > 0
            assert run.failed == 0
            assert run.answered <= len(run.latencies_ns) <= run.answered + 8
            assert min(run.latencies_ns) > 0

    asyncio.run(main())


def test_driver_counts_what_is_not_200_as_failed() -> None:
    """Errors are fast; they are no throughput."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                await reader.readuntil(b"}")
                writer.write(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
        run = await drive(port, request, 2, 0.1)
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)  # let the handlers see that the driver has left
        assert run.answered == 0
        assert run.failed > 0

    asyncio.run(main())


def test_driver_says_when_nobody_listens() -> None:
    """A target that is not there is an error, not a rate of nought."""

    async def main() -> None:
        async with child(MOCK) as mock:
            gone = mock.port
        with pytest.raises(OSError, match="Connect call failed"):
            await drive(gone, b"", 1, 0.1)

    asyncio.run(main())


def test_a_child_ends_with_whoever_started_it() -> None:
    """Its lifeline is its standard input: closed, by kill -9 too, it leaves."""
    with subprocess.Popen(
        [sys.executable, "-m", MOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_child_that_does_not_start_is_told() -> None:
    """A wrong argument: a typed error, no hang."""

    async def main() -> None:
        with pytest.raises(Unavailable):
            async with child(PROBE):
                pass

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds a process to a core here")
def test_cores_are_given_back() -> None:
    """What is started runs on the core, we ourselves afterwards where we ran before."""
    before = os.sched_getaffinity(0)
    cores = share_out()

    async def main() -> None:
        async with child(MOCK, core=cores.proxy) as mock:
            bound = psutil.Process(mock.pid).cpu_affinity()
            assert cores.proxy is None or bound == [cores.proxy]

    with on_core(cores.driver):
        assert cores.driver is None or os.sched_getaffinity(0) == {cores.driver}
    asyncio.run(main())
    assert os.sched_getaffinity(0) == before
    assert cores.proxy is None or cores.proxy not in (cores.upstream, cores.driver)


@given(st.lists(st.integers(0, 10**9), min_size=1), st.floats(0.01, 1))
def test_percentile_is_a_value_that_enough_do_not_exceed(values: list[int], share: float) -> None:
    """Nearest rank: at least `share` of the values lie at or below it, and it is the smallest such."""
    found = percentile(values, share)

    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values) + 1e-6


def made(*steps: tuple[str, int], duration_us: int) -> Record:
    return Record(
        steps=[Step(name, 0, us * 1000) for name, us in steps],
        duration_ns=duration_us * 1000,
        outcome="served",
    )


def test_parts_add_up_to_the_gateways_own_time() -> None:
    """The upstream's time is taken out of `open`; what no step holds is named."""
    records = [made(("admit", 5), ("open", 70), ("relay", 10), duration_us=100)] * 3

    parts = parts_of(records, client_us=150.0, wait_us=50.0)

    assert parts == [
        Part("admit", 5, 0.05),
        Part("open", 20, 0.2),
        Part("relay", 10, 0.1),
        Part(HAND_OVERS, 15, 0.15),
        Part(AROUND, 50, 0.5),
    ]


def test_a_step_that_is_new_is_shown() -> None:
    """Stages of later versions need no change here."""
    parts = parts_of([made(("cache", 7), ("open", 50), duration_us=60)], client_us=90.0, wait_us=50.0)

    assert {"cache", "open"} <= {part.name for part in parts}


def test_without_records_nothing_is_claimed() -> None:
    """No records, no parts."""
    assert parts_of([], client_us=100.0, wait_us=20.0) == []


def runs(**p50_us: int) -> dict[str, dict[int, list[Measured]]]:
    """Rounds in which every request took the same time."""
    return {
        name: {
            count: [Measured(Run(1.0, 1000, 0, [us * 1000] * 1000), count, us * 1e-3)] * 3
            for count in (1, 32)
        }
        for name, us in p50_us.items()
    }


def test_report_says_how_far_above_the_floor() -> None:
    """Own times are those without the upstream's; CPU times and rates are compared under load."""
    found = report(runs(direct=30, floor=60, gateway=150), [40.0, 40.0], [])

    assert (found.floor_own_us, found.gateway_own_us) == (20, 110)
    assert found.times_floor == 5.5
    assert found.times_floor_cpu == pytest.approx(2.5)
    assert found.rate_share == 1.0


def test_a_floor_that_drowns_in_noise_makes_no_quotient() -> None:
    """A number that cannot be trusted is not printed."""
    assert report(runs(direct=30, floor=60, gateway=150), [70.0], []).times_floor is None


def test_doubts_are_told() -> None:
    """Failures, a driver at its limit, and rounds that differ."""
    shaky = runs(direct=30, floor=60, gateway=150)
    shaky["floor"][1] = [Measured(Run(1.0, 1000, 2, [us * 1000] * 1000), 1, 0.01) for us in (60, 90, 60)]

    doubts = "\n".join(report(shaky, [40.0], [], doubts=["It rained."]).doubts)

    assert "It rained." in doubts
    assert "floor: 6 requests failed at 1 connections." in doubts
    assert "floor: its rate is near that of driver" in doubts
    assert "floor: its rounds differ by 50%" in doubts
