"""What the supervisor decides for itself, with workers that only pretend."""

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.config.settings import Local, Models, Server, Settings
from slipstream.core.errors import ConfigurationError
from slipstream.server.supervisor import Announcement, Supervisor

FAKE = str(Path(__file__).with_name("fake_worker.py"))


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    # Short: the path of a Unix socket has about 100 bytes.
    with tempfile.TemporaryDirectory(prefix="ss-") as state:
        yield Settings(
            server=Server(port=0),
            models=Models(local=Local(enabled="off")),
            data_folder=str(tmp_path),
            state_folder=state,
        )


def supervisor(settings: Settings, manner: str, said: list[Announcement]) -> Supervisor:
    return Supervisor(settings, announce=said.append, worker=(sys.executable, FAKE, manner))


def test_settings_that_no_worker_can_serve_end_it(settings: Settings) -> None:
    """A worker that refuses the settings ends the start, with its own words."""
    said: list[Announcement] = []
    with pytest.raises(ConfigurationError, match="no") as refusal:
        asyncio.run(supervisor(settings, "refuses", said).run())

    assert refusal.value.hint == "set it right"
    assert said == []


def test_workers_that_never_serve_end_it(settings: Settings) -> None:
    """A server whose workers die before they ever served does not try for ever."""
    with pytest.raises(ConfigurationError, match="No worker could be started: 5 ended"):
        asyncio.run(supervisor(settings, "dies", []).run())


def test_cancelling_it_leaves_nothing_behind(settings: Settings) -> None:
    """Used as a part of a program: when its task is cancelled, workers, register and socket are gone."""
    said: list[Announcement] = []

    async def main() -> None:
        running = asyncio.create_task(supervisor(settings, "good", said).run())
        async with asyncio.timeout(60):
            while not said:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait((running,))
        assert running.cancelled()

    asyncio.run(main())

    assert said[0].url.startswith("http://127.0.0.1:")
    assert said[0].local is None
    assert not said[0].key_required
    assert [path for path in Path(settings.state_folder).rglob("*") if not path.is_dir()] == []
