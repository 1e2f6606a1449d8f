"""What a script gets: runtimes kept, shared and closed as they should be; a call that is left frees its model."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from faults.raw import eventually
from faults.rig import Backstage, backstage
from slipstream import library
from slipstream.config.live import register
from slipstream.config.load import load
from slipstream.config.settings import Simulated
from slipstream.core.errors import BadRequest
from slipstream.core.portal import PORTAL
from slipstream.library import Options, agenerate_response, generate_response, list_models, stream_response
from slipstream.store.records import RecordStore
from slipstream.testing.simulator import Simulator, run_simulator

HANG_SECONDS = 30


@pytest.fixture(autouse=True)
def runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[library._Runtimes]:
    """A process that has not called yet, with one simulated model of one slot."""
    for name, value in {
        "DATA_FOLDER": str(tmp_path / "data"),
        "STATE_FOLDER": str(tmp_path / "state"),
        "MODELS__EMBEDDER__ENABLED": "off",
        "MODELS__SIMULATED__SIM__SLOTS": "1",
        "MODELS__SIMULATED__SIM__ITL_MS": "20",
        "MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "4",
    }.items():
        monkeypatch.setenv(f"SLIPSTREAM__{name}", value)
    monkeypatch.chdir(tmp_path)
    fresh = library._Runtimes()
    monkeypatch.setattr(library, "_RUNTIMES", fresh)
    yield fresh
    PORTAL.call(fresh._end())


@pytest.fixture(scope="module")
def stage() -> Iterator[Backstage]:
    with backstage() as running:
        yield running


@contextlib.contextmanager
def live(*servers: Simulator) -> Iterator[None]:
    """These servers stand in the register, as `slipstream serve` would have entered itself."""
    with contextlib.ExitStack() as registered:
        for server in servers:
            registered.enter_context(
                register(load(), url=server.url, control="", token="secret", version="0")
            )
        yield


def simulators(stage: Backstage, count: int) -> list[Simulator]:
    return [stage.open(run_simulator(Simulated(output_tokens=2))) for _ in range(count)]


def open_keys(runtimes: library._Runtimes) -> list[str]:
    """The URLs of the servers that a runtime is open for, the last used at the end; empty: this process."""
    return [key[1] if key else "" for key in runtimes._open]


async def closed(runtimes: library._Runtimes, url: str) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while url in open_keys(runtimes) or runtimes._closing:
            await asyncio.sleep(0.005)


def test_a_cancelled_stream_frees_the_models_slot() -> None:
    """Who is cancelled in the middle of an answer leaves the only slot to the next."""

    async def main() -> None:
        heard: list[str] = []

        async def listen() -> None:
            pieces = stream_response("Talk for ever", Options(max_tokens=100_000))
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    heard.append(piece)  # noqa: PERF401 (seen from outside as it grows)

        async with asyncio.timeout(HANG_SECONDS):
            task = asyncio.create_task(listen())
            while len(heard) < 2:
                await asyncio.sleep(0.001)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert str(await agenerate_response("Be brief"))

    asyncio.run(main())


def test_a_cancelled_call_frees_the_models_slot() -> None:
    """The same for an answer that is awaited whole, while another waits behind it."""

    async def main() -> None:
        async with asyncio.timeout(HANG_SECONDS):
            endless = Options(max_tokens=100_000)
            first = asyncio.create_task(agenerate_response("Talk for ever", endless))
            await agenerated_begun()
            second = asyncio.create_task(agenerate_response("Be brief"))
            await asyncio.sleep(0.05)
            assert not second.done()
            first.cancel()
            assert str(await second)
            assert first.cancelled()

    async def agenerated_begun() -> None:
        while not any(runtime.users for runtime in library._RUNTIMES._open.values()):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)

    asyncio.run(main())


def test_two_servers_in_turn_keep_their_runtimes(stage: Backstage, runtimes: library._Runtimes) -> None:
    """Calls that go to and fro between two servers connect to each once."""
    one, two = simulators(stage, 2)
    with live(one, two):
        for _ in range(3):
            for server in (one, two):
                assert generate_response("Hello", Options(server=server.url)).usage.output == 2
        kept = dict(runtimes._open)
        generate_response("Hello", Options(server=one.url))

    assert open_keys(runtimes) == [two.url, one.url]
    assert all(runtimes._open[key] is runtime for key, runtime in kept.items())
    assert (one.stats.served, two.stats.served) == (4, 3)
    assert (one.stats.connections, two.stats.connections) == (1, 1)


def test_idle_runtimes_of_servers_are_bounded(stage: Backstage, runtimes: library._Runtimes) -> None:
    """Of many servers that were called once, the last few stay connected."""
    servers = simulators(stage, library.RUNTIMES_MAX + 2)
    with live(*servers):
        for server in servers:
            generate_response("Hello", Options(server=server.url))
        asyncio.run(closed(runtimes, servers[1].url))

    assert open_keys(runtimes) == [server.url for server in servers[2:]]
    eventually(lambda: [server.stats.connections for server in servers[:2]] == [0, 0])


def test_superseded_runtime_is_closed_with_its_last_call(
    stage: Backstage, runtimes: library._Runtimes
) -> None:
    """What runs in this process is left for a server that has come, when the calls that run on it are over."""
    (server,) = simulators(stage, 1)

    async def main() -> None:
        pieces = stream_response("Hello", Options(max_tokens=12))
        async with asyncio.timeout(HANG_SECONDS), contextlib.aclosing(pieces):
            heard = [await anext(pieces)]
            with live(server):
                await agenerate_response("Hello")
                assert open_keys(runtimes) == ["", server.url]
                heard += [piece async for piece in pieces]
            assert heard[-1] == "".join(heard[:-1])
            await closed(runtimes, "")
        assert open_keys(runtimes) == [server.url]

    asyncio.run(main())
    assert server.stats.served == 1
    assert str(generate_response("Hello")), "without the server it runs in this process again"
    assert open_keys(runtimes)[-1] == ""


def test_settings_of_fallbacks_are_the_servers_own(stage: Backstage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script beside a live server asks for one model; what stands in for it is the server's affair."""
    monkeypatch.setenv("SLIPSTREAM__MODELS__FALLBACKS", '{"sim": ["other"]}')
    monkeypatch.setenv("SLIPSTREAM__MODELS__SIMULATED__OTHER__SEED", "1")
    (server,) = simulators(stage, 1)
    with live(server):
        assert generate_response("Hello", Options(model="sim")).model == "sim"
    assert server.stats.requests == 1


