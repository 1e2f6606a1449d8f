"""The table of metrics: names and bounds that every reader relies on."""

import re

import pytest

from slipstream.core.errors import BadRequest
from slipstream.core.meters import NAMES
from slipstream.core.metrics import COUNTER_METRIC, INDEX, METRICS, RECORDED
from slipstream.core.readings import metric_named
from slipstream.core.use import PARTS_MAX, UseRow, UseTable


def test_no_name_is_declared_twice() -> None:
    """Every declared metric is found under its name."""
    assert len(INDEX) == len(RECORDED)
    assert all(RECORDED[number].name == name for name, number in INDEX.items())


def test_names_and_labels_can_be_exported() -> None:
    """Names and labels are plain words, so that any system takes them."""
    words = [*METRICS, *(label for metric in METRICS.values() for label in metric.labels)]

    assert [word for word in words if not re.fullmatch(r"[a-z][a-z0-9_]*", word)] == []


def test_every_count_is_a_metric() -> None:
    """What parts count by `core.meters` can be read as a metric."""
    assert [name for name in NAMES if METRICS[COUNTER_METRIC.get(name, name)].kind != "counter"] == []


def test_derived_metrics_are_of_recorded_counters() -> None:
    """What a derived metric is computed from is recorded."""
    derived = [metric for metric in METRICS.values() if metric.kind == "derived"]

    assert derived
    assert all(part in INDEX for metric in derived for part in metric.over if part)


def test_an_unknown_metric_is_a_clear_error() -> None:
    """A name that is none says so."""
    with pytest.raises(BadRequest, match="no metric `latencee`"):
        metric_named("latencee")
    with pytest.raises(BadRequest, match="is a gauge, not a counter"):
        metric_named("cpu_usage", "counter")


def test_parts_tell_how_they_do() -> None:
    """A part announces a row; one of the same name replaces it, one that left is gone."""
    table = UseTable()
    table.announce("pool", lambda: UseRow("pool", 0.5))
    table.announce("pool", lambda: UseRow("pool", 1.0, saturation=3))
    table.announce("gone", lambda: UseRow("gone"))
    table.withdraw("gone")

    assert table.rows() == [UseRow("pool", 1.0, saturation=3)]


def test_parts_are_bounded() -> None:
    """A leak of parts is an error and no slow end of the memory."""
    table = UseTable()
    for number in range(PARTS_MAX):
        table.announce(str(number), lambda: UseRow("part"))

    with pytest.raises(Exception, match="More than"):
        table.announce("one more", lambda: UseRow("part"))
