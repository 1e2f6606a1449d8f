"""One direction of one connection: what came in, and what is to go out when. No socket, no clock.

The caller feeds what it read, asks for the next piece whenever it can write, and comes back at `wake_at`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from slipstream.testing.chaos_toxics import Cut, Hold, Piece, Stage, Timed

_PIECE_BYTES = 256  # what a piece costs beside its bytes, so that a bound holds for one-byte reads too


class Link:
    """A bounded queue in front of a chain of machines.

    Args:
        most_bytes: with so many waiting the link is `full`, and its reader must pause.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._stages: tuple[Stage, ...] = ()
        self._names: AbstractSet[str] = frozenset()
        self._inbox: deque[Timed] = deque()
        self._flow: Iterator[Timed] = iter(())
        self._flowing = 0
        self._next: Timed | None = None
        self._waiting = 0

    def fit(self, stages: Sequence[Stage], names: AbstractSet[str]) -> None:
        """Put these machines in; `names` are the active faults: what any other holds is released."""
        self._stages = tuple(stages)
        self._names = names

    def feed(self, now: int, piece: bytes | Cut) -> None:
        """Take what came in."""
        self._inbox.append((now, piece))
        self._waiting += _size(piece)

    @property
    def full(self) -> bool:
        """Whether its reader must pause."""
        return self._waiting >= self._most

    @property
    def held(self) -> bool:
        """Whether a fault holds it until that fault is gone."""
        return (
            self._next is not None and isinstance(self._next[1], Hold) and self._next[1].name in self._names
        )

    def take(self, now: int) -> bytes | Cut | None:
        """The next piece to write or cut to make; None = nothing until `wake_at`, or until fed."""
        overdue = self.overdue(now)
        if overdue is not None:
            return overdue
        while True:
            if self._next is None:
                self._next = self._pull()
            if self._next is None or self._next[0] > now or self.held:
                return None
            piece = self._next[1]
            # Pulled ahead, so that `wake_at` knows whether anything is left and the reader can go on.
            self._next = self._pull()
            if not isinstance(piece, Hold):
                return piece

    def overdue(self, now: int) -> Cut | None:
        """The cut whose time has come, whatever waits in front of it."""
        for stage in self._stages:
            if stage.due is not None and stage.due[0] <= now:
                return stage.due[1]
        return None

    @property
    def wake_at(self) -> int | None:
        """When (ns) to ask again; None = when something was fed or the faults changed."""
        due = self.due_at
        if self._next is None or self.held:
            return due
        return self._next[0] if due is None else min(due, self._next[0])

    @property
    def due_at(self) -> int | None:
        """When (ns) a cut strikes, whatever waits in front of it."""
        return min((stage.due[0] for stage in self._stages if stage.due is not None), default=None)

    def _pull(self) -> Timed | None:
        while True:
            for timed in self._flow:
                return timed
            self._waiting -= self._flowing
            self._flowing = 0
            if not self._inbox:
                return None
            at, piece = self._inbox.popleft()
            self._flowing = _size(piece)
            self._flow = _through(self._stages, at, piece)


def _size(piece: Piece) -> int:
    return _PIECE_BYTES + (len(piece) if isinstance(piece, bytes) else 0)


def _through(stages: tuple[Stage, ...], at: int, piece: Piece) -> Iterator[Timed]:
    """The piece through each machine in turn, lazily."""
    flow: Iterator[Timed] = iter([(at, piece)])
    for stage in stages:
        flow = _into(stage, flow)
    return flow


def _into(stage: Stage, flow: Iterator[Timed]) -> Iterator[Timed]:
    for at, piece in flow:
        if isinstance(piece, Hold):
            yield at, piece
        else:
            yield from stage.push(at, piece)
