"""`PerformanceMonitor` beside a live server, and alone after it: scripts of their own, as users run them."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from e2e.serving import Serving, end, serving

SIMULATED = {
    "SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "6",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("monitored")
    with serving(folder, SLIPSTREAM__KEYS__REQUIRED="always", **SIMULATED) as running:
        yield running


def run(server: Serving, code: str) -> str:
    """What a script in the server's environment prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=server.environ, cwd=server.folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def app_calls(server: Serving) -> float:
    """Measured calls that the server knows of."""
    from prometheus_client.parser import text_string_to_metric_families

    server.json("/_slipstream/metrics/summary?fresh=1")
    body = server.get("/metrics", token=server.token)[1].decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(body)
        if family.name == "slipstream_app_calls"
        for sample in family.samples
    )


def test_calls_outlive_the_scripts_that_made_them(server: Serving) -> None:
    """Scripts one after the other write into one guest slab; the server's count goes on."""
    before = app_calls(server)
    for _ in range(3):
        run(server, "from app.core.monitoring import PerformanceMonitor as P; P().measure_response_time(int)")
    assert app_calls(server) == before + 3


@pytest.mark.long
def test_many_scripts_at_once(server: Serving) -> None:
    """More scripts than there are guest slabs: those that find no room still run, none is an error."""
    code = (
        "from app.core.monitoring import PerformanceMonitor as P\n"
        "monitor = P()\n"
        "monitor.measure_response_time(int)\n"
        "input()\n"
        "assert monitor.get_memory_usage() > 0\n"
    )
    scripts = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=server.environ, cwd=server.folder, stdin=subprocess.PIPE
        )
        for _ in range(10)
    ]
    for each in scripts:
        each.communicate(b"\n", timeout=60)
    assert [each.returncode for each in scripts] == [0] * 10


def test_getters_inside_async_code(server: Serving) -> None:
    """On an event loop the same object tells the same, and waits only where it is awaited."""
    code = """
import asyncio
from slipstream import agenerate_response
from slipstream.monitoring.performance_monitor import PerformanceMonitor
monitor = PerformanceMonitor()
async def main():
    took = await monitor.measure_response_time(lambda: agenerate_response("Hello"))
    seen = await monitor.asummary()
    assert seen.source == "server" and seen.app.count >= 1, seen
    assert monitor.get_token_usage().output == seen.tokens.output >= 6
    print(took.result.model)
asyncio.run(main())
asyncio.run(main())
"""
    assert run(server, code).split() == ["sim", "sim"]


def test_alone_with_its_own_model(server: Serving) -> None:
    """Without a server a script's requests run in its own process, and their tokens are told from there."""
    code = """
import os
os.environ["SLIPSTREAM__STATE_FOLDER"] += "/elsewhere"
from slipstream import generate_response
from slipstream.monitoring.performance_monitor import PerformanceMonitor
monitor = PerformanceMonitor()
assert monitor.get_token_usage() is None and monitor.get_model_latency() is None
took = monitor.measure_response_time(lambda: generate_response("Hello"))
tokens = monitor.get_token_usage()
assert tokens.output == 6 and tokens.cost is None and tokens.unpriced_requests == 1, tokens
assert 0 < monitor.get_model_latency() <= took * 1.02
assert monitor.summary().source == "process"
"""
    run(server, code)


@pytest.mark.long
def test_server_that_ended_is_no_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A script goes on by itself when its server ends, and tells its own numbers from then on."""
    code = """
import sys, time
from slipstream.monitoring.performance_monitor import PerformanceMonitor
monitor = PerformanceMonitor()
monitor.measure_response_time(int)
print(monitor.summary().source, flush=True)
input()
time.sleep(1.1)
monitor.measure_response_time(int)
print(monitor.summary().source, monitor.get_memory_usage() > 0, flush=True)
"""
    with serving(tmp_path_factory.mktemp("ending"), **SIMULATED) as ending:
        script = subprocess.Popen(
            [sys.executable, "-c", code], env=ending.environ, cwd=ending.folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert script.stdout is not None
        assert script.stdout.readline() == "server\n"
        end(ending.process)
        assert script.communicate("\n", timeout=60)[0] == "process True\n"
        assert script.returncode == 0
