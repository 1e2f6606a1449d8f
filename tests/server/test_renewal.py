"""Settings that are read again: what a serving worker takes, what waits for a restart, what is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from slipstream.config.renewable import merged
from slipstream.config.settings import Local, Models, Server, Settings, Upstream
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, Unavailable
from slipstream.core.stalls import StallSeen
from slipstream.server.renewal import STALLS_MAX, Origin, Renewal, Renewed, differences

ONE = Settings(models=Models(upstreams={"a": Upstream(url="http://127.0.0.1:1")}))


def weighted(weight: float, **server: object) -> Settings:
    upstreams = {"a": msgspec.structs.replace(ONE.models.upstreams["a"], weight=weight)}
    return Settings(models=Models(upstreams=upstreams), server=Server(**server))  # type: ignore[arg-type]


def test_what_is_taken_and_what_is_not() -> None:
    """An upstream's weight is taken; the number of workers waits for a restart."""
    other = weighted(0.5, workers=3)

    assert differences(ONE, other) == (("models.upstreams.a.weight",), ("server.workers",))
    now = merged(ONE, other)
    assert (now.models.upstreams["a"].weight, now.server.workers) == (0.5, 1)
    assert differences(ONE, ONE) == ((), ())


def noted(marks: list[str]) -> Callable[[str], Awaitable[None]]:
    """Where the marks go."""

    async def mark(text: str) -> None:
        marks.append(text)

    return mark


def telling(told: list[Settings]) -> Callable[[Settings], Awaitable[None]]:
    """Where the settings go."""

    async def tell(settings: Settings) -> None:
        told.append(settings)

    return tell


async def unasked(local: Local) -> None:
    """For settings that need no other process of the embedded model."""
    pytest.fail(f"another process was asked for: {local}")


def renewal_of(origin: Origin | None, told: list[Settings], marks: list[str]) -> Renewal:
    return Renewal(ONE, origin, telling(told), noted(marks), prepare=unasked)


def test_workers_are_told_once() -> None:
    """Only where something that they take has changed; whoever is started later begins with it."""
    told: list[Settings] = []
    read = [weighted(0.5), weighted(0.5), weighted(0.5, workers=2)]
    marks: list[str] = []
    renewal = renewal_of(Origin(lambda: read.pop(0), "file"), told, marks)
    done = [asyncio.run(renewal.renew()) for _ in range(3)]

    assert [each.taken for each in done] == [("models.upstreams.a.weight",), (), ()]
    assert done[2].need_restart == ("server.workers",)
    assert told == [weighted(0.5)]
    assert marks == ["settings changed: models.upstreams.a.weight"]
    assert renewal.settings == told[0]


def test_what_is_taken_back_was_no_change() -> None:
    """Tried, taken back, tried again and kept: those before hold since when they held, those kept since now."""
    read = [weighted(0.5), ONE, weighted(0.5), ONE, weighted(0.25)]
    renewal = renewal_of(Origin(lambda: read.pop(0), "file"), [], [])
    seen = []
    for _ in range(5):
        asyncio.run(renewal.renew())
        seen.append(renewal.view().changed_wall_ns)

    assert (seen[1], seen[3]) == (0, 0)
    assert 0 < seen[0] < seen[2] < seen[4]


def test_the_last_change_is_told() -> None:
    """Never at first, nor where nothing was taken; then the time at which the workers held it."""
    read = [ONE, weighted(1.0, workers=2), weighted(0.5), weighted(0.5)]
    renewal = renewal_of(Origin(lambda: read.pop(0), "file"), [], [])
    before, seen = clock.wall_ns(), []
    for _ in range(4):
        asyncio.run(renewal.renew())
        seen.append(renewal.view().changed_wall_ns)

    assert seen[:2] == [0, 0]
    assert before <= seen[2] <= clock.wall_ns()
    assert seen[3] == seen[2]


def test_a_restart_with_other_settings_is_a_change(tmp_path: Path) -> None:
    """The first start is none, the same settings again are none; others are, and so is what is taken while serving."""
    path = tmp_path / "settings.json"

    def started(settings: Settings, *read: Settings) -> list[int]:
        left = list(read)
        renewal = Renewal(
            settings, Origin(lambda: left.pop(0), "file"), telling([]), noted([]), prepare=unasked
        )
        renewal.begin(path)
        seen = [renewal.view().changed_wall_ns]
        for _ in read:
            asyncio.run(renewal.renew())
            seen.append(renewal.view().changed_wall_ns)
        return seen

    before = clock.wall_ns()
    first, again, other = started(ONE), started(weighted(1.0, port=0)), started(weighted(0.5))
    kept = started(weighted(0.5), weighted(0.25))
    tried = started(weighted(0.25), weighted(0.125), weighted(0.25))

    assert (first, again) == ([0], [0])
    assert before < other[0] < kept[1]
    assert kept[0] == other[0]
    assert tried[0] == tried[2] == kept[1] < tried[1]
    assert started(weighted(0.25)) == [kept[1]]
    assert started(weighted(0.25, workers=2))[0] > tried[1]


