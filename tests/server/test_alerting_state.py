"""The supervisor's alerts over restarts, a file that cannot be written, a damaged one, and clock steps."""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from monitoring.given import Given
from monitoring.webhook import webhook
from slipstream.config.alerting import AlertRule, Receiver, Routes
from slipstream.config.settings import Alerts, Settings
from slipstream.core import clock
from slipstream.core.alerts import Rule
from slipstream.core.errors import BadRequest, ConfigurationError, StoreFailed
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.slab import private_slab
from slipstream.server import alerting as module
from slipstream.server.alert_desk import AlertDesk
from slipstream.server.alerting import Alerting
from slipstream.store.alerts import AlertStore, Step

BUSY = AlertRule(condition="in_flight > 3", severity="critical")


def settings(url: str = "http://127.0.0.1:1/", **rules: AlertRule) -> Settings:
    return Settings(
        alerts=Alerts(
            receivers={"hook": Receiver(kind="webhook", url=url)},
            routes=Routes(critical=("hook",)),
            rules=rules,
            wait_seconds=0,
            interval_seconds=0,
        )
    )


@contextlib.asynccontextmanager
async def watching(path: Path, asked: Settings, readings: Given) -> AsyncIterator[Alerting]:
    """Alerts as the supervisor runs them, but for the looks, which the test takes."""
    alerting = Alerting(path, asked, readings, Meter(private_slab()), url="http://here")
    await alerting.start()
    task = asyncio.create_task(alerting.run())
    try:
        yield alerting
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await alerting.aclose()


async def until(holds: object) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def test_firing_alert_survives_a_restart(tmp_path: Path) -> None:
    """After a restart it fires on, nobody is told twice, and its end is told."""

    async def main() -> None:
        readings = Given(in_flight=9.0)
        with webhook() as hook:
            async with watching(tmp_path / "a.db", settings(hook.url, Busy=BUSY), readings) as alerting:
                alerting.look()
                await until(lambda: hook.got)
            async with watching(tmp_path / "a.db", settings(hook.url, Busy=BUSY), readings) as alerting:
                for _ in range(3):
                    alerting.look()
                await asyncio.sleep(0.1)
                assert len(hook.got) == 1
                readings.values["in_flight"] = 1.0
                alerting.look()
                await until(lambda: len(hook.got) == 2)
                events = await AlertDesk(alerting, ["hook"]).history(10, None)

        assert [event.phase for event in events] == ["resolved", "firing"]
        assert b'"status":"resolved"' in hook.got[1][2]

    asyncio.run(main())


def test_undelivered_message_survives_a_restart(tmp_path: Path) -> None:
    """What could not be delivered before a restart is delivered after it."""

    async def main() -> None:
        readings = Given(in_flight=9.0)
        async with watching(tmp_path / "a.db", settings(Busy=BUSY), readings) as alerting:
            alerting.look()
            await until(lambda: alerting.outbox.waiting)
            await asyncio.sleep(0.2)
        with webhook() as hook, clock.driven_by(lambda: later):
            async with watching(tmp_path / "a.db", settings(hook.url, Busy=BUSY), readings):
                await until(lambda: hook.got)

    later = clock.wall_ns() + 3600 * 1_000_000_000
    asyncio.run(main())


def test_rule_that_left_the_settings(tmp_path: Path) -> None:
    """Rules of the settings are those that stand there now; a script's rule stays."""

    async def main() -> list[tuple[str, str]]:
        async with watching(tmp_path / "a.db", settings(Busy=BUSY, Old=BUSY), Given()) as alerting:
            await alerting.put_rule(Rule("me", "Mine", "in_flight > 3"))
            with pytest.raises(BadRequest, match="changed there"):
                await alerting.put_rule(Rule("settings", "Busy", "in_flight > 3"))
        async with watching(tmp_path / "a.db", settings(Busy=BUSY), Given()) as alerting:
            return sorted(alerting.rules)

    assert asyncio.run(main()) == [("me", "Mine"), ("settings", "Busy")]


