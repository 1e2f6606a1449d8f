"""The engine against real servers: what it measures, how it ends, what it says of targets that misbehave."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import trustme

from slipstream.config.settings import Simulated
from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.engine import run
from slipstream.testing.load.plan import SECOND, Lengths, Plan, TrafficSpec
from slipstream.testing.load.run import RunOptions, RunResult, Tick
from slipstream.testing.load.samples import ERRORS
from slipstream.testing.load.target import Target
from slipstream.testing.simulator import SimulatorProcess, start_simulator

ONE = RunOptions(workers=1)
QUICK = RunOptions(workers=1, tick_seconds=0.1)
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with start_simulator(Simulated(ttft_ms=20, itl_ms=2)) as process:
        yield process


def load(target: Target, plan: Plan, options: RunOptions = ONE) -> RunResult:
    return asyncio.run(run(plan, target, options=options))


def load_workers() -> list[psutil.Process]:
    """Those of this process; other tests may have left it an embedded model, which lives as long as it does."""
    children = psutil.Process().children()
    return [each for each in children if "slipstream.testing.load.worker" in each.cmdline()]


def kinds(result: RunResult) -> dict[str, int]:
    numbers, counts = np.unique(result.samples.error, return_counts=True)
    return {ERRORS[number]: int(count) for number, count in zip(numbers, counts, strict=True)}


def once(is_time: Callable[[Tick], bool], act: Callable[[], object]) -> Callable[[Tick], None]:
    """Acts at the first tick that it is time."""
    has_acted = False

    def watch(tick: Tick) -> None:
        nonlocal has_acted
        if not has_acted and is_time(tick):
            has_acted = True
            act()

    return watch


@contextlib.asynccontextmanager
async def server(handle: Handle, **options: object) -> AsyncIterator[int]:
    """A server of this test's own, with the port it listens on; nothing of it is left at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await handle(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    started = await asyncio.start_server(handled, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
    async with started:
        yield started.sockets[0].getsockname()[1]
    if tasks:
        await asyncio.wait(tasks, timeout=5)


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """A whole request, its body after its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
    return head + await reader.readexactly(length)


def answering(*writes: bytes) -> Handle:
    """A handler that answers each request with these bytes; the last one b'' = then closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            for each in writes:
                writer.write(each)
                await writer.drain()
            if writes[-1] == b"":
                break

    return handle


async def against(handle: Handle, plan: Plan, **fields: object) -> RunResult:
    async with server(handle) as port:
        target = Target(url=f"http://127.0.0.1:{port}/x", dialect="http", **fields)  # type: ignore[arg-type]
        return await run(plan, target, options=ONE)


def test_a_stream_is_measured_as_it_was_played(simulator: SimulatorProcess) -> None:
    """First token, chunks, gaps, tokens and status of a streamed answer are the simulator's own."""
    plan = Plan(users=2, requests=10, duration_seconds=20, traffic=TrafficSpec(output_tokens=Lengths(mean=8)))
    result = load(Target(url=simulator.url, model="m"), plan)
    samples = result.samples

    assert kinds(result) == {"": 10}
    assert set(samples.chunks.tolist()) == {8}
    assert set(samples.output_tokens.tolist()) == {8}
    assert set(samples.prompt_tokens.tolist()) == {64}
    assert set(samples.status.tolist()) == {200}
    assert samples.service_ttft_ns.min() >= 18e6
    assert all(len(samples.gaps_of(row)) == 7 for row in range(10))
    spans = samples.last_content_ns - samples.first_content_ns
    assert [int(samples.gaps_of(row).sum()) for row in range(10)] == spans.tolist()
    assert np.median(samples.itl_ns) >= 1.5e6
    assert np.all(samples.intended_ns <= samples.sent_ns)
    assert np.all(samples.sent_ns < samples.first_byte_ns)
    assert np.all(samples.last_content_ns <= samples.done_ns)
    assert result.stopped == "finished"
    assert len(set(samples.request_ids)) == len(samples.request_ids)


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_completions"])
def test_a_whole_answer_is_one_chunk(simulator: SimulatorProcess, dialect: str) -> None:
    """Of an answer that is not streamed, the content comes with its end, and its tokens are read."""
    target = Target(url=simulator.url, model="m", dialect=dialect, streaming=False)  # type: ignore[arg-type]
    result = load(target, Plan(users=1, requests=3, duration_seconds=20))
    samples = result.samples

    assert kinds(result) == {"": 3}
    assert set(samples.chunks.tolist()) == {1}
    assert set(samples.output_tokens.tolist()) == {16}
    assert np.array_equal(samples.first_content_ns, samples.done_ns)


