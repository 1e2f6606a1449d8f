"""A profile as text for people: a table of steps, the bottleneck, the call tree, a call's waterfall."""

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence

from slipstream.core.steps import DEPTH_MAX, SPANS_MAX, Span, Trace
from slipstream.profiling.call_tree import CallNode
from slipstream.profiling.step_timing import MS, StepTiming

NAME_WIDTH = 36
BAR_WIDTH = 40
ROWS_MAX = 40
PATH_ROWS_MAX = 6
TREE_ROWS_MAX, TREE_DEPTH_MAX = 20, 8
_STEP_WIDTH, _PLACE_WIDTH = 28, 55  # with their figures, 9 columns each, within 100


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
    yield _line("step", _STEP_WIDTH, ("count", "total", "self", "mean", "p50", "p95", "max", "tail"))
    for name, timing in itertools.islice(steps.items(), ROWS_MAX):
        yield _step_row(name, timing, tails.get(name))
    if len(steps) > ROWS_MAX:
        yield f"… {len(steps) - ROWS_MAX} more steps"


def _step_row(name: str, timing: StepTiming, tail: float | None) -> str:
    times = (float(timing), timing.self_ms, timing.mean, timing.p50, timing.p95, timing.max)
    cells = (str(timing.count), *map(_ms, times), "" if tail is None else f"{round(tail * 100)}%")
    return _line(name, _STEP_WIDTH, cells)


def path_lines(path: Sequence[tuple[str, float, float]], calls: int) -> Iterator[str]:
    """The critical path of so many calls: steps, mean milliseconds, shares; the first ones and the rest."""
    rows = list(path[:PATH_ROWS_MAX])
    rest = path[PATH_ROWS_MAX:]
    if rest:
        rows.append((f"… {len(rest)} more", sum(each[1] for each in rest), sum(each[2] for each in rest)))
    of_calls = f", {calls} calls" if calls > 1 else ""
    yield _line(f"critical path{of_calls}", _STEP_WIDTH, ("mean", "share"))
    for (name, mean_ms, _), percent in zip(rows, percents([each[2] for each in rows]), strict=True):
        yield _line(name, _STEP_WIDTH, (_ms(mean_ms), f"{percent}%"))


def waits_line(waits: Mapping[str, float]) -> str:
    """What calls wait for."""
    shares = zip(waits, percents(list(waits.values())), strict=True)
    return "Waits for: " + ", ".join(f"{kind} {percent}%" for kind, percent in shares)


def percents(shares: Sequence[float]) -> list[int]:
    """Whole percents of shares of one, which add up as the shares do (by largest remainder)."""
    whole = [int(share * 100) for share in shares]
    left = round(sum(shares) * 100) - sum(whole)
    by_remainder = sorted(range(len(shares)), key=lambda at: whole[at] - shares[at] * 100)
    for at in by_remainder[:left]:
        whole[at] += 1
    return whole


def tree_lines(nodes: Sequence[CallNode]) -> Iterator[str]:
    """The call tree, a line a place: those that take most, each below its own, and how many are not shown."""
    shown = _most_expensive(nodes)
    yield _line("call tree", _PLACE_WIDTH, ("count", "total", "self"))
    hidden = deepest = 0
    for depth, node in _places(nodes):
        deepest = max(deepest, depth + 1)
        if id(node) not in shown:
            hidden += 1
            continue
        cells = (str(node.count), _ms(node.total_ms), _ms(node.self_ms))
        yield _line("  " * depth + node.name, _PLACE_WIDTH, cells)
    if hidden:
        yield f"… {hidden} more places, {deepest} levels in all"


def _most_expensive(nodes: Sequence[CallNode]) -> set[int]:
    """The identities of the places to be shown; none without the one above it."""
    order = itertools.count()
    waiting = [(-node.total_ms, next(order), 1, node) for node in nodes]
    heapq.heapify(waiting)
    shown: set[int] = set()
    while waiting and len(shown) < TREE_ROWS_MAX:
        _, _, depth, node = heapq.heappop(waiting)
        shown.add(id(node))
        if depth < TREE_DEPTH_MAX:
            for child in node.children:
                heapq.heappush(waiting, (-child.total_ms, next(order), depth + 1, child))
    return shown


def _places(nodes: Sequence[CallNode]) -> Iterator[tuple[int, CallNode]]:
    """All of them with their depth, each before those below it."""
    waiting = [(0, node) for node in reversed(nodes)]
    while waiting:
        depth, node = waiting.pop()
        yield depth, node
        waiting.extend((depth + 1, child) for child in reversed(node.children))


def _line(name: str, width: int, cells: Sequence[str]) -> str:
    return (f"{shortened(name, width):<{width}}" + "".join(f" {cell:>8}" for cell in cells)).rstrip()


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
