"""The histogram: any quantile within 1.1 % of the exact one, merging exact, bytes that come back."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core import histogram
from slipstream.core.errors import SlipstreamError
from slipstream.core.histogram import Sketch, bounds, decode, densely, index, merged, quantile, sketch_of

IN_RANGE = st.floats(histogram.LEAST * 1.0001, histogram.MOST)
SHARES = st.floats(0.0, 1.0)
WHATEVER = st.floats(allow_nan=True, allow_infinity=True)


def exact(values: list[float], q: float) -> float:
    """By nearest rank."""
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1]


@given(st.lists(IN_RANGE, min_size=1, max_size=400), SHARES)
def test_quantiles_are_within_the_promise(values: list[float], q: float) -> None:
    """Every quantile is within 1.1 % of the exact one of the same values."""
    found = sketch_of(values).quantile(q)

    assert found is not None
    assert abs(found - exact(values, q)) <= 0.011 * exact(values, q)


@given(st.lists(st.lists(WHATEVER, max_size=50), min_size=1, max_size=6))
def test_merging_is_exact(parts: list[list[float]]) -> None:
    """Sketches that are added up hold the very counts of all values in one sketch."""
    whole = sketch_of([value for part in parts for value in part])

    together = merged(sketch_of(part) for part in parts)

    assert together is not None
    assert together.buckets == whole.buckets
    assert together.total == pytest.approx(whole.total)


@given(st.lists(WHATEVER, max_size=200))
def test_a_stored_sketch_comes_back(values: list[float]) -> None:
    """Decoding gives what was encoded, whatever was counted."""
    sketch = sketch_of(values, 1e6)

    assert decode(sketch.encode(), 1e6) == sketch


@given(st.binary(max_size=60))
def test_foreign_bytes_are_an_error_or_a_sketch(encoded: bytes) -> None:
    """Bytes that no sketch was encoded to raise our error and nothing else."""
    try:
        sketch = decode(encoded)
    except SlipstreamError:
        return
    assert all(0 <= slot < histogram.SLOTS for slot in sketch.buckets)


@given(IN_RANGE)
def test_a_value_lies_within_its_bucket(value: float) -> None:
    """Above the lower bound and not above the upper one, but for the last digit of a float."""
    low, high = bounds(index(value))

    assert low * (1 - 1e-12) <= value <= high * (1 + 1e-12)


@pytest.mark.parametrize("power", range(-20, 15))
def test_a_bound_belongs_to_the_bucket_below(power: int) -> None:
    """As in OpenTelemetry and Prometheus: the upper bound is in, the lower one is not."""
    assert bounds(index(1e9 * 2.0**power))[1] == 1e9 * 2.0**power


@pytest.mark.parametrize("items", [1, 2, 64, 4096, 2**30])
def test_bounds_of_what_is_no_time_are_its_powers_of_two(items: int) -> None:
    """64 items lie at the end of their bucket, exactly, and are added up without a rounding."""
    sketch = sketch_of([items], histogram.TINY)

    assert sketch.sum == items
    assert bounds(next(iter(sketch.buckets)))[1] / histogram.TINY == items


@pytest.mark.parametrize(
    ("value", "slot"),
    [
        (0.0, histogram.ZERO),
        (-5.0, histogram.ZERO),
        (math.nan, histogram.ZERO),
        (1.0, histogram.UNDER),
        (476.0, histogram.UNDER),
        (477.0, histogram.FIRST),
        (1e9 * 2.0**14, histogram.OVER - 1),
        (1e9 * 2.0**15, histogram.OVER),
        (math.inf, histogram.OVER),
    ],
)
def test_what_is_outside_the_range_has_its_own_slot(value: float, slot: int) -> None:
    """Zero, too small and too large are told apart, and nothing is lost."""
    assert index(value) == slot


def test_dense_and_sparse_agree() -> None:
    """The quantile of an array of all slots is the one of the sketch."""
    sketch = sketch_of([1e3, 2e6, 3e6, 9e9])

    assert quantile(densely(sketch.buckets), 0.5) == sketch.quantile(0.5)


def test_nothing_has_no_quantile() -> None:
    """Of no values every question but how many has the answer None."""
    empty = Sketch({}, 0.0)

    assert (empty.count, empty.mean, empty.low, empty.high, empty.quantile(0.5)) == (
        0,
        None,
        None,
        None,
        None,
    )


def test_values_speak_in_their_unit() -> None:
    """A sketch of milliseconds kept in nanoseconds answers in milliseconds."""
    sketch = sketch_of([10.0, 20.0, 30.0], 1e6)

    assert sketch.sum == pytest.approx(60.0)
    assert sketch.mean == pytest.approx(20.0)
    assert sketch.quantile(0.5) == pytest.approx(20.0, rel=0.011)
    assert sketch.above(25.0) == 1


NEAR_BOUNDS = st.builds(
    lambda slot, off: max(0, math.floor(bounds(slot)[1]) + off),
    st.integers(0, histogram.OVER - 1),
    st.integers(-2, 2),
)


@given(st.lists(NEAR_BOUNDS | st.integers(0, 2**48), max_size=80), st.sampled_from([1, 256]))
def test_many_are_counted_as_each_one_is(values: list[int], sorted_min: int) -> None:
    """In order and cut at the bounds, or one by one: the same counts, right at the bounds too."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(histogram, "SORTED_MIN", sorted_min)
        assert histogram.counted(values) == Counter(map(index, values))
