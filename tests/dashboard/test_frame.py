"""The newest second: what it tells is what the readings tell, and unknown is not 0."""

from pathlib import Path

import pytest

from monitoring.slabs import SECOND, Measured, served
from slipstream.core.tile import Tile
from slipstream.dashboard.charts import CHARTS, TILES
from slipstream.dashboard.frame import Frame, frame, tile_now


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    return Measured(tmp_path)


def told(measured: Measured) -> Frame:
    return frame(measured.aggregate, TILES, CHARTS)


def tile(measured: Measured, metric: str, unit: str = "") -> float | None:
    return tile_now(measured.aggregate, Tile(metric, metric, unit)).value


def test_nothing_seen_is_unknown(measured: Measured) -> None:
    """Before the first request there is no number, no model and no line with a value but those of ourselves."""
    measured.tick(2)
    seen = told(measured)

    assert [
        each.value
        for each in seen.tiles
        if each.metric in {"response_time", "ttft", "error_rate", "cache_hit_rate"}
    ] == [None] * 4
    assert (seen.models, seen.upstreams) == ([], [])
    assert set(seen.lines["response_time"].values()) == {None}


def test_tiles_read_as_bare_conditions_do(measured: Measured) -> None:
    """A percentile over a minute, a gauge over ten seconds, a share over five minutes, a rate over a minute."""
    measured.meter.set("cpu_usage", 40.0)
    measured.tick(4, lambda: measured.recorder.finish(served(ms=200.0)))
    measured.recorder.finish(served(outcome="failed", status=502, error_type="upstream_error"))
    measured.tick()

    assert tile(measured, "response_time") == pytest.approx(200.0, rel=0.012)
    assert tile(measured, "cpu_usage") == 40.0
    assert tile(measured, "error_rate") == 20.0
    assert tile(measured, "throughput") == pytest.approx(5 / (measured.second), rel=0.3)


def test_cost_is_told_by_the_hour(measured: Measured) -> None:
    """A tile in dollars an hour tells that of a metric in dollars a second."""
    measured.tick(10, lambda: measured.recorder.finish(served(cost=0.001)))
    a_second = tile(measured, "cost_rate", "USD/s")

    assert a_second is not None
    assert tile(measured, "cost_rate", "USD/h") == pytest.approx(a_second * 3600)


def test_busiest_model_comes_first(measured: Measured) -> None:
    """A row a model, with its own percentiles; cost is unknown where no price is."""
    measured.recorder.finish(served(model="idle", ms=50.0))
    for _ in range(3):
        measured.recorder.finish(served(model="busy", ms=400.0, cost=0.5))
    measured.tick(2)
    rows = told(measured).models

    assert [row.model for row in rows] == ["busy", "idle"]
    assert rows[0].p95 == pytest.approx(400.0, rel=0.012)
    assert (rows[0].cost, rows[1].cost) == (1.5, None)


def test_breaker_is_told_where_somebody_tells(measured: Measured) -> None:
    """An upstream takes requests, does not, or nobody says."""
    measured.meter.set("upstream_healthy", 1.0, "good")
    measured.meter.set("upstream_healthy", 0.0, "bad")
    measured.recorder.finish(served())
    measured.tick(2)

    assert {row.upstream: row.healthy for row in told(measured).upstreams} == {
        "good": True,
        "bad": False,
        "local": None,
    }


def test_lines_are_those_of_the_last_seconds(measured: Measured) -> None:
    """A rate is that of the last five seconds alone; the frame says when its second began."""
    measured.tick(6, lambda: measured.recorder.finish(served()))
    before = told(measured)
    measured.tick(5)
    after = told(measured)

    assert before.lines["token_throughput"]["written"] == 10.0
    assert after.lines["token_throughput"]["written"] == 0.0
    assert after.at == before.at + 5
    assert after.at == measured.aggregate.now_wall_ns() // SECOND - 1
