"""What is told of a step's times."""

from hypothesis import example, given
from hypothesis import strategies as st

from slipstream.profiling.collection import Sums
from slipstream.profiling.step_timing import MS, StepTiming


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=50))
@example([21_640_000])
def test_no_percentile_is_above_the_maximum(durations_ns: list[int]) -> None:
    """The maximum is exact and percentiles come from buckets: where they disagree the maximum is right."""
    sums = Sums()
    sums.durations.extend(durations_ns)
    sums.settle()
    timing = StepTiming(sums)

    assert timing.max == max(durations_ns) / MS
    assert timing.p50 <= timing.p95 <= timing.p99 <= timing.max
