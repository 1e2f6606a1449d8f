"""Line charts as plain SVG text: two axes, some lines, nothing from outside and no script."""

import html
import math
from collections.abc import Sequence

from msgspec import Struct

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 28, 30
TICKS = 5


class Line(Struct, frozen=True):
    """A line; None breaks it."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    is_bad: bool = False
    """Drawn in the colour of what went wrong."""
    has_dots: bool = False
    """Whether each point is marked: of few points that were measured."""


class Axes(Struct, frozen=True, kw_only=True):
    """What stands at the axes, and where the x axis is cut."""

    x: str
    y: str
    title: str
    x_log: bool = False


def chart(lines: Sequence[Line], axes: Axes) -> str:
    """A chart with a legend; a sentence where there is nothing to draw."""
    points = [
        (x, y)
        for line in lines
        for x, y in zip(line.xs, line.ys, strict=True)
        if y is not None and _drawn(x, axes)
    ]
    if not points:
        return f"<p class='none'>{html.escape(axes.title)}: nothing to draw.</p>"
    highest = max(y for _, y in points) or 1.0
    step = _step(highest)
    top = math.ceil(highest / step - 1e-9) * step
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    if not axes.x_log:
        low = min(low, 0.0)
    place = _Place(low, high if high > low else low + 1.0, top, axes.x_log)
    parts = [
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{html.escape(axes.title, quote=True)}'>",
        *_grid(place, step, axes),
    ]
    for number, line in enumerate(lines):
        colour = "lb" if line.is_bad else f"l{number % 4}"
        parts.append(f"<path class='line {colour}' d='{_path(line, place, axes)}'/>")
        if line.has_dots:
            parts += [
                f"<circle class='{colour}' cx='{place.x(x):.1f}' cy='{place.y(y):.1f}' r='3'/>"
                for x, y in zip(line.xs, line.ys, strict=True)
                if y is not None and _drawn(x, axes)
            ]
        parts.append(
            f"<text class='key {colour}' x='{LEFT + 8 + number * 96}' y='{TOP - 12}'>"
            f"{html.escape(line.name)}</text>"
        )
    return "".join([*parts, "</svg>"])


class _Place:
    """From values to the places of the drawing."""

    def __init__(self, low: float, high: float, top: float, x_log: bool) -> None:
        self.low, self.high, self.top, self._log = low, high, top, x_log

    def x(self, value: float) -> float:
        if self._log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self.top * (HEIGHT - TOP - BOTTOM)


def _drawn(x: float, axes: Axes) -> bool:
    return x > 0 or not axes.x_log


def _grid(place: _Place, step: float, axes: Axes) -> list[str]:
    parts = []
    for number in range(round(place.top / step) + 1):
        y = place.y(number * step)
        parts.append(f"<path class='grid' d='M{LEFT} {y:.1f}H{WIDTH - RIGHT}'/>")
        parts.append(f"<text class='tick end' x='{LEFT - 6}' y='{y + 4:.1f}'>{_number(number * step)}</text>")
    for value in _marks(place.low, place.high, x_log=axes.x_log):
        x = place.x(value)
        parts.append(f"<text class='tick mid' x='{x:.1f}' y='{HEIGHT - BOTTOM + 15}'>{_number(value)}</text>")
    parts.append(f"<text class='name end' x='{WIDTH - RIGHT}' y='{HEIGHT - 2}'>{html.escape(axes.x)}</text>")
    parts.append(f"<text class='name end' x='{WIDTH - RIGHT}' y='{TOP - 12}'>{html.escape(axes.y)}</text>")
    return parts


def _marks(low: float, high: float, *, x_log: bool) -> list[float]:
    if not x_log:
        step = _step(high - low)
        return [low + step * number for number in range(int((high - low) / step + 1e-9) + 1)]
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    tens = [10.0**power for power in range(first, last + 1)]
    if len(tens) > 2:
        return tens
    steps = [digit * 10.0**power for power in range(first - 1, last + 1) for digit in (1, 2, 5)]
    inside = [each for each in steps if low <= each <= high]
    return inside if len(inside) > 1 else [low, high]


def _step(span: float) -> float:
    """A round number that divides a span into about five."""
    rough = span / TICKS
    ten = 10.0 ** math.floor(math.log10(rough))
    return next(factor * ten for factor in (1, 2, 5, 10) if factor * ten >= rough * 0.999)


def _path(line: Line, place: _Place, axes: Axes) -> str:
    parts = []
    pen = "M"
    for x, y in zip(line.xs, line.ys, strict=True):
        if y is None or not _drawn(x, axes):
            pen = "M"
            continue
        dot = "h0" if pen == "M" else ""  # so that a lone point is seen
        parts.append(f"{pen}{place.x(x):.1f} {place.y(y):.1f}{dot}")
        pen = "L"
    return "".join(parts)


def _number(value: float) -> str:
    if value and abs(value) < 0.01:
        return f"{value:.0e}"
    return f"{value:,.2f}".rstrip("0").rstrip(".") if abs(value) < 1e6 else f"{value:.2g}"
