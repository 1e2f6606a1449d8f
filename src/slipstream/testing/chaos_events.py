"""Faults inside one event stream: cuts after event k, broken events, a second `[DONE]`. Sans-I/O.

The body comes and goes without its HTTP framing; `chaos_response` puts that back.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from slipstream.testing import chaos_faults as faults
from slipstream.testing.chaos_bodies import long_event
from slipstream.testing.chaos_sse import Event, EventCutter, bad_utf8, half
from slipstream.testing.chaos_toxics import Cut, Hold

Strike = tuple[faults.HttpFault, random.Random]
"""A fault whose die fell on this response, and its source of further draws."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Bytes of the body that come piece by piece; `size` in all."""

    size: int
    pieces: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence of `ns` nanoseconds."""

    ns: int


class Finish:
    """The body ends here, as HTTP asks for."""


Step = bytes | Flow | Pause | Hold | Cut | Finish
"""What is to be done next with the stream; nothing follows a Cut or a Finish."""


class EventFaults:
    """The faults that fell on one event stream.

    Args:
        strikes: faults on event streams, in their order.
        take: counts a strike; False if the fault may not strike any more.
    """

    def __init__(self, strikes: Sequence[Strike], take: Callable[[faults.Fault], bool]) -> None:
        self._strikes = strikes
        self._take = take
        self._cutter = EventCutter()
        self._passed = 0
        self.over = False
        """Whether a fault has ended the stream."""

    def begin(self) -> Iterator[Step]:
        """What happens after the head, before the first event."""
        yield from self._cuts(0)

    def feed(self, data: bytes) -> Iterator[Step]:
        """What becomes of these bytes of the body."""
        for event in self._cutter.feed(data):
            yield from self._event(event)
            if self.over:
                return

    def rest(self) -> bytes:
        """What no blank line ended, at the body's end."""
        return self._cutter.rest()

    def _event(self, event: Event) -> Iterator[Step]:
        if event.data is None:
            yield event.raw
            return
        if event.done:
            yield from self._cuts("done")
            if self.over:
                return
        raw = event.raw
        for fault, dice in self._strikes:
            match fault:
                case faults.SseDoubleDone() if event.done and self._take(fault):
                    yield raw
                case faults.SseHalf() if fault.at == self._passed and self._take(fault):
                    raw = half(event.data, dice)
                case faults.SseBadUtf8() if fault.at == self._passed and self._take(fault):
                    raw = bad_utf8(event.data, dice)
                case faults.SseLongLine() if fault.at == self._passed and self._take(fault):
                    yield Flow(*long_event(fault))
        yield raw
        self._passed += 1
        yield from self._cuts(self._passed)

    def _cuts(self, at: int | str) -> Iterator[Step]:
        for fault, _ in self._strikes:
            if not isinstance(fault, faults.SseCut) or fault.at != at or not self._take(fault):
                continue
            if isinstance(fault, faults.SseHang):
                yield Pause(int(fault.ms * 1_000_000)) if fault.ms else Hold(fault.name)
                continue
            self.over = True
            match fault:
                case faults.SseReset():
                    yield Cut.RESET
                case faults.SseFin():
                    yield Cut.CLOSE
                case faults.SseEnd():
                    yield Finish()
            return
