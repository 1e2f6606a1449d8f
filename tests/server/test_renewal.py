"""Settings that are read again: what a serving worker takes, what waits for a restart, what is refused."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from slipstream.config.settings import Models, Server, Settings, Upstream
from slipstream.core.errors import ConfigurationError
from slipstream.core.stalls import StallSeen
from slipstream.server.renewal import STALLS_MAX, Origin, Renewal, differences, merged

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


def test_workers_are_told_once() -> None:
    """Only where something that they take has changed; whoever is started later begins with it."""
    told: list[Settings] = []
    read = [weighted(0.5), weighted(0.5), weighted(0.5, workers=2)]
    marks: list[str] = []
    renewal = Renewal(ONE, Origin(lambda: read.pop(0), "file"), told.append, noted(marks))
    done = [asyncio.run(renewal.renew()) for _ in range(3)]

    assert [each.taken for each in done] == [("models.upstreams.a.weight",), (), ()]
    assert done[2].need_restart == ("server.workers",)
    assert told == [weighted(0.5)]
    assert marks == ["settings changed: models.upstreams.a.weight"]
    assert renewal.settings == told[0]


def test_wrong_settings_change_nothing() -> None:
    """The error is the file's; what was in force is."""

    def read() -> Settings:
        raise ConfigurationError("line 3: no.")

    renewal = Renewal(ONE, Origin(read, "file"), lambda _: pytest.fail("told"), noted([]))
    with pytest.raises(ConfigurationError, match="line 3"):
        asyncio.run(renewal.renew())
    with pytest.raises(ConfigurationError, match="cannot be read again"):
        asyncio.run(Renewal(ONE, None, lambda _: None, noted([])).renew())

    assert renewal.settings == ONE


def test_stalls_are_kept_up_to_a_bound() -> None:
    """The latest stay, the others are counted."""
    renewal = Renewal(ONE, None, lambda _: None, noted([]))
    for at in range(STALLS_MAX + 5):
        renewal.stalled(StallSeen(at, 0.2))
    view = renewal.view()

    assert len(view.stalls) == STALLS_MAX
    assert (view.stalls[0].wall_ns, view.stalls_forgotten) == (5, 5)
