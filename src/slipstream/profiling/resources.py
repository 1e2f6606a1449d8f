"""How the resources of this process do: utilisation, saturation and errors of each, as one table.

Method: Brendan Gregg's USE. CPU, memory, disk and network come through a port; every part that announced
itself in `core.use` (pools, queues, event loops) gives its own row. It knows none of them.
"""

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from slipstream.core import clock, defaults
from slipstream.core.errors import BadRequest
from slipstream.core.use import USE, UseRow
from slipstream.profiling.forks import begin_anew
from slipstream.profiling.threads import in_thread

LOOK_SECONDS = 0.25
FIRST_SECONDS = 0.1
"""Between the two looks of a first reading: the kernel counts CPU in steps of 10 ms."""
SECONDS_MAX = 3_600.0
LAG_SECONDS = 0.05
FULL = 0.8
"""From this share on a resource is busy: with random arrivals its queue takes four service times (M/M/1)."""
WAITS_PERCENT = 10.0
"""Work that waits for a resource for so much of the time is slowed by it."""
LATE_MS = 100.0
"""An event loop that runs so late is held up."""
NO_RATES = (
    "No rates yet (CPU, disk, network): they are between two looks. Take another snapshot, "
    "or `await resource_profiler.awatch(seconds)`."
)
_WIDTHS = (34, 10, 24, 10)


class UseSnapshot(Struct, frozen=True):
    """The table of one moment, or of a while; printing it gives the table.

    Attributes:
        rows: one a resource; of a while, the mean utilisation and the worst saturation.
        wall_ns: when.
        seconds: over how long rates were taken; 0 where there was no look before, and so no rate.
    """

    rows: tuple[UseRow, ...]
    wall_ns: int
    seconds: float

    def __getitem__(self, part: str) -> UseRow:
        """The row of a part. Raises `KeyError`."""
        for row in self.rows:
            if row.part == part:
                return row
        raise KeyError(part)

    @property
    def strained(self) -> tuple[UseRow, ...]:
        """Rows that may slow the program down: nearly full, or waited for."""
        return tuple(row for row in self.rows if is_strained(row))

    def __str__(self) -> str:
        told = use_lines(self.rows)
        return "\n".join(told if self.seconds else (*told, NO_RATES))


class ResourceProfiler:
    """Tells how full each resource is, who waits for it and what failed.

    ```python
    resource_profiler = ResourceProfiler()
    print(resource_profiler.snapshot())      # now; rates since the call before, the first one of 0.1 s
    print(resource_profiler.watch(5))        # over five seconds
    print(resource_profiler.report())        # the worst that was seen, and what it means
    ```

    Args:
        rows: gives the rows of the machine's resources; those of this process and its children by default.
    """

    def __init__(self, rows: defaults.Rows | None = None) -> None:
        self._given = rows
        self.forked()
        begin_anew(self)

    def forked(self) -> None:
        """In a forked child nothing was looked at yet: its process is another one."""
        self._rows = self._given
        self._lock = threading.Lock()
        self._looked_ns = 0
        self._worst: dict[str, UseRow] = {}
        self._looks = 0

    def snapshot(self) -> UseSnapshot:
        """The table now; rates are over the time since the look before.

        The first one takes 0.1 s, for its rates. Where an event loop runs in this thread it waits for
        nothing: rates are None then, and the printed table says so.

        Raises `ConfigurationError` where the system lets nobody read its counters.
        """
        if not self._looked_ns and not _is_loop_running():
            self._look(())
            time.sleep(FIRST_SECONDS)
        return self._look(())

    def watch(self, seconds: float) -> UseSnapshot:
        """Look four times a second for so long; a running loop would stand still: `await awatch(seconds)`."""
        _check(seconds)
        if _is_loop_running():
            raise BadRequest(
                "watch(…) would stop the event loop for that long.",
                hint="`await resource_profiler.awatch(seconds)`.",
            )
        watched = _Watched()
        self._look(())  # from here the rates count
        for pause in _pauses(seconds):
            time.sleep(pause)
            watched.add(self._look(()))
        return watched.table()

    async def awatch(self, seconds: float) -> UseSnapshot:
        """The same for coroutines; the running event loop has a row too."""
        _check(seconds)
        watched = _Watched()
        loop = _LoopLag()
        beating = asyncio.get_running_loop().create_task(loop.beat())
        try:
            await in_thread(self._look, ())
            for pause in _pauses(seconds):
                await asyncio.sleep(pause)
                watched.add(await in_thread(self._look, (loop.row(),)))
        finally:
            beating.cancel()
        return watched.table()

    def report(self) -> "UseReport":
        """The worst of all looks up to now, and what is strained."""
        with self._lock:
            return UseReport(tuple(self._worst.values()), self._looks)

    def _look(self, more: Sequence[UseRow]) -> UseSnapshot:
        with self._lock:
            if self._rows is None:
                self._rows = defaults.resource_rows()
            now_ns = clock.monotonic_ns()
            seconds = (now_ns - self._looked_ns) / 1e9 if self._looked_ns else 0.0
            self._looked_ns = now_ns
            rows = (*self._rows(), *more, *USE.rows())
            self._looks += 1
            for row in rows:
                before = self._worst.get(row.part)
                self._worst[row.part] = row if before is None else worse(before, row)
        return UseSnapshot(rows, clock.wall_ns(), seconds)