ANTHROPIC_FIRST = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\nRequest-Id: req_7\r\n\r\n"
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":25,'
    b'"cache_read_input_tokens":5,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","content_block":{"type":"text","text":""}}\n\n'
    b'event: ping\ndata: {"type": "ping"}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}\n\n'
)
ANTHROPIC_REST = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"!"}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":15}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def test_anthropics_dialect_is_read() -> None:
    """Anthropic's events give chunks, input, output and cached tokens; the request asks with their header."""
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await request_of(reader))
        writer.write(ANTHROPIC_FIRST)
        await writer.drain()
        writer.write(ANTHROPIC_REST)

    async def main() -> RunResult:
        async with server(handle) as port:
            target = Target(url=f"http://127.0.0.1:{port}", dialect="anthropic", model="c", key="k")
            options = RunOptions(workers=1, request_id_header="request-id")
            return await run(Plan(users=1, requests=1, duration_seconds=20), target, options=options)

    result = asyncio.run(main())
    samples = result.samples

    assert kinds(result) == {"": 1}
    assert (samples.chunks[0], samples.prompt_tokens[0], samples.output_tokens[0]) == (2, 25, 15)
    assert samples.cached_tokens[0] == 5
    assert samples.request_ids == ("req_7",)
    assert asked[0].startswith(b"POST /v1/messages HTTP/1.1\r\n")
    assert b"x-api-key: k\r\n" in asked[0]


