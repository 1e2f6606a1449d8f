"""A profile as text for people: a table of steps, the bottleneck, the call tree, a call's waterfall."""

import itertools
from collections.abc import Iterator, Mapping

from slipstream.core.steps import DEPTH_MAX, SPANS_MAX, Span, Trace
from slipstream.profiling.call_tree import CallNode
from slipstream.profiling.step_timing import MS, StepTiming

NAME_WIDTH = 36
BAR_WIDTH = 40
ROWS_MAX = 40


def shortened(text: str, width: int) -> str:
    """Not wider than that: a longer one loses its middle, for its begin and its end say most."""
    if len(text) <= width:
        return text
    left = (width - 1) // 2
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"


def waterfall(trace: Trace) -> str:
    """One call, span by span, each a bar where its time lies."""
    root = trace.root
    lines = [f"{root.name}  {_ms(root.duration_ns / MS)}{_failure(root)}"]
    for span in itertools.islice(trace.spans(), 1, None):
        bar = _bar(span.start_ns - root.start_ns, span.duration_ns, root.duration_ns)
        name = shortened("  " * span.depth + span.name, NAME_WIDTH)
        lines.append(f"{name:<{NAME_WIDTH}} {_ms(span.duration_ns / MS):>9} |{bar}|{_failure(span)}")
        if len(lines) > ROWS_MAX:
            lines.append(f"… {trace.size - ROWS_MAX} more")
            break
    if trace.overflow:
        count = sum(each.count for each in trace.overflow.values())
        lines.append(f"… {count} steps beyond {SPANS_MAX} or {DEPTH_MAX} levels are only in the sums")
    return "\n".join(lines)


def call_line(name: str, timing: StepTiming) -> str:
    """A profiled function in a line."""
    failed = f", {timing.errors} failed" if timing.errors else ""
    spread = f"p50 {_ms(timing.p50)}, p95 {_ms(timing.p95)}, max {_ms(timing.max)}"
    return f"{name}: {timing.count} calls{failed}, {spread}"


def step_table(steps: Mapping[str, StepTiming], tails: Mapping[str, float]) -> Iterator[str]:
    """The steps, a line each, with their shares in the slow calls; at most a screen of them."""
    heads = ("count", "total", "self", "mean", "p50", "p95", "max", "tail")
    yield f"{'step':<{NAME_WIDTH}}" + "".join(f"{head:>10}" for head in heads)
    for name, timing in itertools.islice(steps.items(), ROWS_MAX):
        yield _row(name, timing, tails.get(name))
    if len(steps) > ROWS_MAX:
        yield f"… {len(steps) - ROWS_MAX} more steps"


def _row(name: str, timing: StepTiming, tail: float | None) -> str:
    cells = [str(timing.count)]
    cells += [
        _ms(value)
        for value in (float(timing), timing.self_ms, timing.mean, timing.p50, timing.p95, timing.max)
    ]
    cells.append("" if tail is None else f"{tail:.0%}")
    return f"{shortened(name, NAME_WIDTH):<{NAME_WIDTH}}" + "".join(f"{cell:>10}" for cell in cells)


def tree_lines(nodes: tuple[CallNode, ...], depth: int = 0) -> Iterator[str]:
    """The call tree, a line a place."""
    for node in nodes:
        name = "  " * depth + node.name
        cells = (str(node.count), _ms(node.total_ms), _ms(node.self_ms))
        yield f"{shortened(name, NAME_WIDTH):<{NAME_WIDTH}}" + "".join(f"{cell:>10}" for cell in cells)
        yield from tree_lines(node.children, depth + 1)


def _bar(start_ns: int, duration_ns: int, whole_ns: int) -> str:
    unit = max(whole_ns, 1) / BAR_WIDTH
    left = min(BAR_WIDTH - 1, int(start_ns / unit))
    length = max(1, min(BAR_WIDTH - left, round(duration_ns / unit)))
    return " " * left + "█" * length + " " * (BAR_WIDTH - left - length)


def _failure(span: Span) -> str:
    return f"  {span.error}" if span.error else ""


def _ms(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    if 0 < value < 0.1:
        return f"{value * 1e3:.3g} us"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"
