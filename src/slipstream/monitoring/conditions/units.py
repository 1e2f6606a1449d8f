"""Units of conditions: what `5 s`, `80 %` or `2 GB` is worth, and which values may be compared.

Inside, time is in seconds, a share in 0..1, data in bytes; people see the unit that reads best.
"""

from typing import Literal

from msgspec import Struct

Dimension = Literal["time", "share", "bytes", "money", "number"]
"""What a value measures. `number`: counts, rates, quotients; it goes with a share."""


class Unit(Struct, frozen=True):
    """A unit that may follow a number."""

    dimension: Dimension
    factor: float
    """How much of the inside unit it is."""


UNITS: dict[str, Unit] = {
    "us": Unit("time", 1e-6),
    "ms": Unit("time", 1e-3),
    "s": Unit("time", 1.0),
    "m": Unit("time", 60.0),
    "min": Unit("time", 60.0),
    "h": Unit("time", 3600.0),
    "d": Unit("time", 86400.0),
    "%": Unit("share", 0.01),
    "B": Unit("bytes", 1.0),
    "KB": Unit("bytes", 1e3),
    "MB": Unit("bytes", 1e6),
    "GB": Unit("bytes", 1e9),
    "TB": Unit("bytes", 1e12),
    "KiB": Unit("bytes", 2.0**10),
    "MiB": Unit("bytes", 2.0**20),
    "GiB": Unit("bytes", 2.0**30),
    "k": Unit("number", 1e3),
    "M": Unit("number", 1e6),
    "G": Unit("number", 1e9),
}

DURATIONS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
"""Units of windows and of `for` and `keep`, in seconds."""

SPELLED = {
    **dict.fromkeys(("millisecond", "milliseconds", "msec"), "ms"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("percent", "pct"), "%"),
}
"""What people write for a unit, so that a mistake can name the one that was meant."""

_TIMES = (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
_SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1.0))


def agree(left: Dimension, right: Dimension) -> bool:
    """Whether two values may be added and compared."""
    return left == right or {left, right} == {"share", "number"}


def shown(value: float, dimension: Dimension) -> str:
    """A value for people, in the unit that reads best: `5 s`, `80 %`, `1.5 GB`.

    With up to 12 significant digits, so that it reads back as what it was.
    """
    if dimension == "share":
        return f"{digits(value * 100)} %"
    ladder = {"time": _TIMES, "bytes": _SIZES}.get(dimension)
    if ladder is None:
        return digits(value)
    name, factor = next((each for each in ladder if abs(value) >= each[1]), ladder[-1])
    if value == 0:
        name, factor = ("s", 1.0) if dimension == "time" else ("B", 1.0)
    if name in {"d", "h", "min"} and value % factor:  # 90 s rather than 1.5 min
        name, factor = "s", 1.0
    return f"{digits(value / factor)} {name}"


def digits(value: float) -> str:
    """A number without needless zeros."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.12g}"


def duration(seconds: float) -> str:
    """A whole number of seconds for people: `1 min`, `90 s`, `2 h`."""
    for name, factor in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= factor and not seconds % factor:
            return f"{int(seconds // factor)} {name}"
    return f"{digits(seconds)} s"