def test_an_open_loop_sends_at_its_times(simulator: SimulatorProcess) -> None:
    """Requests of an open loop keep the plan's times, are sent after them, and the lag is written down."""
    plan = Plan(loop="constant", rate=100, duration_seconds=1)
    result = load(Target(url=simulator.url, model="m"), plan)
    samples = result.samples

    assert result.plan_ns == SECOND
    assert samples.intended_ns.tolist() == [k * SECOND // 100 for k in range(100)]
    assert np.all(samples.lag_ns >= 0)
    assert np.all(samples.sent_ns >= samples.intended_ns + samples.lag_ns)
    assert np.all(samples.response_ns >= samples.service_ns)


def test_two_workers_are_one_run(simulator: SimulatorProcess) -> None:
    """Samples of several workers are joined in order, gaps and request ids with their requests."""
    plan = Plan(loop="poisson", rate=60, duration_seconds=1, seed=4)
    samples = load(Target(url=simulator.url, model="m"), plan, RunOptions(workers=2)).samples

    assert set(samples.worker.tolist()) == {0, 1}
    assert np.all(np.diff(samples.intended_ns) >= 0)
    spans = samples.last_content_ns - samples.first_content_ns
    assert [int(samples.gaps_of(row).sum()) for row in range(len(samples))] == spans.tolist()


def test_users_bound_an_open_loop_and_waiting_counts() -> None:
    """With one user a due request waits for the answer before it: sent late, intended time and lag kept."""
    plan = Plan(loop="constant", rate=40, users=1, duration_seconds=0.5)
    with start_simulator(Simulated(ttft_ms=50)) as slow:
        result = load(Target(url=slow.url, model="m", streaming=False), plan)
    samples = result.samples

    assert len(samples) == 20
    assert result.meters.cap_hits >= 15
    assert np.all(samples.sent_ns[1:] >= samples.done_ns[:-1])
    assert samples.response_ns[-1] > 0.4 * SECOND
    assert result.meters.lag_p50_ns < 0.3 * SECOND


def test_users_think_and_ramp_up(simulator: SimulatorProcess) -> None:
    """Users begin one after the other over the ramp, and pause after each answer."""
    plan = Plan(users=4, think_seconds=0.3, ramp_seconds=0.4, duration_seconds=1)
    samples = load(Target(url=simulator.url, model="m", streaming=False), plan).samples

    assert samples.intended_ns[:4].tolist() == [0, SECOND // 10, SECOND // 5, 3 * SECOND // 10]
    assert len(samples) <= 4 * 4
    assert samples.phase[:4].tolist() == [2, 2, 2, 2]


def test_sessions_grow_turn_by_turn() -> None:
    """Each turn of a session sends all turns before it; the next session begins anew."""
    lengths: list[int] = []
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            lengths.append((await request_of(reader)).count(b'"role"'))
            writer.write(answer)

    async def main() -> None:
        async with server(handle) as port:
            plan = Plan(users=1, requests=5, duration_seconds=20, traffic=TrafficSpec(turns=3))
            await run(plan, Target(url=f"http://127.0.0.1:{port}", streaming=False), options=ONE)

    asyncio.run(main())

    assert lengths == [1, 3, 5, 1, 3]


def test_tls_is_spoken(tmp_path: Path) -> None:
    """An https target is asked over TLS with its certificate checked; an unknown authority is `tls_failed`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    handle = answering(b"HTTP/1.1 204 No Content\r\n\r\n")
    plan = Plan(users=1, requests=2, duration_seconds=20)

    async def main() -> list[RunResult]:
        async with server(handle, ssl=context) as port:
            target = Target(url=f"https://localhost:{port}/", dialect="http")
            trusted = RunOptions(workers=1, ca_file=str(tmp_path / "ca.pem"))
            return [await run(plan, target, options=options) for options in (trusted, ONE)]

    trusted, untrusted = asyncio.run(main())

    assert kinds(trusted) == {"": 2}
    assert kinds(untrusted) == {"tls_failed": 2}


STATUSES = {
    301: "http_3xx",
    401: "http_401",
    403: "http_403",
    404: "http_4xx",
    429: "http_429",
    503: "http_5xx",
}


@pytest.mark.parametrize(("status", "error"), STATUSES.items(), ids=map(str, STATUSES))
def test_statuses_are_told_apart(simulator: SimulatorProcess, status: int, error: str) -> None:
    """A wrong key, a full server and a broken one are different errors, with their status."""
    handle = answering(b"HTTP/1.1 %d No\r\ncontent-length: 2\r\n\r\nno" % status)
    result = asyncio.run(against(handle, Plan(users=1, requests=2, duration_seconds=20)))

    assert kinds(result) == {error: 2}
    assert set(result.samples.status.tolist()) == {status}


SCRIPTS = {
    "hang": "timeout",
    "hang@2": "timeout",
    "cut": "reset",
    "cut@2": "reset",
    "close": "reset",
    "close@2": "incomplete",
    "malformed@2": "malformed_stream",
    "error=500@2": "error_event",
    "error=429": "http_429",
    "no_done,no_finish": "incomplete",
    "content_type=text%2Fplain": "",
    "no_done": "",
    "usage_in_choice": "",
    "newline=crlf": "",
    "newline=cr": "",
    "comments,unicode,split=1": "",
    "slow_header=0.2": "",
    "chunk=3": "",
    "two_done": "",
}


@pytest.mark.parametrize(("script", "error"), SCRIPTS.items(), ids=SCRIPTS)
def test_streams_that_misbehave_are_named(simulator: SimulatorProcess, script: str, error: str) -> None:
    """Each way for a stream to break has its name; oddities that are allowed are no errors."""
    target = Target(url=simulator.url, model="m", extra=f'{{"simulate": "{script}"}}')
    plan = Plan(users=1, requests=2, duration_seconds=20, traffic=TrafficSpec(output_tokens=Lengths(mean=6)))
    result = load(target, plan, RunOptions(workers=1, timeout_seconds=0.5))
    samples = result.samples

    assert kinds(result) == {error: 2}
    if not error:
        assert set(samples.output_tokens.tolist()) == {6}
        assert set(samples.chunks.tolist()) == ({2} if script == "chunk=3" else {6})
    if script in {"hang@2", "cut@2", "close@2"}:
        assert set(samples.chunks.tolist()) == {2}
        assert samples.first_content_ns.min() > 0


RAW = {
    "not http": ((b"hello\r\n\r\n",), "malformed"),
    "two statuses": ((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), ""),
    "until it closes": ((b"HTTP/1.0 200 OK\r\n\r\nabc", b""), ""),
    "too short": ((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", b""), "incomplete"),
    "broken chunk": ((b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",), "malformed"),
}


@pytest.mark.parametrize(("writes", "error"), RAW.values(), ids=RAW)
def test_http_that_is_none_is_named(writes: tuple[bytes, ...], error: str) -> None:
    """What is not HTTP, or ends early, is an error; every legal way to end is not."""
    result = asyncio.run(against(answering(*writes), Plan(users=1, requests=2, duration_seconds=20)))

    assert kinds(result) == {error: 2}


def test_json_that_is_none_is_malformed() -> None:
    """A good status with half a JSON body is `malformed`, one with an error inside is `error_event`."""
    answers = [b'{"usage":', b'{"error": {"message": "no"}}', b'{"error": null}']
    found = []
    for body in answers:
        handle = answering(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

        async def main(handle: Handle = handle) -> RunResult:
            async with server(handle) as port:
                target = Target(url=f"http://127.0.0.1:{port}", streaming=False)
                return await run(Plan(users=1, requests=1, duration_seconds=20), target, options=ONE)

        found.append(kinds(asyncio.run(main())))

    assert found == [{"malformed": 1}, {"error_event": 1}, {"": 1}]


def test_an_answer_without_end_is_cut_off() -> None:
    """An answer beyond the cap is given up as `too_large`."""
    handle = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n" + b"x" * 900_000)

    async def main() -> RunResult:
        async with server(handle) as port:
            options = RunOptions(workers=1, answer_bytes_max=10_000)
            target = Target(url=f"http://127.0.0.1:{port}", dialect="http")
            return await run(Plan(users=1, requests=1, duration_seconds=20), target, options=options)

    assert kinds(asyncio.run(main())) == {"too_large": 1}


def test_a_target_that_is_down_ends_the_run() -> None:
    """Where nobody listens the run gives up after a second, with a line that says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        result = load(Target(url=f"http://127.0.0.1:{port}"), Plan(users=5, duration_seconds=60))

    assert result.stopped == "target_down"
    assert "accepted no connection" in result.message
    assert set(kinds(result)) <= {"connect_refused", "cancelled"}
    assert result.duration_ns < 10 * SECOND


def test_a_crash_on_the_way_keeps_what_was_measured() -> None:
    """A target that dies in the middle leaves good samples, broken ones and refused ones."""

    async def main() -> RunResult:
        with start_simulator(Simulated(ttft_ms=10)) as process:
            target = Target(url=process.url, model="m", streaming=False)
            plan = Plan(loop="constant", rate=100, duration_seconds=2)
            kill = once(lambda tick: tick.done >= 30, lambda: os.kill(process.pid, signal.SIGKILL))
            return await run(plan, target, options=QUICK, watch=kill)

    found = kinds(asyncio.run(main()))

    assert sum(found.values()) == 200
    assert found[""] >= 10
    assert found["connect_refused"] >= 10
    assert set(found) <= {"", "connect_refused", "reset", "incomplete"}


def test_no_free_port_is_named(simulator: SimulatorProcess) -> None:
    """When local ports run out, the requests without one are `no_ports`, the others are served."""
    options = RunOptions(workers=1, local_ports=(41_000, 41_001))
    plan = Plan(loop="constant", rate=100, requests=6, duration_seconds=20)
    target = Target(url=simulator.url, model="m", extra='{"simulate": "ttft=400"}')
    found = kinds(load(target, plan, options))

    assert found == {"": 2, "no_ports": 4}


def test_a_stopped_run_gives_what_there_is(simulator: SimulatorProcess) -> None:
    """Stopping ends a run at once; what was in flight is `cancelled`, what was done is kept."""

    async def main() -> RunResult:
        stop = asyncio.Event()
        enough = once(lambda tick: tick.done >= 3, stop.set)
        target = Target(url=simulator.url, model="m", extra='{"simulate": "ttft=100"}')
        return await run(Plan(users=3, duration_seconds=60), target, options=QUICK, watch=enough, stop=stop)

    result = asyncio.run(main())

    assert result.stopped == "requested"
    assert result.duration_ns < 20 * SECOND
    found = kinds(result)
    assert found[""] >= 3
    assert found.get("cancelled", 0) <= 3


def test_a_cancelled_run_leaves_no_process(simulator: SimulatorProcess) -> None:
    """Cancelling passes through, and the workers are gone."""

    async def main() -> None:
        plan, target = Plan(users=1, duration_seconds=60), Target(url=simulator.url, model="m")
        cancel = once(lambda tick: tick.done >= 1, lambda: task.cancel())
        task = asyncio.create_task(run(plan, target, options=QUICK, watch=cancel))
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert load_workers() == []


def test_a_worker_that_dies_leaves_its_samples(simulator: SimulatorProcess) -> None:
    """What a killed worker had written down is in the result, and the result says that it died."""

    async def main() -> RunResult:
        target = Target(url=simulator.url, model="m", streaming=False)

        def kill() -> None:
            for each in load_workers():
                each.kill()

        killing = once(lambda tick: tick.done >= 4, kill)
        return await run(Plan(users=2, duration_seconds=60), target, options=QUICK, watch=killing)

    result = asyncio.run(main())

    assert result.stopped == "worker_died"
    assert result.meters.workers_lost == 1
    assert kinds(result)[""] >= 4
    assert kinds(result).get("cancelled", 0) <= 2


def test_the_bytes_cap_ends_a_run(simulator: SimulatorProcess) -> None:
    """A run stops when it has received as much as it may."""
    options = RunOptions(workers=1, bytes_max=50_000)
    result = load(Target(url=simulator.url, model="m"), Plan(users=4, duration_seconds=60), options)

    assert result.stopped == "bytes_max"
    assert 50_000 < result.meters.received_bytes < 5_000_000


def test_the_requests_cap_ends_a_closed_loop(simulator: SimulatorProcess) -> None:
    """A closed loop without a bound of its own stops at the cap on requests, all of them written down."""
    options = RunOptions(workers=1, requests_max=7)
    target = Target(url=simulator.url, model="m", streaming=False)
    result = load(target, Plan(users=2, duration_seconds=60), options)

    assert result.stopped == "requests_max"
    assert len(result.samples) == 7


@pytest.mark.parametrize(
    "plan",
    [
        Plan(users=11, duration_seconds=1),
        Plan(loop="constant", rate=101, duration_seconds=1),
        Plan(loop="constant", rate=99, duration_seconds=11),
        Plan(loop="constant", rate=100, duration_seconds=10),
        Plan(users=1, duration_seconds=1, requests=1000),
    ],
    ids=["users", "rate", "duration", "expected requests", "requests"],
)
def test_plans_beyond_the_caps_are_refused(plan: Plan) -> None:
    """Nothing is sent by a plan that asks for more than is allowed."""
    options = RunOptions(users_max=10, rate_max=100, duration_seconds_max=10, requests_max=900)

    with pytest.raises(ConfigurationError, match="above the cap"):
        load(Target(url="http://127.0.0.1:1"), plan, options)


def test_targets_that_were_not_named_are_refused() -> None:
    """No host but loopback is asked unless it was named."""
    with pytest.raises(ConfigurationError, match="was not named"):
        load(Target(url="http://192.0.2.1"), Plan(users=1))


def test_ticks_tell_of_the_run(simulator: SimulatorProcess) -> None:
    """While it runs, ticks count up to what the result holds."""
    ticks: list[Tick] = []

    async def main() -> RunResult:
        plan = Plan(loop="constant", rate=50, duration_seconds=1)
        options = RunOptions(workers=1, tick_seconds=0.2)
        return await run(plan, Target(url=simulator.url, model="m"), options=options, watch=ticks.append)

    result = asyncio.run(main())

    assert len(ticks) >= 4
    assert [tick.done for tick in ticks] == sorted(tick.done for tick in ticks)
    assert ticks[-1].done == len(result.samples) == 50
    assert ticks[-1].planned == 50
    assert max(tick.in_flight for tick in ticks) >= 1


def test_request_ids_are_a_bounded_sample() -> None:
    """Of many requests only so many ids are kept, evenly spread, each with its row."""
    count = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while True:
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nX-Request-ID: %d\r\ncontent-length: 0\r\n\r\n" % count)
            count += 1

    async def main() -> RunResult:
        async with server(handle) as port:
            target = Target(url=f"http://127.0.0.1:{port}/", dialect="http")
            options = RunOptions(workers=1, request_ids_max=10)
            return await run(Plan(users=1, requests=100, duration_seconds=30), target, options=options)

    samples = asyncio.run(main()).samples

    assert samples.request_rows.tolist() == [0, 16, 32, 48, 64, 80, 96]
    assert [int(each) for each in samples.request_ids] == samples.request_rows.tolist()
