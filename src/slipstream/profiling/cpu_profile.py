"""What a CPU profiler saw: stacks and the CPU time spent in each, for people and for flame graph tools."""

import shutil
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from slipstream.profiling.rendering import shortened

ROWS_MAX = 20
LINES_MAX = 5
WIDTH = 100
"""Columns of a table where no terminal says how many it has."""
_WIDTHS = 80, 160
_FUNCTION_WANTED, _FUNCTION_MIN = 24, 12
_CELLS = 2 * 8


class Frame(Struct, frozen=True):
    """A function and the line in it that ran."""

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.function} ({self.place})" if self.file else self.function

    @property
    def place(self) -> str:
        """File and line; empty where it has no file."""
        return f"{self.short_file}:{self.line}" if self.file else ""

    @property
    def short_file(self) -> str:
        """The last two parts of its path."""
        return "/".join(self.file.rsplit("/", 2)[-2:])


class Sample(Struct, frozen=True):
    """A stack, outermost frame first, the task that ran, and nanoseconds of CPU time."""

    stack: tuple[Frame, ...]
    tag: str
    cpu_ns: int


class Spot(Struct, frozen=True):
    """A place in the code: CPU seconds in it alone, and with all that it called.

    Attributes:
        function: its function alone.
        place: file and line; of a whole function the line in which most of its time went.
    """

    name: str
    self_seconds: float
    total_seconds: float
    function: str
    place: str


class CpuProfile(Struct, frozen=True):
    """A profile; printing it gives a table.

    Attributes:
        samples: the most expensive first.
        seconds: how long it was looked.
        looks: how often.
        own_seconds: CPU time that looking took, in all processes together.
        own_shares: where profiles of processes were put together, what looking took in each, of a core.
    """

    samples: tuple[Sample, ...]
    seconds: float
    looks: int
    own_seconds: float
    own_shares: tuple[float, ...] = ()

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all threads that was seen."""
        return sum(sample.cpu_ns for sample in self.samples) / 1e9

    def functions(self) -> list[Spot]:
        """By function, the most expensive by itself first."""
        return self._spots(lambda frame: frame.function + (f" ({frame.short_file})" if frame.file else ""))

    def lines(self) -> list[Spot]:
        """By line."""
        return self._spots(str)

    def tasks(self) -> dict[str, float]:
        """CPU seconds by the name of the task that ran; what ran in no task counts as ``."""
        sums: dict[str, float] = {}
        for sample in self.samples:
            sums[sample.tag] = sums.get(sample.tag, 0.0) + sample.cpu_ns / 1e9
        return dict(sorted(sums.items(), key=lambda each: -each[1]))

    def to_collapsed(self) -> str:
        """Collapsed stacks, microseconds each."""
        rows = (
            ";".join(str(frame).replace(";", ":") for frame in sample.stack) + f" {sample.cpu_ns // 1000}"
            for sample in self.samples
            if sample.stack
        )
        return "".join(f"{row}\n" for row in rows)

    def to_speedscope(self) -> bytes:
        """A speedscope file with one sampled profile."""
        frames: dict[Frame, int] = {}
        stacks = [
            [frames.setdefault(frame, len(frames)) for frame in sample.stack] for sample in self.samples
        ]
        profile = {
            "type": "sampled",
            "name": "CPU",
            "unit": "nanoseconds",
            "startValue": 0,
            "endValue": sum(sample.cpu_ns for sample in self.samples),
            "samples": stacks,
            "weights": [sample.cpu_ns for sample in self.samples],
        }
        shared = [{"name": each.function, "file": each.file, "line": each.line} for each in frames]
        return msgspec.json.encode(
            {
                "$schema": "https://www.speedscope.app/file-format-schema.json",
                "name": "slipstream cpu",
                "exporter": "slipstream",
                "shared": {"frames": shared},
                "profiles": [profile],
            }
        )

    def __str__(self) -> str:
        return self.table(shutil.get_terminal_size((WIDTH, 24)).columns)

    def table(self, width: int = WIDTH) -> str:
        """Functions and lines in so many columns, 80 to 160; of a long row the function is cut."""
        if not self.looks:
            return "nothing sampled yet"
        share = self.cpu_seconds / self.seconds if self.seconds else 0.0
        used = f"CPU {self.cpu_seconds:.3f} s in {self.seconds:.2f} s ({share:.0%} of a core)"
        spots = self.functions()[:ROWS_MAX], self.lines()[:LINES_MAX]
        room = _room([spot for group in spots for spot in group], width)
        whole = max(self.cpu_seconds, 1e-9)
        lines = [f"{used}; {self._cost()}"]
        for head, group in zip(("function", "line"), spots, strict=True):
            lines.append(_row(head, room, "self", "total"))
            for spot in group:
                own, total = spot.self_seconds / whole, spot.total_seconds / whole
                lines.append(_row(_label(spot, room), room, f"{own:.1%}", f"{total:.1%}"))
        return "\n".join(lines)

    def _cost(self) -> str:
        whole = self.own_seconds / max(self.seconds, 1e-9)
        if len(self.own_shares) < 2:
            return f"{self.looks} looks, which took {whole:.2%} of a core"
        worst, many = max(self.own_shares), len(self.own_shares)
        looks = f"{self.looks} looks in {many} processes"
        return f"{looks}, which took up to {worst:.2%} of a core in each, {whole:.2%} in all together"

    def _spots(self, name_of: Callable[[Frame], str]) -> list[Spot]:
        own: dict[str, int] = {}
        total: dict[str, int] = {}
        frames: dict[str, dict[Frame, int]] = {}
        for sample in self.samples:
            if not sample.stack:
                continue
            for name in {name_of(frame) for frame in sample.stack}:  # once, also where it called itself
                total[name] = total.get(name, 0) + sample.cpu_ns
            for frame in set(sample.stack):
                times = frames.setdefault(name_of(frame), {})
                times[frame] = times.get(frame, 0) + sample.cpu_ns
            last = name_of(sample.stack[-1])
            own[last] = own.get(last, 0) + sample.cpu_ns
        ranked = sorted(total, key=lambda name: (-own.get(name, 0), -total[name], name))
        return [_spot(name, own.get(name, 0), total[name], frames[name]) for name in ranked]


def _spot(name: str, own_ns: int, total_ns: int, frames: dict[Frame, int]) -> Spot:
    frame = max(frames, key=lambda each: (frames[each], -each.line))
    return Spot(name, own_ns / 1e9, total_ns / 1e9, frame.function, frame.place)


def _room(spots: Sequence[Spot], width: int) -> int:
    """Columns for function and place: what the longest need, and not more than there are."""
    low, high = _WIDTHS
    needed = max((len(spot.function) + 2 + len(spot.place) for spot in spots), default=0)
    return min(max(needed, low - _CELLS), min(max(width, low), high) - _CELLS)


def _label(spot: Spot, room: int) -> str:
    """The function on the left, file and line on the right: of these only the folder may go."""
    place = spot.place
    if len(place) > room - 2 - min(len(spot.function), _FUNCTION_WANTED):
        place = "…/" + place.rpartition("/")[2]
    function = shortened(spot.function, max(room - 2 - len(place), _FUNCTION_MIN))
    return f"{function}  {place:>{room - len(function) - 2}}"


def _row(label: str, room: int, own: str, total: str) -> str:
    return f"{label:<{room}}{own:>8}{total:>8}"
