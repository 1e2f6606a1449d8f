"""Toxics as state machines over timed pieces of a byte stream; no socket, no clock, no dice of their own.

A piece goes in with the time (ns) at which it came and comes out with the time at which it is to go on.
Output is lazy: a machine makes the next piece when it is asked for it, so a flood needs no memory.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from slipstream.testing import chaos_faults as faults

_MS = 1_000_000
_SECOND = 1_000_000_000


class Cut(Enum):
    """How a stream breaks off."""

    FIN = "fin"
    """The sender is done; the other direction lives on."""
    CLOSE = "close"
    """Both directions end cleanly."""
    RESET = "reset"
    """RST to both sides."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing further passes until the fault of this name is gone."""

    name: str


Piece = bytes | Cut | Hold
Timed = tuple[int, Piece]
"""A piece, and the monotonic time in nanoseconds at which it is to go on."""


class Stage(Protocol):
    """One machine of a direction."""

    @property
    def due(self) -> tuple[int, Cut] | None:
        """When to break off even if nothing comes; None = never."""

    def push(self, at: int, piece: Piece) -> Iterator[Timed]:
        """Take a piece that came at `at` (ns) and give what is to go on, lazily, in order."""


class Latency:
    """Everything later by a delay drawn around `ms`."""

    due = None

    def __init__(self, fault: faults.Latency, dice: random.Random) -> None:
        self._ms, self._jitter, self._dice = fault.ms, fault.jitter, dice

    def push(self, at: int, piece: Piece) -> Iterator[Timed]:
        """Delay the piece."""
        delay = self._ms + self._dice.uniform(-self._jitter, self._jitter) if self._jitter else self._ms
        yield at + max(0, int(delay * _MS)), piece


class Bandwidth:
    """A line that carries so many bytes a second; a piece arrives when its last byte does."""

    due = None

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._portion = max(1, int(bytes_per_second / 20))  # 50 ms worth: even, and few timers
        self._free_at = 0

    def push(self, at: int, piece: Piece) -> Iterator[Timed]:
        """Send in portions, each when the line has carried it."""
        self._free_at = max(self._free_at, at)
        if not isinstance(piece, bytes):
            yield self._free_at, piece
            return
        for start in range(0, len(piece), self._portion):
            portion = piece[start : start + self._portion]
            self._free_at += int(len(portion) / self._rate * _SECOND)
            yield self._free_at, portion


class SlowClose:
    """The end comes late, the bytes do not."""

    due = None

    def __init__(self, fault: faults.SlowClose) -> None:
        self._delay = int(fault.ms * _MS)

    def push(self, at: int, piece: Piece) -> Iterator[Timed]:
        """Delay the end."""
        yield (at if isinstance(piece, bytes | Hold) else at + self._delay), piece


class Timeout:
    """Nothing passes; closes after `ms`, or holds until the fault is gone."""

    def __init__(self, fault: faults.Timeout, now: int) -> None:
        self._hold = Hold(fault.name)
        self.due = (now + int(fault.ms * _MS), Cut.CLOSE) if fault.ms else None

    def push(self, at: int, piece: Piece) -> Iterator[Timed]:
        """Hold the stream in front of the piece."""
        yield at, self._hold
        yield at, piece


class Cutter:
    """Breaks off after a number of bytes, or at a time."""

    def __init__(self, cut: Cut, *, size: int | None, due_ns: int | None) -> None:
        self._cut = cut
        self._left = size
        self.due = (due_ns, cut) if due_ns is not None else None

    def push(self, at: int, piece: Piece) -> Iterator[Timed]:
        """Pass what is left of the allowance, then break off for good."""
        if self._left is None or not isinstance(piece, bytes):
            yield at, piece
            return
        allowed = piece[: self._left]
        self._left -= len(allowed)
        if allowed:
            yield at, allowed
        if not self._left:
            yield at, self._cut


class Slicer:
    """Cuts the stream at offsets that depend on the dice alone, not on how the bytes came.

    A slice whose end has not come yet is passed as far as it goes: nothing is kept back.
    """

    due = None

    def __init__(self, next_size: Callable[[], int], delay_us: float) -> None:
        self._next_size = next_size
        self._delay = int(delay_us * 1000)
        self._left = next_size()
        self._free_at = 0

    def push(self, at: int, piece: Piece) -> Iterator[Timed]:
        """Cut the piece at the next offsets."""
        self._free_at = max(self._free_at, at)
        if not isinstance(piece, bytes):
            yield self._free_at, piece
            return
        start = 0
        while start < len(piece):
            part = piece[start : start + self._left]
            yield self._free_at, part
            start += len(part)
            self._left -= len(part)
            if not self._left:
                self._left = self._next_size()
                self._free_at += self._delay


def around(size: int, variation: int, dice: random.Random) -> Callable[[], int]:
    """Slice sizes even around `size`, at least 1."""
    return lambda: max(1, size + (dice.randint(-variation, variation) if variation else 0))


def anywhere(mean: int, dice: random.Random) -> Callable[[], int]:
    """Slice sizes 1 + exponential with this mean: any byte may be the last one of a slice."""
    return lambda: 1 + int(dice.expovariate(1 / (mean - 0.5))) if mean > 1 else 1


def machine(fault: faults.Toxic, dice: random.Random, now: int) -> Stage:
    """The machine of a toxic that begins to act at `now` (ns)."""
    match fault:
        case faults.Latency():
            return Latency(fault, dice)
        case faults.Bandwidth():
            return Bandwidth(fault.bytes_per_second)
        case faults.SlowClose():
            return SlowClose(fault)
        case faults.Timeout():
            return Timeout(fault, now)
        case faults.ResetPeer():
            timed = fault.ms or not fault.size
            due = now + int(fault.ms * _MS) if timed else None
            return Cutter(Cut.RESET, size=fault.size or None, due_ns=due)
        case faults.LimitData():
            return Cutter(Cut.CLOSE, size=fault.size, due_ns=None if fault.size else now)
        case faults.Slicer():
            return Slicer(around(fault.size, fault.variation, dice), fault.delay_us)
        case faults.Split():
            return Slicer(anywhere(fault.mean, dice), fault.delay_us)
    raise AssertionError(fault)
