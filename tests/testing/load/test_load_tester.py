"""`LoadTester`, `StressTester` and comparisons against simulated servers whose truth is known."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from slipstream.config.load import load
from slipstream.config.settings import Simulated
from slipstream.core.errors import BadRequest, ConfigurationError
from slipstream.testing.load.aim import without_password
from slipstream.testing.load.compare import CompareOptions, compare
from slipstream.testing.load.config import LoadConfig
from slipstream.testing.load.export import as_json
from slipstream.testing.load.results import stored
from slipstream.testing.load.run import Tick
from slipstream.testing.load.search import Probe
from slipstream.testing.load.stress import LimitOptions, StressTester
from slipstream.testing.load.target import Target
from slipstream.testing.load.tester import LoadTester
from slipstream.testing.simulator import SimulatorProcess, start_simulator

SHARED_TRACE = Path(__file__).parents[4] / "shared" / "data" / "AzureLLMInferenceTrace_code.csv"


@pytest.fixture(scope="module")
def slots() -> Iterator[SimulatorProcess]:
    """Eight requests at a time, each 50 ms: 20 to the first token, then 15 gaps of 2."""
    with start_simulator(Simulated(slots=8, ttft_ms=20, itl_ms=2, output_tokens=16)) as server:
        yield server


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results and live servers of this test alone."""
    monkeypatch.setenv("SLIPSTREAM__DATA_FOLDER", str(tmp_path / "data"))
    monkeypatch.setenv("SLIPSTREAM__STATE_FOLDER", str(tmp_path / "state"))


def test_a_closed_loop(slots: SimulatorProcess) -> None:
    """Four users keep four requests in flight; no time is shorter than the server's, tokens are what it says."""
    ticks: list[Tick] = []
    tester = LoadTester(slots.url)
    result = asyncio.run(tester.run_test({"concurrent_users": 4, "duration": 2}, watch=ticks.append))
    tokens = result.summary.tokens

    assert result.error_rate == 0
    assert result.summary.flow.in_flight_max == 4
    assert result.p50_response_time >= 49
    assert 19.5 <= result.figure("ttft.p50") < result.p50_response_time - 25
    assert result.figure("itl.mean") >= 1.6
    assert tokens.output == 16 * result.successful_requests
    assert result.throughput * result.avg_response_time / 1000 == pytest.approx(4, rel=0.15)
    assert ticks
    assert [each.id for each in stored(load())] == [result.id]


def test_an_open_loop_counts_from_when_requests_were_due(slots: SimulatorProcess) -> None:
    """Twice what one user can do: service stays, response time grows with the line in front of that user."""
    config = {"requests_per_second": 40, "concurrent_users": 1, "duration": 2}
    result = LoadTester(slots.url, keep=False).run_test_sync(config)
    service, response = result.figure("service.p50"), result.p50_response_time

    assert result.id == ""
    assert result.summary.flow.in_flight_max == 1
    assert service >= 49
    assert response > 5 * service
    assert result.summary.client.cap_hits > 40


@pytest.mark.long
def test_slowly_growing_load_is_left_out(slots: SimulatorProcess) -> None:
    """The ramp is inside the duration, and figures are of what comes after it."""
    config = {"requests_per_second": 40, "duration": 2, "ramp_up": 1}
    result = LoadTester(slots.url, keep=False).run_test_sync(config)

    assert result.total_requests == pytest.approx(60, abs=2)
    assert result.summary.counts.measured == pytest.approx(40, abs=2)
    assert result.summary.window_seconds == pytest.approx(1, abs=0.05)


def test_errors_of_the_target(slots: SimulatorProcess) -> None:
    """Refusals are errors that stand apart; nothing is raised."""
    target = Target(url=slots.url, headers=(("x-simulate", "error=429"),))
    result = LoadTester(target, keep=False).run_test_sync({"concurrent_users": 2, "duration": 0.5})

    assert result.error_rate == result.rate_limited_rate == 100
    assert result.timeout_rate == 0
    assert set(result.errors) == {"http_429"}
    assert str(result.avg_response_time) == "n/a"


def test_nobody_answers() -> None:
    """A target that is down gives a result that says so, not a traceback."""
    result = LoadTester("http://127.0.0.1:1", keep=False).run_test_sync(
        {"concurrent_users": 2, "duration": 1}
    )

    assert result.error_rate == 100
    assert set(result.errors) == {"connect_refused"}


def test_nobody_to_ask() -> None:
    """Without a live server and without a target there is one clear sentence."""
    with pytest.raises(ConfigurationError, match="No server is live"):
        LoadTester().run_test_sync({"concurrent_users": 1})


