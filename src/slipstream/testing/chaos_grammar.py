"""The one line a fault is written in: `KIND[:up|down][@K][,option=value]...`, read and written.

`latency:down,ms=200,jitter=50` or `sse_reset@3,rate=0.1,from=10,to=20`. A value with a comma stands in
double quotes: `http_status,code=503,retry_after="Wed, 21 Oct 2026 07:28:00 GMT"`.
"""

import re
from typing import cast, get_args

import msgspec

from slipstream.core.errors import ConfigurationError
from slipstream.testing.chaos_faults import AnyFault, Fault, SseCut, SseFault, Toxic, builtins

KINDS: dict[str, type[Fault]] = {str(each.__struct_config__.tag): each for each in get_args(AnyFault)}
"""Every kind of fault by its name."""

_LONGEST = 2048
_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*\Z)')  # not inside double quotes
_HEAD = re.compile(r"(?P<kind>[a-z0-9_]+)(?::(?P<direction>[a-z]+))?(?:@(?P<at>[a-z0-9]+))?")


def parse(text: str) -> Fault:
    """Read one fault.

    Raises:
        ConfigurationError: the line is not of the grammar, or an option is unknown or out of range.
    """
    if len(text) > _LONGEST:
        raise ConfigurationError(f"A fault has at most {_LONGEST} characters.")
    head, *options = (part.strip() for part in _COMMA.split(text))
    found = _HEAD.fullmatch(head)
    if found is None or found["kind"] not in KINDS:
        raise ConfigurationError(f"Not a fault: {head[:80]!r}.", hint=f"There are: {', '.join(KINDS)}.")
    kind = KINDS[found["kind"]]
    plain: dict[str, str | int] = {"kind": found["kind"]}
    if found["direction"]:
        if not issubclass(kind, Toxic):
            raise ConfigurationError(
                f"{found['kind']} takes no direction.", hint="Leave out the part after the colon."
            )
        plain["direction"] = found["direction"]
    if found["at"]:
        if not issubclass(kind, SseFault | SseCut):
            raise ConfigurationError(f"{found['kind']} takes no @ position.")
        plain["at"] = int(found["at"]) if found["at"].isdecimal() and len(found["at"]) < 10 else found["at"]
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key in plain or key in {"direction", "at"}:
            raise ConfigurationError(f"In {found['kind']}: {option[:80]!r} is not a new option=value.")
        plain[key] = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return _convert(plain)


def _convert(plain: dict[str, str | int]) -> Fault:
    try:
        fault = cast("Fault", msgspec.convert(plain, AnyFault, strict=False))
    except msgspec.ValidationError as error:
        names = [spec.encode_name for spec in msgspec.structs.fields(KINDS[str(plain["kind"])])]
        raise ConfigurationError(
            f"In {plain['kind']}: {error}.", hint=f"Its options: {', '.join(names)}."
        ) from None
    if fault.end and fault.end <= fault.start:
        raise ConfigurationError(f"In {plain['kind']}: it ends (to) before it begins (from).")
    return fault


def form(fault: Fault) -> str:
    """Write a fault so that `parse` gives it back."""
    plain = builtins(fault)
    head = str(plain.pop("kind"))
    if isinstance(fault, Toxic):
        plain.pop("direction", None)
        head += f":{fault.direction}"
    if isinstance(fault, SseFault | SseCut):
        plain.pop("at", None)
        head += f"@{fault.at}"
    return ",".join([head, *(f"{key}={_value(value)}" for key, value in plain.items())])


def _value(value: str | float) -> str:
    """`200` rather than `200.0`; in quotes what would not come back without them."""
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() else repr(value)
    return f'"{value}"' if isinstance(value, str) and ("," in value or value != value.strip()) else str(value)
