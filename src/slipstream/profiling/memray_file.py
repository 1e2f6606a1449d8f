"""Reads a file of memray: `python -m slipstream.profiling.memray_file FILE LINES STOPPED` says what was kept.

Its output is JSON. It is a process of its own: reading takes seconds in which a server would stand still.
"""

import os
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable

import msgspec

from slipstream.profiling.memory_profile import PARTS, Growth, Seen
from slipstream.profiling.stalls import Place, is_library

_CLOCK_MS = 5
"""What two readings of the wall clock may differ by."""
STACK_MAX = 8
"""Frames that are told of a stack, from the line that is blamed outwards."""
_OURS = tuple(os.path.join(os.path.dirname(__file__), name) for name in ("memory.py", "memory_windows.py"))  # noqa: PTH118, PTH120
Line = tuple[str, int]
Stack = tuple[Place, ...]


class _Line:
    """What is summed up of a line."""

    def __init__(self) -> None:
        self.blocks = 0
        self.parts = [0] * PARTS
        self.stacks: Counter[Stack] = Counter()

    def add(self, stack: Stack, size: int, blocks: int, part: int) -> None:
        self.blocks += blocks
        self.parts[part] += size
        self.stacks[stack] += size


def read(path: str, lines: int, stopped_ms: int) -> Seen:
    """What lines kept at the end of the window and held at its peak, largest first, so many of each.

    Raises `OSError` where memray had to stop before the window did, at `stopped_ms` since 1970: it says so
    on standard error only, and its file reads as if nothing had been kept.
    """
    import memray

    reader = memray.FileReader(path)
    if reader.metadata.end_time.timestamp() * 1000 < stopped_ms - _CLOCK_MS:
        raise OSError("it ends before the window does, for memray could not write: a full disk, or a limit")
    try:
        marks = _parts([each.time for each in reader.get_memory_snapshots()])
        kept: dict[Line, _Line] = defaultdict(_Line)
        for record in reader.get_temporal_allocation_records(merge_threads=True):
            alive = [each for each in record.intervals if each.deallocated_before_snapshot is None]
            if not alive:
                continue
            stack = _blamed(record.stack_trace())
            for each in alive:
                part = marks[min(each.allocated_before_snapshot, len(marks) - 1)]
                kept[_line(stack)].add(stack, each.n_bytes, each.n_allocations, part)
        peak: dict[Line, _Line] = defaultdict(_Line)
        for held in reader.get_high_watermark_allocation_records(merge_threads=True):
            stack = _blamed(held.stack_trace())
            peak[_line(stack)].add(stack, held.size, held.n_allocations, 0)
    finally:
        reader.close()
    return Seen(_largest(kept, lines), _largest(peak, lines, parts=False))


def _parts(times: list[int]) -> list[int]:
    """The part of the window in which each moment that was taken down lies, and what comes after the last."""
    if not times:
        return [0]
    length = max(times[-1] - times[0], 1)
    bounds = [times[0] + length * part / PARTS for part in range(1, PARTS)]
    return [*(bisect_right(bounds, time) for time in times), PARTS - 1]


def _blamed(frames: Iterable[tuple[str, str, int]]) -> Stack:
    """The stack from the innermost line outwards that is not of Python's own library."""
    whole = [Place(file, line, function) for function, file, line in frames]
    for at, place in enumerate(whole):
        if not is_library(place.file):
            return tuple(whole[at : at + STACK_MAX])
    return tuple(whole[:STACK_MAX])


def _line(stack: Stack) -> Line:
    return (stack[0].file, stack[0].line) if stack else ("", 0)


def _largest(found: dict[Line, _Line], lines: int, *, parts: bool = True) -> tuple[Growth, ...]:
    grown = [
        Growth(
            file,
            line,
            sum(each.parts),
            each.blocks,
            tuple(each.parts) if parts else (),
            each.stacks.most_common(1)[0][0] if parts else (),
        )
        for (file, line), each in found.items()
        if not file.startswith(_OURS)
    ]
    return tuple(sorted(grown, key=lambda each: -each.bytes)[:lines])


if __name__ == "__main__":
    try:
        seen = read(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except OSError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(seen))
