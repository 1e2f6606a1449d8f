"""What may be added to the dashboard."""

import pytest

from slipstream.core.errors import BadRequest
from slipstream.core.metrics import METRICS
from slipstream.core.tile import TILES_MAX, TITLE_MAX, Tile, added, checked, factor_of


def test_unit_is_the_metrics_own_where_none_is_given() -> None:
    """A title is trimmed, a unit is filled in."""
    assert checked(Tile(" CPU ", "cpu_usage", "", "me")) == Tile("CPU", "cpu_usage", "%", "me")


@pytest.mark.parametrize(
    "tile",
    [Tile("CPU", "cpu_usge"), Tile("", "cpu_usage"), Tile("   ", "cpu_usage"), Tile("x" * (TITLE_MAX + 1), "cpu_usage"),
     Tile("CPU", "cpu_usage", "x" * 21), Tile("CPU", "cpu_usage", "ms"), Tile("Latency", "response_time", "bytes")],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused(tile: Tile) -> None:
    """An unknown metric, no title, a long one, a long unit, one that the metric cannot be told in."""
    with pytest.raises(BadRequest):
        checked(tile)


def test_same_title_of_the_same_owner_is_replaced() -> None:
    """Running a script twice changes nothing; another's title is another."""
    tiles = added((), Tile("CPU", "cpu_usage", "%", "me"))
    tiles = added(tiles, Tile("CPU", "cpu_usage_host", "%", "me"))
    tiles = added(tiles, Tile("CPU", "cpu_usage", "%", "you"))

    assert [(tile.owner, tile.metric) for tile in tiles] == [("me", "cpu_usage_host"), ("you", "cpu_usage")]


def test_there_is_an_end() -> None:
    """Beyond the most that may be a further one is refused; one that is there may still change."""
    tiles: tuple[Tile, ...] = ()
    for number in range(TILES_MAX):
        tiles = added(tiles, Tile(f"{number}", "cpu_usage"))

    with pytest.raises(BadRequest):
        added(tiles, Tile("more", "cpu_usage"))
    assert len(added(tiles, Tile("0", "memory_usage"))) == TILES_MAX


@pytest.mark.parametrize(
    ("metric", "unit", "factor"),
    [("response_time", "s", 0.001), ("cache_hit_rate", "%", 100.0), ("cost_rate", "USD/h", 3600.0), ("open_files", "files", 1.0),
     ("tokens_output", "tokens/s", 1.0), ("tokens_output", "tokens", None), ("memory_bytes", "MB", 1e-6)],
)  # fmt: skip
def test_a_reading_is_told_in_the_unit_asked_for(metric: str, unit: str, factor: float | None) -> None:
    """A number never stands before a unit that it is not in; a counter is read a second."""
    assert factor_of(METRICS[metric], unit) == factor