class UseReport(Struct, frozen=True):
    """The worst that was seen of every resource; printing it says what is strained."""

    rows: tuple[UseRow, ...]
    looks: int

    @property
    def strained(self) -> tuple[UseRow, ...]:
        """Rows that may slow the program down."""
        return tuple(row for row in self.rows if is_strained(row))

    def __str__(self) -> str:
        if not self.looks:
            return "nothing looked at yet"
        found = ", ".join(row.part for row in self.strained)
        said = f"Strained: {found}." if found else "Nothing is strained."
        return "\n".join((f"Worst of {self.looks} looks", *use_lines(self.rows), said))


def is_strained(row: UseRow) -> bool:
    """Whether a resource is nearly full, or work waits for it."""
    if row.utilisation is not None and row.utilisation >= FULL:
        return True
    if row.saturation is None:
        return False
    unit = row.saturation_unit[:2].strip()
    return row.saturation >= {"%": WAITS_PERCENT, "ms": LATE_MS}.get(unit, 1.0)


def worse(one: UseRow, other: UseRow) -> UseRow:
    """The higher of both, column by column; errors and limit are the later one's."""
    return UseRow(
        other.part,
        _higher(one.utilisation, other.utilisation),
        _higher(one.saturation, other.saturation),
        other.saturation_unit or one.saturation_unit,
        other.errors,
        other.limit,
    )


def use_lines(rows: Iterable[UseRow]) -> Iterator[str]:
    """A table as text; what is not known is a dash."""
    yield _line(("resource", "used", "waiting", "errors"))
    for row in rows:
        mark = " !" if is_strained(row) else ""
        errors = "-" if row.errors is None else str(row.errors)
        told = _line((row.part, _percent(row.utilisation), _waiting(row), errors))
        yield f"{told}  {row.limit}{mark}".rstrip()


class _Watched:
    """Rows over a while."""

    def __init__(self) -> None:
        self._worst: dict[str, UseRow] = {}
        self._used: dict[str, list[float]] = {}
        self._seconds = 0.0

    def add(self, seen: UseSnapshot) -> None:
        self._seconds += seen.seconds
        for row in seen.rows:
            before = self._worst.get(row.part)
            self._worst[row.part] = row if before is None else worse(before, row)
            if row.utilisation is not None:
                self._used.setdefault(row.part, []).append(row.utilisation)

    def table(self) -> UseSnapshot:
        rows = []
        for part, row in self._worst.items():
            used = self._used.get(part)
            mean = sum(used) / len(used) if used else None
            rows.append(UseRow(part, mean, row.saturation, row.saturation_unit, row.errors, row.limit))
        return UseSnapshot(tuple(rows), clock.wall_ns(), self._seconds)


class _LoopLag:
    """The running loop: CPU of its thread and how late it runs, since the look before."""

    def __init__(self) -> None:
        self._worst_ms = 0.0
        self._used = 0.0
        self._at_ns, self._cpu_ns = clock.monotonic_ns(), clock.thread_cpu_ns()

    async def beat(self) -> None:
        while True:
            before_ns = clock.monotonic_ns()
            await asyncio.sleep(LAG_SECONDS)
            late_ms = (clock.monotonic_ns() - before_ns) / 1e6 - LAG_SECONDS * 1e3
            self._worst_ms = max(self._worst_ms, late_ms)

    def row(self) -> UseRow:
        """For the loop's own thread only."""
        now_ns, cpu_ns = clock.monotonic_ns(), clock.thread_cpu_ns()
        used = (cpu_ns - self._cpu_ns) / max(1, now_ns - self._at_ns)
        self._at_ns, self._cpu_ns = now_ns, cpu_ns
        late_ms, self._worst_ms = self._worst_ms, 0.0
        return UseRow("event loop", min(1.0, used), late_ms, "ms late", None, "1 core")


def _pauses(seconds: float) -> Iterator[float]:
    left = seconds
    while left > 0:
        yield min(LOOK_SECONDS, left)
        left -= LOOK_SECONDS


def _higher(one: float | None, other: float | None) -> float | None:
    known = [each for each in (one, other) if each is not None]
    return max(known, default=None)


def _line(cells: Sequence[str]) -> str:
    first, *rest = zip(cells, _WIDTHS, strict=True)
    return f"{first[0][: first[1]]:<{first[1]}}" + "".join(f"{cell:>{width}}" for cell, width in rest)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _waiting(row: UseRow) -> str:
    if row.saturation is None:
        return "-"
    return f"{row.saturation:.3g} {row.saturation_unit}".rstrip()


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _check(seconds: float) -> None:
    if not 0 < seconds <= SECONDS_MAX:
        raise BadRequest(
            f"It can be watched for up to {SECONDS_MAX:g} seconds, not {seconds!r}.", param="seconds"
        )
