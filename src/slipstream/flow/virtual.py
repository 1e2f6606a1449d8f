"""An event loop on virtual time: the real way of a request runs on it in seconds instead of hours.

Its selector does not wait: asked to, it moves the clock to the next timer. So a test is deterministic,
and a prediction can replay an hour of traffic through the code that serves it. It watches no file and
no socket; code that opens one will find that nothing ever arrives.
"""

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from slipstream.core import clock

T = TypeVar("T")

START_NS = 1_000_000_000
"""Where virtual time begins; not zero, which a record takes for "closed"."""


class VirtualClock(selectors.BaseSelector):
    """Time that passes only when everybody waits. Fills the place of the loop's selector."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self._keys: dict[int, selectors.SelectorKey] = {}

    def time(self) -> float:
        """The loop's clock, in seconds."""
        return self.now_ns / 1e9

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let `timeout` seconds pass at once."""
        if timeout is None:
            raise RuntimeError("Nothing will ever happen: every task waits and no timer is set.")
        if timeout > 0:
            self.now_ns += max(1, round(timeout * 1e9))
        return []

    def register(self, fileobj: Any, events: int, data: object = None) -> selectors.SelectorKey:
        """Take note of a file, as the loop does with its own wake-up pipe."""
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = selectors.SelectorKey(fileobj, descriptor, events, data)
        self._keys[descriptor] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Forget a file."""
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """What was taken note of."""
        return self._keys

    def close(self) -> None:
        """Forget everything."""
        self._keys.clear()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is a `VirtualClock`."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        super().__init__(self.clock)

    def time(self) -> float:
        """Seconds of virtual time."""
        return self.clock.time()


def charge(seconds: float) -> None:
    """The running virtual loop is busy for so long: time passes, and nobody else's turn comes."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.clock.now_ns += max(0, round(seconds * 1e9))


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on virtual time, with `core.clock` driven by it as well."""
    loop = VirtualLoop()
    with clock.driven_by(lambda: loop.clock.now_ns), asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)
