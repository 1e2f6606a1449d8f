"""What a CPU profiler saw: stacks and the CPU time spent in each, for people and for flame graph tools."""

from collections.abc import Callable, Iterable

import msgspec
from msgspec import Struct

ROWS_MAX = 20
_NAME_WIDTH = 44


class Frame(Struct, frozen=True):
    """A function and the line in it that ran."""

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.function} ({self.short_file}:{self.line})" if self.file else self.function

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
    """A place in the code: CPU seconds in it alone, and with all that it called."""

    name: str
    self_seconds: float
    total_seconds: float


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
        if not self.looks:
            return "nothing sampled yet"
        share = self.cpu_seconds / self.seconds if self.seconds else 0.0
        used = f"CPU {self.cpu_seconds:.3f} s in {self.seconds:.2f} s ({share:.0%} of a core)"
        lines = [
            f"{used}; {self._cost()}",
            f"{'function':<{_NAME_WIDTH}}{'self':>10}{'total':>10}",
        ]
        lines.extend(_rows(self.functions(), self.cpu_seconds))
        lines.append(f"{'line':<{_NAME_WIDTH}}")
        lines.extend(_rows(self.lines()[:5], self.cpu_seconds))
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
        for sample in self.samples:
            if not sample.stack:
                continue
            for name in {name_of(frame) for frame in sample.stack}:  # once, also where it called itself
                total[name] = total.get(name, 0) + sample.cpu_ns
            last = name_of(sample.stack[-1])
            own[last] = own.get(last, 0) + sample.cpu_ns
        ranked = sorted(total, key=lambda name: (-own.get(name, 0), -total[name], name))
        return [Spot(name, own.get(name, 0) / 1e9, total[name] / 1e9) for name in ranked]


def _rows(spots: Iterable[Spot], whole: float) -> list[str]:
    rows = []
    for spot in list(spots)[:ROWS_MAX]:
        own, total = (f"{each / max(whole, 1e-9):.1%}" for each in (spot.self_seconds, spot.total_seconds))
        rows.append(f"{spot.name[:_NAME_WIDTH]:<{_NAME_WIDTH}}{own:>10}{total:>10}")
    return rows
