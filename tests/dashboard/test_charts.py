"""The table of what is drawn fits the table of what is measured."""

import pytest

from slipstream.core.metrics import METRICS
from slipstream.core.tile import Tile
from slipstream.dashboard.board import charts, shown
from slipstream.dashboard.charts import CHARTS, QUANTILES, SECTIONS, TILES, Chart, Line, chart_of

LINES = [
    pytest.param(line, id=f"{chart.id}: {line.label or line.by}") for chart in CHARTS for line in chart.lines
]
KINDS = {"rate": "counter", "average": "gauge", "ratio": "derived", **dict.fromkeys(QUANTILES, "histogram")}


@pytest.mark.parametrize("line", LINES)
def test_line_reads_a_metric_in_a_way_that_it_has(line: Line) -> None:
    """Every line names a declared metric, its labels, and a reading that its kind allows."""
    metric = METRICS[line.metric]

    assert metric.kind == KINDS[line.stat]
    assert {*line.labels, *([line.by] if line.by else [])} <= set(metric.labels)
    assert bool(line.label) is not bool(line.by)


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.id)
def test_chart_stands_in_a_part_and_in_one_unit(chart: Chart) -> None:
    """A chart has its part of the page, and its lines share a unit."""
    units = {METRICS[line.metric].unit for line in chart.lines if line.stat != "rate"}

    assert chart.section in SECTIONS
    assert units <= {chart.unit}
    assert len({line.label for line in chart.lines}) == len(chart.lines)


def test_names_are_unique() -> None:
    """No chart hides another, no tile tells what another tells."""
    assert len({chart.id for chart in CHARTS}) == len(CHARTS)
    assert len({tile.metric for tile in TILES}) == len(TILES)
    assert {tile.metric for tile in TILES} <= set(METRICS)


def test_guides_metrics_come_first() -> None:
    """Response time, CPU, memory and token throughput lead the page."""
    leading = ["response_time", "cpu_usage", "memory_usage", "token_throughput"]

    assert [tile.metric for tile in TILES[:4]] == leading
    assert [chart.id for chart in CHARTS if chart.section == "overview"] == [
        "response_time",
        "cpu",
        "memory",
        "token_throughput",
    ]


def test_added_metric_of_ours_renames_the_tile() -> None:
    """A metric that is shown already gets the user's title; nothing is shown twice."""
    tiles = shown([Tile("Time", "response_time", "ms", "you"), Tile("Latency", "response_time", "s", "me")])

    assert [tile.metric for tile in tiles] == [tile.metric for tile in TILES]
    assert (tiles[0].title, tiles[0].unit, tiles[0].owner) == ("Latency", "s", "me")


def test_added_metric_that_is_new_gets_a_tile_and_a_chart() -> None:
    """A metric that no chart draws gets both."""
    tile = Tile("Descriptors", "open_files", "", "me")

    assert shown([tile])[-1] == tile
    assert charts([tile])[-1] == chart_of(tile)
    assert charts([tile])[-1].lines[0].metric == "open_files"
