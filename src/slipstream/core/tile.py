"""A number that somebody wants to see on the dashboard: title, metric, unit. It reads nothing."""

from msgspec import Struct

from slipstream.core.errors import BadRequest
from slipstream.core.metrics import Metric
from slipstream.core.readings import metric_named

TITLE_MAX = 80
UNIT_MAX = 20
OWNER_MAX = 200
TILES_MAX = 64
"""Most tiles that users may add."""

_BYTES = {"KB": 1e-3, "MB": 1e-6, "GB": 1e-9}
_UNITS: dict[str, dict[str, float]] = {
    "ms": {"s": 1e-3},
    "1": {"%": 100.0},
    "%": {"1": 0.01},
    "bytes": _BYTES,
    "bytes/s": {f"{unit}/s": factor for unit, factor in _BYTES.items()},
    "requests/s": {"req/s": 1.0, "rps": 1.0, "requests/min": 60.0},
    "tokens/s": {"tok/s": 1.0, "tokens/min": 60.0},
    "USD/s": {"USD/min": 60.0, "USD/h": 3600.0},
}
"""What a value in a unit is multiplied with to be told in another."""


class Tile(Struct, frozen=True):
    """One number of the overview.

    Attributes:
        title: for people.
        metric: a declared metric, read as a bare condition on it would be.
        unit: shown behind the number; empty: the metric's own.
        owner: whoever added it; empty for ours.
    """

    title: str
    metric: str
    unit: str = ""
    owner: str = ""


def unit_of(metric: Metric) -> str:
    """The unit in which a metric is read: that of a counter is a second's."""
    return f"{metric.unit}/s" if metric.kind == "counter" else metric.unit


def factor_of(metric: Metric, unit: str) -> float | None:
    """What a reading is multiplied with to be told in `unit`; None where it cannot be."""
    own = unit_of(metric)
    if unit in {own, ""}:
        return 1.0
    return _UNITS.get(own, {}).get(unit, None if own else 1.0)  # a plain number is whatever one calls it


def checked(tile: Tile) -> Tile:
    """The tile with its metric's unit where it names none. Raises `BadRequest` for what cannot be shown."""
    metric = metric_named(tile.metric)
    title = tile.title.strip()
    if not title or len(title) > TITLE_MAX:
        raise BadRequest(f"A title has 1 to {TITLE_MAX} characters.", param="title")
    if len(tile.unit) > UNIT_MAX:
        raise BadRequest(f"A unit has at most {UNIT_MAX} characters.", param="unit")
    if factor_of(metric, tile.unit) is None:
        own = unit_of(metric)
        known = ", ".join((own, *_UNITS.get(own, {})))
        raise BadRequest(
            f"`{tile.metric}` cannot be told in {tile.unit!r}.", hint=f"In {known}.", param="unit"
        )
    return Tile(title, tile.metric, tile.unit or unit_of(metric), tile.owner[:OWNER_MAX])


def added(tiles: tuple[Tile, ...], tile: Tile) -> tuple[Tile, ...]:
    """`tiles` with a further one, for the one of its owner and title. Raises `BadRequest` at the most."""
    others = tuple(each for each in tiles if (each.owner, each.title) != (tile.owner, tile.title))
    if len(others) >= TILES_MAX:
        raise BadRequest(
            f"The dashboard holds {TILES_MAX} added metrics already.",
            hint="Remove some: DELETE /_slipstream/dashboard/tiles?owner=…&title=….",
            code="too_many_tiles",
        )
    return (*others, tile)
