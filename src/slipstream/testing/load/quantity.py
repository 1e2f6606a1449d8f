"""Lengths of time as people write them: `800ms`, `2s`, `5m`. A closed grammar, nothing is evaluated."""

import math
import re

from slipstream.core.errors import BadRequest

MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

NUMBER = r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z%/]*)"


def milliseconds(text: str) -> float:
    """`800ms` or `2s` as milliseconds; a bare number is milliseconds. Raises `BadRequest`."""
    return _scaled(text, MILLISECONDS, "ms", "800ms or 2s")


def seconds(text: str) -> float:
    """`30s` or `5m` as seconds; a bare number is seconds. Raises `BadRequest`."""
    return _scaled(text, SECONDS, "s", "30s or 5m")


def _scaled(text: str, units: dict[str, float], bare: str, example: str) -> float:
    found = re.fullmatch(NUMBER, text.strip())
    if found is None or (found["unit"] or bare) not in units:
        raise BadRequest(f"`{text[:60]}` is no length of time.", hint=f"Write it like {example}.")
    value = float(found["number"]) * units[found["unit"] or bare]
    if not math.isfinite(value):
        raise BadRequest(f"`{text[:60]}` is too long.")
    return value
