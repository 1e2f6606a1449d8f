"""`Retry-After` in all its forms, and the time between two attempts at the same upstream."""

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.backoff import BACKOFF_SECONDS_MAX, backoff_seconds, retry_after

NOON = 1_800_000_000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"7", 7.0),
        (b" 7 ", 7.0),
        (b"0", 0.0),
        (b"0.25", 0.25),
        (b"3600", 60.0),
        (b"1000000000", 60.0),
        (b"9" * 400, None),
        (b"", None),
        (b"-1", None),
        (b"1e3", None),
        (b"nan", None),
        (b"inf", None),
        (b"soon", None),
        (b"12 apples", None),
        (b"\xff\xfe", None),
        ("\uff17".encode(), None),
        (email.utils.formatdate(NOON + 20, usegmt=True).encode(), 20.0),
        (email.utils.formatdate(NOON + 86_400, usegmt=True).encode(), 60.0),
        (email.utils.formatdate(NOON - 20, usegmt=True).encode(), 0.0),
        (b"Friday, 15-Jan-27 08:00:20 GMT", 20.0),
        (b"Fri Jan 15 08:00:20 2027", 20.0),
        (b"Fri, 99 Jan 2027 08:00:20 GMT", None),
        (b"Fri, 15 Jan 2027 99:00:20 GMT", None),
        (b"Fri, 15 Jan 99999999 08:00:20 GMT", None),
        (b"Fri, 15 Jan 2027 08:00:20 +9999999", None),
    ],
)
def test_retry_after_is_read_or_ignored(value: bytes, expected: float | None) -> None:
    """Seconds and the three forms of a date are read and capped; whatever else is no answer at all."""
    assert retry_after(value, NOON * 1_000_000_000, longest_seconds=60) == expected


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_header_does_harm(value: bytes) -> None:
    """Any bytes give a time between 0 and 60 s, or none."""
    seconds = retry_after(value, NOON * 1_000_000_000, longest_seconds=60)

    assert seconds is None or 0 <= seconds <= 60


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_back_off_grows_to_a_bound_and_is_spread(retries: int, chance: float) -> None:
    """It grows with the retries, never beyond its bound, and half of it is chance."""
    seconds = backoff_seconds(retries, chance)

    assert 0 < seconds <= BACKOFF_SECONDS_MAX
    assert backoff_seconds(retries, 0.0) * 2 >= seconds
    assert backoff_seconds(retries + 1, chance) >= seconds
