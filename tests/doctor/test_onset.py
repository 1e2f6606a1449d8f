"""When it became slow: found near where it was, and not where nothing changed."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.doctor.onset import onset


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(1.8, 5.0), st.floats(0.25, 0.75))
def test_a_change_is_found_where_it_is(seed: int, factor: float, where: float) -> None:
    """A factor of 1.8 and more, among 400 requests that vary by a third: within a tenth of the window."""
    rng = random.Random(seed)
    at = int(400 * where)
    found = onset([rng.lognormvariate(0, 0.33) * (factor if i >= at else 1.0) for i in range(400)])

    assert found is not None
    assert abs(found.index - at) <= 40


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 600))
def test_nothing_is_found_where_nothing_changed(seed: int, count: int) -> None:
    """Steady traffic has no onset, nor has traffic that got faster."""
    rng = random.Random(seed)
    steady = [rng.lognormvariate(0, 0.33) for _ in range(count)]
    faster = [each / (3.0 if i > count // 2 else 1.0) for i, each in enumerate(steady)]

    assert onset(steady) is None
    assert onset(faster) is None
