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
from slipstream.store.values import Value

HELD_MAX = 5_000
"""Stretches that are kept, of all processes, about 2 MB; more than stalls with their stacks."""
PLACED_MAX = 10_000
"""Requests whose process is kept, about 2 MB; by what came together, so a few more."""


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
        self._served: deque[tuple[str, list[Value]]] = deque()
        self._placed = 0

    def stalled(self, process: str, stall: Stall) -> None:
        """One more stretch; what the oldest told is not known any more where there are too many."""
        self._held.append(held(process, stall))
        if len(self._held) > HELD_MAX:
            self._since_ns = max(self._since_ns, self._held.popleft().end_ns)

    def served(self, process: str, rows: Sequence[Row]) -> None:
        """A process has served these requests."""
        if self._processes() == 1 or not rows:
            return
        self._served.append((process, [id_of(row) for row in rows]))  # 0.2 us a request
        self._placed += len(rows)
        while self._placed - len(self._served[0][1]) >= PLACED_MAX:
            self._placed -= len(self._served.popleft()[1])

    def surroundings(self) -> Surroundings:
        """All of it as it is now, for whoever reads it in another thread."""
        since_ns = self._since_ns
        placed = {name: process for process, names in self._served for name in names}
        only = "worker 0" if self._processes() == 1 else ""

        def process_of(record: Record) -> str:
            is_known = self._is_watched and record.arrived_wall_ns >= since_ns
            return placed.get(record.id, only) if is_known else ""

        return Surroundings(tuple(self._held), process_of=process_of, pooled=frozenset(self._pooled()))
