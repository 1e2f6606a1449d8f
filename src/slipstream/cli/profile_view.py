"""What `slipstream profile` prints: profiles of several processes, steps, waterfalls and stalls as text."""

import datetime as dt
from collections.abc import Iterator

from slipstream.core.record import Record
from slipstream.core.steps import Trace
from slipstream.monitoring.admin import understood
from slipstream.profiling.cpu_profile import CpuProfile
from slipstream.profiling.packed import together, unpack
from slipstream.profiling.recorded import StepsReport
from slipstream.profiling.rendering import shortened, waterfall
from slipstream.server.profile_desk import ServerProfile, StallList

NAME_WIDTH = 36
SHOWN_MAX = 40
SLOWEST_SHOWN = 3


def told(body: bytes) -> ServerProfile:
    """The answer of the server."""
    return understood(body, ServerProfile)


def whole(found: ServerProfile) -> CpuProfile:
    """The profiles of all processes as one, each below its own name."""
    return together({each.process: unpack(each.cpu) for each in found.processes if each.cpu is not None})


def process_lines(found: ServerProfile) -> Iterator[str]:
    """How much CPU each process used while it was looked at."""
    for each in found.processes:
        if each.cpu is not None:
            used = sum(each.cpu.cpu_ns) / 1e9
            yield f"{each.process} (pid {each.pid}): CPU {used:.3f} s in {each.cpu.seconds:.2f} s"


def steps_table(report: StepsReport) -> str:
    """The steps, the one that takes most of the time first."""
    return "\n".join(_steps_lines(report))


def _steps_lines(report: StepsReport) -> Iterator[str]:
    if not report.requests:
        yield "No request is recorded in this time."
        return
    cut = ", the newest only" if report.cut else ""
    counted = "1 request" if report.requests == 1 else f"{report.requests} requests"
    yield f"{counted}{cut}: p50 {_ms(report.p50_ms)}, p95 {_ms(report.p95_ms)}"
    yield ""
    heads = ("count", "mean", "p50", "p95", "max", "time", "tail", "gap")
    yield f"{'step':<{NAME_WIDTH}}" + "".join(f"{head:>10}" for head in heads)
    has_tail = any(row.tail_variance or row.tail_gap for row in report.rows)
    for row in report.rows:
        times = (row.mean_ms, row.p50_ms or None, row.p95_ms or None, row.max_ms or None)
        tails = [f"{share:.0%}" if has_tail else "-" for share in (row.tail_variance, row.tail_gap)]
        cells = [str(row.count), *map(_ms, times), f"{row.share:.0%}", *tails]
        yield f"{shortened(row.step, NAME_WIDTH):<{NAME_WIDTH}}" + "".join(f"{cell:>10}" for cell in cells)
    yield ""
    yield "time: share of the whole. tail, gap: part in what makes slow requests slow. Each adds up to 100 %."
    if report.waits:
        yield "Waits for: " + ", ".join(f"{name} {share:.0%}" for name, share in report.waits.items())
        if report.unplaced:
            yield f"Of {report.unplaced} requests it is not known whether the event loop held them up."
    if report.bottleneck:
        yield f"Bottleneck: {report.bottleneck}: {report.reason}"
    else:
        yield f"Bottleneck: none stands out: {report.reason}"
    if report.slowest:
        slowest = (f"{each.id} {_ms(each.duration_ms)}" for each in report.slowest[:SLOWEST_SHOWN])
        yield f"Slowest (`slipstream profile request ID`): {', '.join(slowest)}"


def request_text(record: Record, trace: Trace) -> str:
    """One request: what it was, its steps, and its first token."""
    lines = [
        f"{record.id}  {record.outcome} {record.status or ''}".rstrip(),
        f"{_moment(record.arrived_wall_ns / 1e9)}  model {record.model or record.model_asked or '-'}",
        waterfall(trace),
    ]
    if record.first_token_ns is not None:
        lines.append(f"first token after {_ms(record.first_token_ns / 1e6)}")
    if record.in_flight > 1:
        lines.append(f"{record.in_flight - 1} others were under way when it came")
    return "\n".join(lines)


def stall_lines(found: StallList) -> Iterator[str]:
    """The newest first."""
    if not found.watched:
        yield "Event loops are not watched: `profiling.stalls` is off."
    if not found.stalls:
        yield "No stall since the server began."
    for stall in found.stalls[:SHOWN_MAX]:
        yield f"{_moment(stall.at)}  {stall.process:<12} {stall.said}"
    if found.count > min(len(found.stalls), SHOWN_MAX):
        yield f"{found.count} in all."


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    if 0 < value < 0.1:
        return f"{value * 1e3:.3g} us"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"