def test_where_nothing_can_be_written_it_serves_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder in the file's place: a warning, and settings are taken as ever."""
    path = tmp_path / "settings.json"
    path.mkdir()
    renewal = renewal_of(Origin(lambda: weighted(0.5), "file"), [], [])
    renewal.begin(path)
    done = asyncio.run(renewal.renew())

    assert done.taken == ("models.upstreams.a.weight",)
    assert caplog.text.count("cannot be written") == 2


def test_wrong_settings_change_nothing() -> None:
    """The error is the file's; what was in force is."""

    def read() -> Settings:
        raise ConfigurationError("line 3: no.")

    told: list[Settings] = []
    renewal = renewal_of(Origin(read, "file"), told, [])
    with pytest.raises(ConfigurationError, match="line 3"):
        asyncio.run(renewal.renew())
    with pytest.raises(ConfigurationError, match="cannot be read again"):
        asyncio.run(renewal_of(None, told, []).renew())

    assert (renewal.settings, told) == (ONE, [])


def served_locally(weight: float = 1.0, **local: object) -> Settings:
    settings = weighted(weight)
    models = msgspec.structs.replace(settings.models, local=Local(**local))  # type: ignore[arg-type]
    return msgspec.structs.replace(settings, models=models)


def test_only_other_orders_ask_for_another_process() -> None:
    """Slots do; a system prompt is taken as it is, and a name waits for a restart."""
    asked: list[Local] = []
    told: list[Settings] = []
    read = [
        served_locally(system_prompt="Be brief.", waiting=9),
        served_locally(system_prompt="Be brief.", waiting=9, slots=7),
        served_locally(system_prompt="Be brief.", waiting=9, slots=7, name="other"),
    ]

    async def prepare(local: Local) -> None:
        assert len(told) == 1  # the process is there before the workers hear of it
        asked.append(local)

    renewal = Renewal(ONE, Origin(lambda: read.pop(0), "file"), telling(told), noted([]), prepare=prepare)
    done = [asyncio.run(renewal.renew()) for _ in range(3)]

    assert done == [
        Renewed(("models.local.system_prompt", "models.local.waiting"), ()),
        Renewed(("models.local.slots",), ()),
        Renewed((), ("models.local.name",)),
    ]
    assert asked == [told[1].models.local]
    assert renewal.settings.models.local.slots == 7


def test_where_the_model_cannot_the_rest_is_taken_all_the_same() -> None:
    """The whole section stays as it was and the answer says why; the next time it is tried again."""
    told: list[Settings] = []
    tried: list[int] = []

    async def prepare(local: Local) -> None:
        tried.append(local.slots)
        raise Unavailable("No room.")

    wanted = served_locally(0.5, slots=7, output_tokens=9)
    renewal = Renewal(ONE, Origin(lambda: wanted, "file"), telling(told), noted([]), prepare=prepare)
    first, second = asyncio.run(renewal.renew()), asyncio.run(renewal.renew())

    assert first.taken == ("models.upstreams.a.weight",)
    assert first.refused == ("models.local.output_tokens", "models.local.slots")
    assert "No room." in first.why
    assert (second.taken, second.refused) == ((), first.refused)
    assert told == [weighted(0.5)]
    assert tried == [7, 7]


def test_one_reload_after_the_other() -> None:
    """Two at once: the second reads when the first is done, and finds nothing left to do."""
    told: list[Settings] = []
    under_way: list[int] = []

    async def prepare(local: Local) -> None:
        under_way.append(1)
        assert len(under_way) == 1
        await asyncio.sleep(0.05)
        under_way.pop()

    renewal = Renewal(
        ONE, Origin(lambda: served_locally(slots=7), "file"), telling(told), noted([]), prepare=prepare
    )

    async def both() -> list[Renewed]:
        return list(await asyncio.gather(renewal.renew(), renewal.renew()))

    assert asyncio.run(both()) == [Renewed(("models.local.slots",), ()), Renewed((), ())]
    assert len(told) == 1


def test_stalls_are_kept_up_to_a_bound() -> None:
    """The latest stay, the others are counted."""
    renewal = renewal_of(None, [], [])
    for at in range(STALLS_MAX + 5):
        renewal.stalled(StallSeen(at, 0.2))
    view = renewal.view()

    assert len(view.stalls) == STALLS_MAX
    assert (view.stalls[0].wall_ns, view.stalls_forgotten) == (5, 5)