def test_what_cannot_be_asked_is_told() -> None:
    """A number is neither a URL nor a model nor a function."""
    with pytest.raises(ConfigurationError, match="nothing that can be asked"):
        LoadTester(5).run_test_sync({"concurrent_users": 1})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:secret@127.0.0.1:9/v1?key=secret#x", "http://127.0.0.1:9/v1"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    """What stands in results and pages has neither user nor query."""
    assert without_password(url) == shown


def test_a_given_prompt_is_sent_and_not_kept(slots: SimulatorProcess) -> None:
    """The text of a prompt is in no result."""
    config = {"concurrent_users": 1, "duration": 0.3, "prompt": "Tell nobody."}
    result = asyncio.run(LoadTester(slots.url).run_test(config))

    assert result.successful_requests > 0
    assert "Tell nobody" not in as_json(result)


def test_a_function_is_asked() -> None:
    """An async function in this process is called with prompts; what it raises is an error of the target."""
    prompts: list[str] = []

    async def answer(prompt: str) -> str:
        prompts.append(prompt)
        number = len(prompts)
        await asyncio.sleep(0.01)
        if number % 4 == 0:
            raise ValueError(prompt)
        return "fine"

    result = LoadTester(answer, keep=False).run_test_sync({"concurrent_users": 2, "duration": 0.5})

    assert result.total_requests == len(prompts)
    assert result.error_rate == pytest.approx(25, abs=3)
    assert set(result.errors) == {"exception"}
    assert len(set(prompts)) == len(prompts)


class Model:
    """Answers as our models do."""

    async def generate(self, prompt: str) -> str:
        await asyncio.sleep(0.02)
        return "one two"

    async def generate_stream(self, prompt: str) -> AsyncIterator[str]:
        for piece in ("one", "two"):
            await asyncio.sleep(0.01)
            yield piece


@pytest.mark.parametrize("stream", [True, False])
def test_a_model_is_asked(stream: bool) -> None:
    """A model of ours is asked piece by piece, or for whole answers."""
    config = {"concurrent_users": 2, "duration": 0.4, "stream": stream}
    result = LoadTester(Model(), keep=False).run_test_sync(config)
    first, whole = result.figure("ttft.mean"), result.figure("service.mean")

    assert result.error_rate == 0
    assert result.successful_requests > 10
    assert (first < 0.8 * whole) is stream


def test_stopped_on_the_way(slots: SimulatorProcess) -> None:
    """Whoever stops a test gets what there is; what was cut is no error."""

    async def main() -> None:
        stop = asyncio.Event()
        result = await LoadTester(slots.url).run_test(
            {"concurrent_users": 4, "duration": 60},
            watch=lambda tick: stop.set() if tick.done else None,
            stop=stop,
        )

        assert result.summary.stopped == "requested"
        assert result.successful_requests > 0
        assert result.error_rate == 0

    asyncio.run(main())


def test_two_loops_and_one_object(slots: SimulatorProcess) -> None:
    """Built once, used under two event loops; inside a running loop the synchronous call says what to do."""
    tester = LoadTester(slots.url, keep=False)

    async def main() -> float:
        with pytest.raises(RuntimeError, match="run_test"):
            tester.run_test_sync({"concurrent_users": 1})
        return float((await tester.run_test({"concurrent_users": 1, "duration": 0.3})).total_requests)

    assert asyncio.run(main()) > 0
    assert asyncio.run(main()) > 0


