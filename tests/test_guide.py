"""The guide, held to: every block runs as printed and every function that it defines does what it says.

Where the guide does not stand beside the checkout, its call list is held to instead: every call of a
block that is built resolves, and its arguments fit.
"""

import asyncio
import importlib
import inspect
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import slipstream
from e2e.serving import Serving, serving
from guide import calls
from guide.calls import Block, Call
from slipstream import profiling
from slipstream.config.load import load
from slipstream.testing.load.results import stored

GUIDE = Path(__file__).parents[2] / "shared" / "guide" / "performance-troubleshooting-guide.md"
PENDING = {
    "batching", "memory_pool", "rate_limiter", "connection_pool", "queries",
    "tokens", "model_selector", "smart_cache", "reports",
}  # fmt: skip
"""Blocks whose parts are not built yet. It only shrinks."""

BLOCKS = {block.name: block for block in calls.stored().blocks}
BUILT = [name for name in BLOCKS if name not in PENDING]
READERS = {"time", "data_generator", "process_item", "process_request", "get_requests", "prompt", "ids"}
"""What the reader of the guide brings along."""


@pytest.fixture
def guide() -> str:
    """The guide's text."""
    if not GUIDE.is_file():
        pytest.skip("the guide is not beside this checkout")
    return GUIDE.read_text(encoding="utf-8")


