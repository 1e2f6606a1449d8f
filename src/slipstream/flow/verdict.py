"""What an attempt says about the endpoint that it was made at, and whether another one makes sense."""

from typing import Literal

from slipstream.core import clock
from slipstream.core.backoff import retry_after
from slipstream.core.errors import SlipstreamError, UpstreamFailed, UpstreamTimeout
from slipstream.core.health import Visit
from slipstream.core.ports import Head
from slipstream.flow.select import Target

Again = Literal["no", "elsewhere", "later", "anywhere"]
"""Where another attempt makes sense: nowhere; at another endpoint only; there, or here once it is free
again; there, or here after a moment."""

FINAL_STATUSES = frozenset({501, 505})
"""The upstream will never do what is asked, and is well."""

OURS = frozenset({"answer_too_large", "pool_timeout", "total_timeout"})
"""Codes of failures at a bound of ours: they say nothing about the upstream."""

_LATER_STATUSES = frozenset({429, 503})


def on_answer(visit: Visit[Target], head: Head, now_ns: int, *, retry_after_seconds: float) -> Again:
    """Judge a visit by the head of its answer, whose first byte is here.

    `retry_after_seconds` bounds what an upstream may ask for.
    """
    status = head.status
    if status < 400:
        visit.answer(now_ns)
        return "no"
    if status in _LATER_STATUSES:
        value = next((value for name, value in head.headers if name == b"retry-after"), b"")
        seconds = retry_after(value, clock.wall_ns(), longest_seconds=retry_after_seconds) if value else None
        if seconds is not None:
            visit.hold(now_ns, seconds, f"answered {status} with Retry-After")
            return "later"
    if status != 429 and (status < 500 or status in FINAL_STATUSES):
        visit.excuse(now_ns)
        return "no"
    visit.fail(now_ns, f"answered {status}")
    return "elsewhere" if status == 429 else "anywhere"


def on_error(visit: Visit[Target], error: SlipstreamError, now_ns: int) -> Again:
    """Judge a visit that was not answered."""
    if not isinstance(error, UpstreamFailed) or error.code in OURS:
        return "elsewhere"  # a full queue of ours, or a model that still loads
    if error.code == UpstreamTimeout.code:
        visit.fail_silent(now_ns, "sent nothing in time")
    else:
        visit.fail(now_ns, error.code)
    return "elsewhere" if isinstance(error, UpstreamTimeout) else "anywhere"
