"""A number that somebody wants to see on the dashboard: title, metric, unit. It reads nothing."""

from msgspec import Struct

from slipstream.core.errors import BadRequest
from slipstream.core.readings import metric_named

TITLE_MAX = 80
UNIT_MAX = 20
OWNER_MAX = 200
TILES_MAX = 64
"""Most tiles that users may add."""


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


def checked(tile: Tile) -> Tile:
    """The tile with its metric's unit where it names none. Raises `BadRequest` for what cannot be shown."""
    metric = metric_named(tile.metric)
    title = tile.title.strip()
    if not title or len(title) > TITLE_MAX:
        raise BadRequest(f"A title has 1 to {TITLE_MAX} characters.", param="title")
    if len(tile.unit) > UNIT_MAX:
        raise BadRequest(f"A unit has at most {UNIT_MAX} characters.", param="unit")
    return Tile(title, tile.metric, tile.unit or metric.unit, tile.owner[:OWNER_MAX])


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