SIMULATED = {
    "SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "6",
    "SLIPSTREAM__MODELS__SIMULATED__SIM__TTFT_MS": "20",
    "SLIPSTREAM__MODELS__SIMULATED__SIM__SLOTS": "0",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A real server with a simulated model."""
    with serving(tmp_path_factory.mktemp("guide"), **SIMULATED) as server:
        while server.json("/_slipstream/metrics/summary?fresh=1")["memory"]["own"] is None:
            pass  # its resources are first told when it is two seconds old
        yield server


@pytest.fixture
def live(running: Serving, monkeypatch: pytest.MonkeyPatch) -> Serving:
    """The same, found by what runs in this process."""
    for name, value in running.environ.items():
        if name.startswith("SLIPSTREAM"):
            monkeypatch.setenv(name, value)
    return running


def run_block(guide: str, name: str, **given: object) -> dict[str, Any]:
    """Execute a block as printed, with the names it uses without importing; what it leaves behind."""
    space: dict[str, Any] = {"__name__": f"guide_{name}", **given}
    exec(compile(calls.texts(guide)[name], f"guide block {name}", "exec"), space)
    return space


def test_call_list_is_the_guides(guide: str) -> None:
    """The call list that the project keeps is the guide's, to the last argument."""
    assert calls.read(guide) == calls.stored()


def test_every_block_is_built_or_pending() -> None:
    """A block is either held to below, or stands in the list of pending ones."""
    assert tuple(BLOCKS) == calls.NAMES
    assert set(BLOCKS) >= PENDING


@pytest.mark.parametrize("name", sorted(PENDING))
def test_pending_block_is_still_missing(name: str) -> None:
    """A pending block cannot be imported yet; once it can, it has to leave the list."""
    ours = [each for each in BLOCKS[name].imports if each.startswith("app.")]

    assert any(not importable(each) for each in ours), f"the parts of {name} are built: take it off PENDING"


def importable(name: str) -> bool:
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    return not attribute or hasattr(found, attribute)


CALLS_OF_BUILT = [
    pytest.param(BLOCKS[name], call, id=f"{name}: {call.callee}")
    for name in BUILT
    for call in BLOCKS[name].calls
]


@pytest.mark.parametrize(("block", "call"), CALLS_OF_BUILT)
def test_call_fits(block: Block, call: Call) -> None:
    """Every call of a built block resolves to something of ours that takes these arguments."""
    found = resolved(block, call.callee)
    if found is None:
        return
    function, leading = found
    positional = [argument for argument in call.arguments if "=" not in argument.partition("(")[0]]
    keywords = [argument.partition("=")[0] for argument in call.arguments if argument not in positional]

    inspect.signature(function).bind(*leading, *positional, **dict.fromkeys(keywords))


def resolved(block: Block, callee: str) -> tuple[Callable[..., object], list[object]] | None:
    """What a callee is, and what is passed before its arguments; None for what is not ours."""
    root, *rest = callee.split(".")
    imported = {each.rpartition(":")[2]: each for each in block.imports}
    leading: list[object] = []
    if root in block.objects:
        root, leading = block.objects[root], [None] if rest else []
    if root in imported:
        module, _, attribute = imported[root].partition(":")
        if module.partition(".")[0] in {*sys.stdlib_module_names, "psutil"}:
            return None
        found: Any = getattr(importlib.import_module(module), attribute)
    elif root in profiling.__all__:  # imported by a block before it
        found = getattr(profiling, root)
    elif root in slipstream.__all__:
        found, leading = getattr(slipstream, root), []
    else:
        assert root in READERS | set(block.defines) | {
            "process_with_semaphore",
            "process",
            "tuple",
            "print",
        }, callee
        return None
    for part in rest:
        found = getattr(found, part)
    return found, leading


def test_preprocessing(guide: str) -> None:
    """The first call computes, the second is answered from the cache, both say the same."""
    cache = slipstream.preprocessing_cache
    space = run_block(
        guide, "preprocessing", preprocessing_cache=cache, fast_preprocess=slipstream.fast_preprocess
    )
    prompt = "Tell me \r\n\r\n\r\nabout this test.  "
    hits, misses = cache.hits, cache.misses
    first = space["optimize_preprocessing"](prompt)
    second = space["optimize_preprocessing"](prompt)

    assert first == second == "Tell me\n\nabout this test."
    assert (cache.hits - hits, cache.misses - misses) == (1, 1)


@pytest.mark.model
def test_streaming(guide: str) -> None:
    """The answer of the real model comes in pieces, which are text, and make a sentence."""
    space = run_block(guide, "streaming", model=slipstream.model)

    async def main() -> list[str]:
        stream: AsyncIterator[str] = space["stream_response"]("What is the capital of France?")
        return [chunk async for chunk in stream]

    chunks = asyncio.run(main())

    assert len(chunks) > 1
    assert all(isinstance(chunk, str) and chunk.arrived_ns > 0 for chunk in chunks)
    assert "Paris" in "".join(chunks)


def test_data_structures(guide: str) -> None:
    """Items are produced one at a time, as they are asked for; the queue is bounded."""
    made: list[int] = []

    def data_generator(data: range) -> Iterator[int]:
        for item in data:
            made.append(item)
            yield item

    space = run_block(
        guide, "data_structures", data_generator=data_generator, process_item=lambda item: item * 2
    )
    results = space["process_large_dataset"](range(1_000_000))

    assert [next(results), next(results)] == [0, 2]
    assert made == [0, 1]
    assert space["task_queue"].maxlen == 1000


def test_concurrency(guide: str) -> None:
    """A hundred requests: at most ten at a time, all answered, in their order."""
    running = most = 0

    async def process_request(request: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return request * 2

    space = run_block(guide, "concurrency", process_request=process_request)
    answers = asyncio.run(space["process_requests_concurrently"](range(100)))

    assert answers == [number * 2 for number in range(100)]
    assert most == 10


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`slipstream serve` with the embedded model."""
    with serving(tmp_path_factory.mktemp("assistant"), SLIPSTREAM__MODELS__EMBEDDER__ENABLED="off") as server:
        yield server


@pytest.fixture
def tests_are_short(assistant: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the guide beside that server; durations are multiplied by 0.01."""
    for name, value in assistant.environ.items():
        if name.startswith("SLIPSTREAM"):
            monkeypatch.setenv(name, value)
    for name, value in {
        "TIME_SCALE": "0.01",
        "GRACE_SECONDS": "8",
        "PROMPT_TOKENS": "4",
        "OUTPUT_TOKENS": "2",
    }.items():
        monkeypatch.setenv(f"SLIPSTREAM__TESTING__{name}", value)
    for each in stored(load()):
        (Path(assistant.environ["SLIPSTREAM__DATA_FOLDER"]) / "load" / f"{each.id}.json").unlink()


@pytest.mark.model
@pytest.mark.usefixtures("tests_are_short")
def test_load_test(guide: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed is what was measured of the embedded model, and a model that answers has no errors."""
    monkeypatch.setenv("SLIPSTREAM__TESTING__GRACE_SECONDS", "60")
    space = run_block(guide, "load_test")
    asyncio.run(space["run_load_test"]())
    printed = capsys.readouterr().out
    (result,) = stored(load())
    counts = result.summary.counts

    assert re.findall(r": (.*?)(?:ms| req/s|%)$", printed, re.MULTILINE) == [
        str(result.avg_response_time),
        str(result.p95_response_time),
        str(result.throughput),
        str(result.error_rate),
    ]
    assert result.summary.time_scale == 0.01
    assert 20 <= counts.total <= 30  # 10 a second for 3 seconds, the first 0.3 of them ramping up
    assert counts.ok == counts.measured
    assert result.avg_response_time > 1
    assert result.summary.tokens.output == 2 * counts.ok
    assert result.summary.steps is not None
    assert result.summary.steps.parts["upstream"].mean.value > 1


@pytest.mark.long
@pytest.mark.model
@pytest.mark.usefixtures("tests_are_short")
def test_stress_test(guide: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Load grows until more than 5 % of the requests fail, and what is printed is what was measured."""
    space = run_block(guide, "stress_test")
    asyncio.run(space["run_stress_test"]())
    printed = capsys.readouterr().out.splitlines()
    results = stored(load())[::-1]
    tested = [each.summary.config.concurrent_users for each in results]

    assert tested == [10, 50, 100, 200, 500][: len(tested)]
    assert [line for line in printed if line.startswith("Testing")] == [
        f"Testing with {users} concurrent users" for users in tested
    ]
    assert all(each.error_rate <= 5 for each in results[:-1])
    assert (results[-1].error_rate > 5) is (printed[-1] == f"System limit reached at {tested[-1]} users")
    assert results[0].summary.flow.in_flight_max == 10
    assert results[0].successful_requests >= 10
    if results[-1].error_rate > 5:
        assert results[-1].errors


def test_monitor(guide: str, live: Serving) -> None:
    """Beside a running server the block's numbers are the server's: of the request that it made itself."""
    space = run_block(guide, "monitor", generate_response=slipstream.generate_response, prompt="Hello")
    took, answer = space["response_time"], space["response_time"].result
    tokens, latency = space["token_usage"], space["model_latency"]

    assert answer.model == "sim"
    assert took >= answer.timings.total_ms > 0
    assert tokens.output >= 6
    assert tokens.by_model["sim"].output == tokens.output
    assert 0 < latency.p50 <= latency <= latency.p99
    assert latency.by_model["sim"] == latency
    assert 0 < space["memory_usage"] < 100
    assert space["memory_usage"].host > space["memory_usage"] / 2
    assert space["disk_io"].written_total >= 0
    assert space["network_io"].received_per_second >= 0
    assert space["cache_hit_rate"] is None
    told = live.json("/_slipstream/metrics/summary")
    assert (told["source"], told["tokens"]["output"]) == ("server", tokens.output)
    assert told["app"]["count"] == 1
    assert told["app"]["p50"] == pytest.approx(took, rel=0.011)


def test_throughput(guide: str, live: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    """Around requests to a running server the block prints how many a second it answers."""
    answers: list[int] = []

    async def get_requests() -> AsyncIterator[str]:
        for number in range(100):
            yield f"Request {number}"

    async def process_request(request: str) -> None:
        answers.append(await asyncio.to_thread(live.ask, request))

    space = run_block(
        guide, "throughput", time=time, get_requests=get_requests, process_request=process_request
    )
    began = time.perf_counter()
    asyncio.run(space["measure_throughput"]())
    elapsed = time.perf_counter() - began

    assert len(answers) == 100
    words = capsys.readouterr().out.split()
    assert words[:2] == ["Current", "throughput:"]
    assert float(words[2]) == pytest.approx(100 / elapsed, rel=0.2)
    assert words[3:] == ["req/s"]
    assert 100 / 65 <= space["throughput_monitor"].current  # the server's, over the last minute

    async def watched() -> None:
        async for request in space["throughput_monitor"].watch(get_requests()):
            await process_request(request)

    asyncio.run(watched())
    asyncio.run(watched())
    assert space["throughput_monitor"].total == 200
    assert space["throughput_monitor"].current > 0


def test_dashboard(guide: str, live: Serving) -> None:
    """Beside a running server the block's metrics and rules are on its page, twice run as once."""
    dashboard = [run_block(guide, "dashboard")["dashboard"] for _ in range(2)][-1]
    page = dashboard.serve()
    layout = live.json("/_slipstream/dashboard")
    rules = {
        each["name"]: each
        for each in live.json("/_slipstream/alerts")["rules"]
        if each["owner"] == "dashboard"
    }

    assert page == live.url + "/dashboard"
    assert live.get("/dashboard")[0] == 200
    assert [(each["title"], each["metric"], each["unit"]) for each in layout["tiles"] if each["owner"]] == [
        ("Response Time", "response_time", "ms"),
        ("CPU Usage", "cpu_usage", "%"),
        ("Memory Usage", "memory_usage", "%"),
        ("Token Throughput", "token_throughput", "tokens/s"),
    ]
    assert {name: rule["expanded"] for name, rule in rules.items()} == {
        "High Response Time": "p95 of response_time over 1 min > 5 s",
        "High CPU Usage": "avg of cpu_usage over 1 min > 80 %",
        "Low Cache Hit Rate": "cache_hit_rate over 5 min < 50 %",
    }
    live.ask("Hello")
    deadline = time.monotonic() + 20
    while (seen := dashboard.snapshot())["Response Time"] is None or seen["CPU Usage"] is None:
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    assert seen.source == "server"
    assert seen["response_time"] >= 20.0  # the model's time to first token
    assert {rule.name for rule in seen.alerts} == set(rules)


def test_alerts(guide: str, live: Serving) -> None:
    """Beside a running server the block's rules are watched there, twice run as once, and outlive the script."""
    alerts = [run_block(guide, "alerts")["alerts"] for _ in range(2)][-1]
    told = {
        rule["name"]: rule for rule in live.json("/_slipstream/alerts")["rules"] if rule["owner"] == "app"
    }

    assert {name: (rule["expanded"], rule["severity"]) for name, rule in told.items()} == {
        "High Response Time": ("p95 of response_time over 1 min > 5 s", "warning"),
        "High CPU Usage": ("avg of cpu_usage over 1 min > 80 %", "critical"),
        "Low Throughput": ("throughput over 1 min < 10", "warning"),
    }
    for _ in range(3):
        live.ask("Hello")
    deadline = time.monotonic() + 90  # what the blocks before asked stays in the rule's minute
    while (low := {view.name: view for view in alerts.check()}["Low Throughput"]).phase != "firing":
        assert time.monotonic() < deadline, low
        time.sleep(0.1)
    assert alerts.history()[0].name == "Low Throughput"
    assert alerts.test("response_time > 5000").fires in {None, False}


@pytest.mark.model
def test_response_time_profiler(guide: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The block prints an empty profile; once its function was called, the model's step is the bottleneck."""
    space = run_block(
        guide,
        "response_time_profiler",
        model=slipstream.model,
        preprocess_prompt=slipstream.preprocess_prompt,
        postprocess_response=slipstream.postprocess_response,
    )
    assert "Bottleneck: None" in capsys.readouterr().out

    async def main() -> list[str]:
        return [await space["profile_slow_response"](f"Count to {number}.") for number in (2, 3)]

    assert all(asyncio.run(main()))
    profile = space["profiler"].get_profile_data()
    assert set(profile.step_timings) == {"preprocessing", "model_request", "postprocessing"}
    assert profile.step_timings["model_request"].count == 2
    assert profile.bottleneck == "model_request"
    assert profile.bottleneck.share > 0.5


def test_resource_profiler(guide: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Size and CPU are this process's; once something burns, the profilers it called name it."""
    space = run_block(
        guide,
        "resource_profiler",
        cpu_profiler=profiling.cpu_profiler,
        memory_profiler=profiling.memory_profiler,
    )
    try:
        first = space["profile_resource_usage"]()
        end = time.perf_counter() + 0.5
        while time.perf_counter() < end:
            planted_burner()
        second = space["profile_resource_usage"]()
    finally:
        seen = profiling.cpu_profiler.stop()
    table = space["resource_profiler"].snapshot()

    assert first["memory_mb"] > 10
    assert 0 < second["memory_percent"] < 100
    assert {row.part for row in table.rows} >= {"cpu", "memory", "disk", "network"}
    assert isinstance(seen, profiling.CpuProfile)


def planted_burner() -> int:
    return sum(range(1000))
