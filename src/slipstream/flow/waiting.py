"""Requests that wait until an upstream can take them: bounded, in order, each until its own time."""

import asyncio

from slipstream.core.errors import Unavailable
from slipstream.flow.select import NAMES_SHOWN, Course

PACE_SECONDS = 0.005
"""Between two that are woken: 200 a second."""

_WORDS = {
    "closed": "busy",
    "open": "open",
    "half_open": "being tried",
    "ejected": "ejected",
    "held": "asked to be left alone",
}


class Waiters:
    """Whoever waits, on one loop. `woken` tells all of them to look again."""

    __slots__ = ("_bound", "_waiting")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._waiting: dict[object, asyncio.Future[None] | None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self) -> object | None:
        """A place among them, to be given back with `leave`; None where there is none left."""
        if len(self._waiting) >= self._bound:
            return None
        place = object()
        self._waiting[place] = None
        return place

    async def sleep(self, place: object, seconds: float) -> None:
        """Wait until woken, `seconds` at most."""
        loop = asyncio.get_running_loop()
        woken = self._waiting[place] = loop.create_future()
        timer = loop.call_later(seconds, _set, woken)
        try:
            await woken
        finally:
            timer.cancel()
            self._waiting[place] = None

    def leave(self, place: object) -> None:
        """Wait no more."""
        self._waiting.pop(place, None)

    def wake(self) -> None:
        """Something has changed: they look again in order, and paced, lest they flood what has come back."""
        loop = asyncio.get_running_loop()
        asleep = [woken for woken in self._waiting.values() if woken is not None]
        for place, woken in enumerate(asleep):
            loop.call_later(place * PACE_SECONDS, _set, woken)


def _set(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)


def nobody_is_free(course: Course, now_ns: int, *, is_full: bool = False) -> Unavailable:
    """The error of a request that found no endpoint in time: each by name, and why."""
    told: list[str] = []
    for place in course.places():
        state, why, left = place.condition(now_ns)
        about = f" ({why})" if why else ""
        until = f" for {left:.1f} s more" if left else ""
        told.append(f"{place.label} / {place.model}: {_WORDS[state]}{until}{about}")
    shown = "; ".join(told[:NAMES_SHOWN]) + (" …" if len(told) > NAMES_SHOWN else "")
    asked = course.stages[0].name
    ready_ns = course.ready_ns(now_ns) or now_ns
    waiting = " and as many requests as may wait for one already do" if is_full else ""
    return Unavailable(
        f"No upstream of the model `{asked}` takes requests{waiting}. {shown}.",
        hint="Try again later; models.wait_seconds and models.waiting bound the wait.",
        code="no_upstream_free",
        retry_after_seconds=max(1.0, (ready_ns - now_ns) / 1e9),
    )
