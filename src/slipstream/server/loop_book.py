"""What the supervisor remembers of event loops: when each stood still, and on which one a request was served.

Bounded, and only of this server's time: of what came before, or was forgotten, it says so.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence

from slipstream.core import clock
from slipstream.core.record import Record
from slipstream.profiling.stalls import Stall
from slipstream.profiling.waits import Held, Surroundings, held
from slipstream.store.rows import Row, id_of

HELD_MAX = 5_000
"""Stretches that are kept, of all processes, about 2 MB; more than stalls with their stacks."""
PLACED_MAX = 10_000
"""Requests whose process is kept, about 2 MB."""


class LoopBook:
    """Kept for the split of what requests waited for.

    Args:
        processes: how many serve requests; where it is one, it is known who served which.
        is_watched: whether stalls are watched for.
        pooled: names of upstreams that are reached through a pool of connections.
    """

    def __init__(
        self, processes: Callable[[], int], *, is_watched: bool, pooled: Callable[[], Collection[str]]
    ) -> None:
        self._processes = processes
        self._is_watched = is_watched
        self._pooled = pooled
        self._since_ns = clock.wall_ns()
        self._held: deque[Held] = deque()
        self._placed: dict[str, str] = {}

    def stalled(self, process: str, stall: Stall) -> None:
        """One more stretch; what the oldest told is not known any more where there are too many."""
        self._held.append(held(process, stall))
        if len(self._held) > HELD_MAX:
            self._since_ns = max(self._since_ns, self._held.popleft().end_ns)

    def served(self, process: str, rows: Sequence[Row]) -> None:
        """A process has served these requests."""
        if self._processes() == 1:
            return
        for row in rows:
            self._placed[str(id_of(row))] = process
        while len(self._placed) > PLACED_MAX:
            del self._placed[next(iter(self._placed))]

    def surroundings(self) -> Surroundings:
        """All of it as it is now, for whoever reads it in another thread."""
        since_ns, placed = self._since_ns, self._placed.copy()
        only = "worker 0" if self._processes() == 1 else ""

        def process_of(record: Record) -> str:
            is_known = self._is_watched and record.arrived_wall_ns >= since_ns
            return placed.get(record.id, only) if is_known else ""

        return Surroundings(tuple(self._held), process_of=process_of, pooled=frozenset(self._pooled()))
