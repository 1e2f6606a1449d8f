"""How `slipstream top` looks: one frame as a screen, or as a line where nobody draws."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from slipstream.core.record import Record
from slipstream.dashboard.frame import Frame
from slipstream.dashboard.series import amount

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

BARS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 32


class History:
    """The last values of some numbers, for their sparklines; bounded."""

    def __init__(self) -> None:
        self._kept: dict[str, list[float]] = {}

    def add(self, name: str, value: float | None) -> None:
        """A further second."""
        kept = self._kept.setdefault(name, [])
        kept.append(value or 0.0)
        del kept[:-SPARK_WIDTH]

    def spark(self, name: str) -> str:
        """The values as a line of bars, from zero to the highest."""
        kept = self._kept.get(name, [])
        most = max(kept, default=0.0)
        last = len(BARS) - 1
        return "".join(BARS[round(value / most * last)] if most else BARS[0] for value in kept)


def told(frame: Frame) -> dict[str, tuple[str, float | None, str]]:
    """The numbers of a frame by name: heading, value, unit."""
    tiles = {tile.metric: tile.value for tile in frame.tiles}
    times, first = frame.lines.get("response_time", {}), frame.lines.get("ttft", {})
    seconds = frame.lines.get("throughput", {})
    errors = sum(value or 0.0 for name, value in seconds.items() if name == "failed")
    known = [value for value in seconds.values() if value is not None]
    return {
        "requests": ("Requests", sum(known) if known else None, "requests/s"),
        "p50": ("p50, 15 s", times.get("p50"), "ms"),
        "p95": ("p95, 15 s", times.get("p95"), "ms"),
        "p99": ("p99, 15 s", times.get("p99"), "ms"),
        "ttft": ("First token p95", first.get("p95"), "ms"),
        "tokens": ("Tokens written", frame.lines.get("token_throughput", {}).get("written"), "tokens/s"),
        "in_flight": ("In flight", frame.lines.get("in_flight", {}).get("in flight"), "requests"),
        "errors": ("Errors", errors if known else None, "requests/s"),
        "cpu": ("CPU", tiles.get("cpu_usage"), "%"),
        "memory": ("Memory", tiles.get("memory_usage"), "%"),
    }


def shown(value: float | None, unit: str) -> str:
    """A value with its unit; a dash for what is not known."""
    return "–" if value is None else amount(value, unit).replace("requests/s", "req/s")


def line(frame: Frame) -> str:
    """A frame as one plain line."""
    at = datetime.fromtimestamp(frame.at).astimezone().strftime("%H:%M:%S")
    parts = [f"{name}={shown(value, unit)}" for name, (_, value, unit) in told(frame).items()]
    firing = [f"firing={frame.firing:.0f}"] if frame.firing else []
    return "  ".join((at, *parts, *firing))


def screen(frame: Frame, slow: Sequence[Record], history: History, url: str) -> "RenderableType":
    """A frame as a screen: numbers, models, upstreams, slow requests."""
    from rich.console import Group
    from rich.text import Text

    heading = Text.assemble(
        ("Slipstream", "bold"),
        f"  {url}  ",
        datetime.fromtimestamp(frame.at).astimezone().strftime("%H:%M:%S"),
        (f"  {frame.firing:.0f} alerts fire" if frame.firing else "", "bold red"),
        ("   q ends", "dim"),
    )
    blocks: list[RenderableType] = [heading, "", _numbers(frame, history)]
    if frame.models:
        blocks += ["", _models(frame)]
    else:
        blocks += ["", Text("No model has been asked yet.", style="dim")]
    if frame.upstreams:
        blocks += ["", _upstreams(frame)]
    if slow:
        blocks += ["", _slow(slow)]
    return Group(*blocks)


def _numbers(frame: Frame, history: History) -> "Table":
    from rich.table import Table

    table = Table.grid(padding=(0, 3))
    cells = [
        (f"[dim]{title}[/]", f"[bold]{shown(value, unit)}[/]", f"[cyan]{history.spark(name)}[/]")
        for name, (title, value, unit) in told(frame).items()
    ]
    half = (len(cells) + 1) // 2
    for at in range(half):
        right = cells[at + half] if at + half < len(cells) else ("", "", "")
        table.add_row(*cells[at], *right)
    return table


def _models(frame: Frame) -> "Table":
    table = _table("model", "requests", "p50", "p95", "first token p95", "writes", "errors")
    for row in frame.models:
        table.add_row(
            _safe(row.model), shown(row.rps, "requests/s"), shown(row.p50, "ms"), shown(row.p95, "ms"),
            shown(row.ttft_p95, "ms"), shown(row.tokens_per_second, "tokens/s"), shown(row.errors, "%"),
        )  # fmt: skip
    return table


def _upstreams(frame: Frame) -> "Table":
    table = _table("upstream", "state", "requests", "own time p95", "errors")
    for row in frame.upstreams:
        states = {True: "[green]takes requests[/]", False: "[red]breaker open[/]", None: "[dim]not told[/]"}
        table.add_row(
            _safe(row.upstream), states[row.healthy], shown(row.rps, "requests/s"),
            shown(row.time_p95, "ms"), shown(row.errors, "%"),
        )  # fmt: skip
    return table


def _slow(slow: Sequence[Record]) -> "Table":
    table = _table("slowest, last minute", "model", "took", "first token", "outcome", "request")
    for record in slow:
        at = datetime.fromtimestamp(record.arrived_wall_ns / 1e9).astimezone().strftime("%H:%M:%S")
        first = record.first_token_ns
        table.add_row(
            at, _safe(record.model or record.model_asked), shown(record.duration_ns / 1e6, "ms"),
            shown(None if first is None else first / 1e6, "ms"), record.outcome, _safe(record.id),
        )  # fmt: skip
    return table


def _table(*titles: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table


def _safe(text: str) -> str:
    """No markup and no control codes of others reach the terminal."""
    from rich.markup import escape

    return escape("".join(each if each.isprintable() else "?" for each in text)) or "–"
