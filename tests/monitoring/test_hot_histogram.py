"""The written-out addition to a histogram, where it is hot, is the one of `core.histogram`."""

from hypothesis import given
from hypothesis import strategies as st

from slipstream.core import histogram
from slipstream.core.histogram import LEAST, MOST, SLOTS, TINY, WHOLE, index
from slipstream.monitoring.meter import add

EDGES = [0, -5, 1, LEAST, LEAST + 1, WHOLE, 2 * WHOLE, 64 * TINY, MOST, MOST + 1, 1e18]


@given(st.one_of(st.sampled_from(EDGES), st.integers(-10, 10**15), st.floats(0.0, 1e15)))
def test_a_value_goes_to_the_slot_of_its_index(raw: float) -> None:
    """Within the range and outside of it; the sum takes what is not negative."""
    cells = memoryview(bytearray(8 * (1 + SLOTS))).cast("d")

    add(cells, 0, raw)

    assert [at - 1 for at in range(1, 1 + SLOTS) if cells[at]] == [index(raw)]
    assert cells[0] == max(raw, 0)
    assert histogram.PER_OCTAVE == 32
