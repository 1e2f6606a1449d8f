"""Load tests beside a live server of ours: found without a URL, let in, joined with its records."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.serving import Serving, serving
from slipstream.testing.load.tester import LoadTester

SIMULATED = {
    "SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "4",
    "SLIPSTREAM__MODELS__SIMULATED__SIM__TTFT_MS": "40",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
}
CONFIG = {"concurrent_users": 2, "duration": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("load")
    with serving(folder, SLIPSTREAM__KEYS__REQUIRED="always", **SIMULATED) as running:
        yield running


def beside(running: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a script with the settings of that server."""
    for name, value in running.environ.items():
        if name.startswith("SLIPSTREAM"):
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize("aimed", ["nothing", "model", "url"])
def test_the_live_server_is_asked(server: Serving, monkeypatch: pytest.MonkeyPatch, aimed: str) -> None:
    """Without a target, by a model's name or by its URL: this machine's scripts get in where keys are required,
    and the server's own records say where the time went."""
    beside(server, monkeypatch)
    target = {"nothing": None, "model": "sim", "url": server.url}[aimed]
    result = LoadTester(target, keep=False).run_test_sync(CONFIG)
    steps = result.summary.steps

    assert result.error_rate == 0
    assert result.successful_requests > 5
    assert steps is not None
    assert steps.joined == result.successful_requests
    parts = {name: found.mean.value or 0.0 for name, found in steps.parts.items()}
    assert parts["upstream"] >= 35
    assert parts["upstream"] > parts["gateway"]
    service = result.summary.latencies["service"].mean.value
    assert service is not None
    assert parts["network"] + parts["gateway"] + parts["upstream"] == pytest.approx(service, rel=0.05)
    assert {"admit", "open", "relay"} <= set(steps.steps)
    assert server.token not in json.dumps(repr(result.summary))


@pytest.mark.long
def test_without_records_the_rest_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that keeps no records is not asked for them for long; the test's own figures stand."""
    with serving(tmp_path, SLIPSTREAM__RECORD__ENABLED="false", **SIMULATED) as running:
        beside(running, monkeypatch)
        result = LoadTester(keep=False).run_test_sync(CONFIG)

    assert result.error_rate == 0
    assert result.summary.steps is None


def test_a_wrong_key_is_an_error_of_its_own(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused requests are counted by kind, and the result says nothing of times."""
    from slipstream.testing.load.target import Target

    beside(server, monkeypatch)
    result = LoadTester(Target(url=server.url, key="wrong"), keep=False).run_test_sync(CONFIG)

    assert result.error_rate == 100
    assert set(result.errors) == {"http_401"}


def test_under_a_running_loop(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop of whoever awaits a test goes on turning meanwhile."""
    beside(server, monkeypatch)
    turns = 0

    async def main() -> None:
        nonlocal turns
        test = asyncio.create_task(LoadTester(keep=False).run_test(CONFIG))
        while not test.done():
            turns += 1
            await asyncio.sleep(0.01)
        assert (await test).error_rate == 0

    asyncio.run(main())
    assert turns > 30
