"""What tests of profilers share."""

from collections.abc import Iterator

import pytest

from profiling.driven import Clock
from slipstream.core import clock


@pytest.fixture
def time_() -> Iterator[Clock]:
    """The clock of this thread, driven by the test."""
    driven = Clock()
    with clock.driven_by(lambda: driven.now_ns):
        yield driven
