"""When to try again: what `Retry-After` says, and how long to wait where nothing was said. Pure."""

import datetime as dt
import email.utils
import re

BASE_SECONDS = 0.1
GROWTH = 2.0
BACKOFF_SECONDS_MAX = 5.0

_NUMBER = re.compile(r"\d{1,15}(\.\d{1,9})?", re.ASCII)


def retry_after(value: bytes, wall_ns: int, *, longest_seconds: float) -> float | None:
    """The seconds that a `Retry-After` header asks for; None for anything else.

    At most `longest_seconds`: nobody is sent away for a year by a typo.

    Both forms of RFC 9110 §10.2.3, seconds and HTTP date, and the fractions that some servers send.
    `wall_ns` is the time of day: a date is far or near by our clock, which may differ from the upstream's.
    """
    try:
        text = value.decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    if _NUMBER.fullmatch(text):
        return min(float(text), longest_seconds)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:  # the date forms without a zone mean GMT, as all of HTTP does
        when = when.replace(tzinfo=dt.UTC)
    return min(max(0.0, when.timestamp() - wall_ns / 1e9), longest_seconds)


def backoff_seconds(retries: int, chance: float) -> float:
    """How long to wait before the same upstream is tried again after `retries` retries (1 = the first).

    Half of it is certain, half is random (`chance` in [0, 1)), so that those who failed together do not
    come back together.
    """
    longest = min(BACKOFF_SECONDS_MAX, BASE_SECONDS * GROWTH ** (retries - 1))
    return longest * (0.5 + 0.5 * chance)