def test_times_are_scaled(slots: SimulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """testing.time_scale shortens a test and stands in its result."""
    monkeypatch.setenv("SLIPSTREAM__TESTING__TIME_SCALE", "0.01")
    result = asyncio.run(StressTester(slots.url).test_load(concurrent_users=3, duration=60))

    assert result.summary.config.duration == pytest.approx(0.6)
    assert result.summary.time_scale == 0.01
    assert result.summary.flow.in_flight_max == 3


def test_recorded_traffic_is_played(slots: SimulatorProcess, tmp_path: Path) -> None:
    """Requests come when they were recorded, sped up, with the recorded lengths."""
    trace = tmp_path / "trace.jsonl"
    rows = [f'{{"timestamp": {i * 100}, "input_length": {8 + i}, "output_length": 4}}' for i in range(20)]
    trace.write_text("\n".join(rows))
    config = {"trace": str(trace), "trace_speed": 2, "duration": 2}
    result = LoadTester(slots.url, keep=False).run_test_sync(config)

    assert result.total_requests == result.successful_requests == 20
    assert result.samples is not None
    assert list(result.samples.intended_ns // 1_000_000) == [i * 50 for i in range(20)]
    assert result.summary.tokens.output == 80


def test_public_traces_are_played(slots: SimulatorProcess) -> None:
    """The first requests of Azure's trace, ten thousand times faster."""
    if not SHARED_TRACE.is_file():
        pytest.skip("shared data is not beside this checkout")
    config = {"trace": str(SHARED_TRACE), "trace_speed": 100, "duration": 2, "max_requests": 30}
    result = LoadTester(slots.url, keep=False).run_test_sync(config)

    assert result.total_requests == 30
    assert result.error_rate == 0


@pytest.mark.long
def test_slower_is_told() -> None:
    """Four times as slow fails; what is compared must be a figure, and an unanswering side is told."""
    shape = LoadConfig(concurrent_users=2)
    options = CompareOptions(rounds=3, round_seconds=0.5)
    seen: list[int] = []

    def watch(number: int, first: float | None, second: float | None) -> None:
        assert first is not None
        assert second is not None
        seen.append(number)

    with start_simulator(Simulated(ttft_ms=80)) as fast, start_simulator(Simulated(ttft_ms=320)) as slow:
        found = asyncio.run(compare(fast.url, slow.url, shape, options, watch=watch))

    assert (found.verdict, seen[:3]) == ("FAIL", [1, 2, 3])
    assert found.found is not None
    assert found.found.ratio > 2
    with pytest.raises(BadRequest):
        asyncio.run(compare("http://a", "http://b", shape, CompareOptions(figure="errors")))
    with pytest.raises(ConfigurationError, match="answered nothing"):
        asyncio.run(compare("http://127.0.0.1:1", "http://127.0.0.1:1", shape, options))


@pytest.mark.long
def test_a_side_that_fails_is_worse() -> None:
    """As fast, but a tenth of it errors: FAIL, whatever the times say."""
    shape = LoadConfig(concurrent_users=4)
    options = CompareOptions(rounds=3, round_seconds=0.5, tolerance=5.0)
    with (
        start_simulator(Simulated(ttft_ms=10)) as good,
        start_simulator(Simulated(ttft_ms=10, error_rate=0.2)) as bad,
    ):
        found = asyncio.run(compare(good.url, bad.url, shape, options))

    assert found.verdict == "FAIL"
    assert "fails" in found.why


@pytest.mark.long
def test_nobody_is_served_alone() -> None:
    """A limit cannot be searched where not even one user is answered."""
    with pytest.raises(ConfigurationError, match="does not answer a single user"):
        asyncio.run(StressTester("http://127.0.0.1:1").find_limit())


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("count", "ttft_ms"), [(8, 200.0), (20, 250.0), (3, 150.0)])
def test_the_limit_of_a_simulated_server(count: int, ttft_ms: float) -> None:
    """So many slots of a known service time: capacity and limit within 5 %, the knee near it, a soak confirms.

    Up to twice as many users as slots wait one service time at most, which 2.5 x allows; one more waits two.
    The knee is capacity x unloaded time, whose mean whatever else runs here lengthens.
    """
    probes: list[Probe] = []
    with start_simulator(Simulated(slots=count, ttft_ms=ttft_ms, output_tokens=1)) as server:
        options = LimitOptions(soak_seconds=3, output_tokens=1)
        found = asyncio.run(StressTester(server.url).find_limit(options, watch=probes.append))

    assert found.ceiling == pytest.approx(count / ttft_ms * 1000, rel=0.05)
    assert found.throughput == pytest.approx(count / ttft_ms * 1000, rel=0.05)
    assert found.knee_users == pytest.approx(count, rel=0.15)
    assert found.users == pytest.approx(2 * count, abs=max(1, 0.05 * 2 * count))
    assert found.confirmed or "other work" in " ".join(found.cautions)
    assert "queue" in found.resource or "CPU" in found.resource
    assert list(found.probes) == sorted(probes[:-1], key=lambda each: each.users)


def verdicts(slower: float) -> list[str]:
    """Of twenty comparisons with a server that is so much slower."""
    shape, options = LoadConfig(concurrent_users=8), CompareOptions(rounds=7, round_seconds=0.8)
    out = []
    with (
        start_simulator(Simulated(ttft_ms=150)) as first,
        start_simulator(Simulated(ttft_ms=150 * slower)) as second,
    ):
        for _ in range(20):
            found = asyncio.run(compare(first.url, second.url, shape, options))
            out.append(found.verdict)
            sys.stdout.write(f"{found.verdict} {found.found} {found.cautions}\n")
    return out


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_planted_slowdown_is_found() -> None:
    """20 % slower: FAIL in 19 of 20 comparisons at least."""
    assert verdicts(1.2).count("FAIL") >= 19


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_an_unchanged_server_passes() -> None:
    """Nothing changed: PASS in 15 of 20 comparisons at least, FAIL in one at most."""
    found = verdicts(1.0)

    assert found.count("PASS") >= 15
    assert found.count("FAIL") <= 1