def test_listing_models_starts_none(
    runtimes: library._Runtimes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models that would run are told from the settings and the files: no process, no store, no runtime."""
    monkeypatch.setenv("SLIPSTREAM__MODELS__LOCAL__ENABLED", "on")
    monkeypatch.setenv("SLIPSTREAM__MODELS__ALIASES", '{"tiny": "sim"}')
    monkeypatch.setenv("SLIPSTREAM__MODELS__LOCAL__PATH", str(tmp_path / "absent.gguf"))
    before = psutil.Process().children(recursive=True)
    found = {row.name: row for row in list_models()}

    assert (found["sim"].state, found["sim"].default) == ("ready", True)
    assert found["tiny"].alias_of == "sim"
    assert found["smollm2-135m-instruct"].state == "not installed"
    assert set(psutil.Process().children(recursive=True)) <= set(before)
    assert not runtimes._open
    assert not (tmp_path / "data" / "records.db").exists()


def test_script_that_ends_leaves_its_records(tmp_path: Path) -> None:
    """The last thing a script does is to ask: its record is kept, and nothing is said on standard error."""
    script = "import slipstream; print(slipstream.generate_response('Hello'))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    store = RecordStore(tmp_path / "data" / "records.db")
    (record,) = store.recent(10)
    store.close()
    assert (record.upstream, record.outcome) == ("sim", "served")


def test_wrong_prompt_opens_nothing(runtimes: library._Runtimes) -> None:
    """What cannot be asked is refused before a model or a connection is there."""
    with pytest.raises(BadRequest, match="prompt"):
        generate_response(5)  # type: ignore[arg-type]
    assert not runtimes._open