def test_end_while_storing_stores_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends in the middle of storing has each event in its history once."""
    entered, proceed = threading.Event(), threading.Event()
    save = AlertStore.save

    def slowly(store: AlertStore, step: Step) -> None:
        entered.set()
        proceed.wait(20)
        save(store, step)

    async def main() -> list[str]:
        alerting = Alerting(
            tmp_path / "a.db", settings(Busy=BUSY), Given(in_flight=9.0), Meter(private_slab()), url=""
        )
        await alerting.start()
        task = asyncio.create_task(alerting._save_changes())
        monkeypatch.setattr(AlertStore, "save", slowly)
        alerting.look()
        await asyncio.to_thread(entered.wait, 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        proceed.set()
        await alerting.aclose()
        again = AlertStore(tmp_path / "a.db")
        found = [event.name for event in again.history()]
        again.close()
        return found

    assert asyncio.run(main()) == ["Busy"]


def test_deleted_rule_ends_on_record(tmp_path: Path) -> None:
    """A rule that is deleted while it fires has its end in the history."""

    async def main() -> list[str]:
        async with watching(tmp_path / "a.db", settings(), Given(in_flight=9.0)) as alerting:
            desk = AlertDesk(alerting, [])
            await desk.put_rule(Rule("me", "Mine", "in_flight > 3"))
            alerting.look()
            await desk.delete_rule("me", "Mine")
            async with asyncio.timeout(20):
                while len(events := await desk.history(10, None)) < 2:
                    await asyncio.sleep(0.01)
            return [event.phase.value for event in events]

    assert asyncio.run(main()) == ["resolved", "firing"]


def test_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers are told all the same; what was not stored is stored when the file is there again."""
    monkeypatch.setattr(module, "SAVE_AGAIN_SECONDS", 0.05)

    async def main() -> None:
        folder = tmp_path / "folder"
        folder.write_text("in the way", encoding="utf-8")
        with webhook() as hook:
            async with watching(
                folder / "a.db", settings(hook.url, Busy=BUSY), Given(in_flight=9.0)
            ) as alerting:
                assert "folder" in alerting.failure
                alerting.look()
                await until(lambda: hook.got)
                desk = AlertDesk(alerting, ["hook"])
                assert (await desk.overview()).failure
                with pytest.raises(StoreFailed):
                    await desk.history(10, None)
                folder.unlink()
                await until(lambda: not alerting.failure)
                assert [event.name for event in await desk.history(10, None)] == ["Busy"]

    asyncio.run(main())


def test_damaged_file_is_set_aside(tmp_path: Path) -> None:
    """A damaged file costs its history, not the alerts."""
    path = tmp_path / "a.db"

    async def main() -> None:
        async with watching(path, settings(Busy=BUSY), Given(in_flight=9.0)) as alerting:
            alerting.look()
        path.write_bytes(b"no database at all" * 1000)
        async with watching(path, settings(Busy=BUSY), Given(in_flight=9.0)) as alerting:
            alerting.look()
            assert alerting.failure == ""
            assert alerting.evaluator.firing()["critical"] == 1

    asyncio.run(main())
    assert list(tmp_path.glob("a.db.corrupt-*"))


def test_folder_that_goes_away_while_watching(tmp_path: Path) -> None:
    """A deleted file is a failure that is shown, and the looks go on."""

    async def main() -> None:
        (tmp_path / "gone").mkdir()
        readings = Given(in_flight=9.0)
        async with watching(tmp_path / "gone" / "a.db", settings(Busy=BUSY), readings) as alerting:
            shutil.rmtree(tmp_path / "gone")
            for value in (9.0, 1.0, 9.0):
                readings.values["in_flight"] = value
                alerting.look()
            assert alerting.evaluator.firing()["critical"] == 1

    asyncio.run(main())


def test_clock_steps_make_nothing_fire(tmp_path: Path) -> None:
    """`for 1h` is not over because the wall clock was set forward by a day, nor lost when it goes back."""
    rule = AlertRule(condition="in_flight > 3 for 1h", severity="critical")

    async def main() -> list[str]:
        async with watching(tmp_path / "a.db", settings(Busy=rule), Given(in_flight=9.0)) as alerting:
            phases = []
            for step in (0, 86400, -86400):
                base = real()
                clock.wall_ns = lambda base=base, step=step: base + step * 1_000_000_000
                alerting.look()
                phases.append(alerting.evaluator.views(0)[0].phase.value)
            return phases

    real = clock.wall_ns
    try:
        assert asyncio.run(main()) == ["pending"] * 3
    finally:
        clock.wall_ns = real


def test_disabled(tmp_path: Path) -> None:
    """Switched off, nothing is asked."""
    asked = Settings(alerts=Alerts(enabled=False, rules={"Busy": BUSY}))
    readings = Given(in_flight=9.0)

    async def main() -> None:
        async with watching(tmp_path / "a.db", asked, readings) as alerting:
            alerting.look()

    asyncio.run(main())
    assert readings.asked == []


def test_mistake_in_the_settings(tmp_path: Path) -> None:
    """A rule of the settings that cannot be understood keeps the server from starting, with its name."""
    asked = settings(Busy=AlertRule(condition="in_flihgt > 3"))
    with pytest.raises(ConfigurationError, match=r"alerts\.rules\.Busy\.condition.*no metric `in_flihgt`"):
        Alerting(tmp_path / "a.db", asked, Given(), Meter(private_slab()), url="")
