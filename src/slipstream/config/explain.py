"""Every setting with its value and where that came from. Credentials inside values are never shown."""

import re
from collections.abc import Iterator
from typing import NoReturn

import msgspec
from msgspec import Struct

from slipstream.config import names
from slipstream.config.load import Loaded
from slipstream.config.names import Path
from slipstream.config.settings import Section, Settings
from slipstream.core.errors import ConfigurationError

_USER_INFO = re.compile(r"(?<=://)[^/?#\s@]*@")
_SECRET_FIELD = re.compile(
    r"(?i)([?&;](?:[a-z0-9_-]*(?:key|token|secret|password|passwd|pwd|signature|sig))=)[^&#;\s]+"
)


class Explained(Struct, frozen=True):
    """One setting as it holds."""

    name: str
    value: object
    """Safe to show."""
    default: object
    """None where it must be given."""
    source: str
    """`default`, `file`, `environment` or `flag`."""
    spot: str
    """`slipstream.toml, line 3`, the variable, the flag; `default`."""
    allowed: str
    description: str


def explain(loaded: Loaded, *, only: str | None = None) -> list[Explained]:
    """All settings in the order of the structs, or those at and below the name `only`.

    Raises `ConfigurationError` for a name that does not exist, with the nearest one.
    """
    wanted = names.read(only) if only is not None else ()
    everything = list(_section(loaded, Settings, loaded.settings, ()))
    chosen = [each for path, each in everything if path[: len(wanted)] == wanted]
    if not chosen and not any(
        isinstance(table, names.Table) and table.path == wanted for table in names.every()
    ):
        _refuse_name(wanted, [path for path, _ in everything])
    return chosen


def shown(value: object) -> object:
    """A value without the credentials that a URL in it may carry."""
    if isinstance(value, str):
        return _SECRET_FIELD.sub(r"\1***", _USER_INFO.sub("***@", value))
    if isinstance(value, tuple | list):
        return [shown(each) for each in value]
    return value


def _section(
    loaded: Loaded, section: type[Section], values: object, path: Path
) -> Iterator[tuple[Path, Explained]]:
    for name, info in names.fields(section).items():
        value, place = getattr(values, name), (*path, name)
        below, entry = names.section_of(info.type), names.entry_of(info.type)
        if below is not None:
            yield from _section(loaded, below, value, place)
        elif entry is None:
            yield place, _explained(loaded, place, value, info.type, info.default)
        else:
            for key, each in value.items():
                inner = names.section_of(entry)
                if inner is not None:
                    yield from _section(loaded, inner, each, (*place, key))
                else:
                    yield (*place, key), _explained(loaded, (*place, key), each, info.type, msgspec.NODEFAULT)


def _explained(loaded: Loaded, path: Path, value: object, kind: object, default: object) -> Explained:
    source = loaded.source(path)
    entry = names.entry_of(kind)
    return Explained(
        name=names.written(path),
        value=shown(value),
        default=None if default is msgspec.NODEFAULT else shown(default),
        source=source.kind,
        spot=source.spot(path),
        allowed=names.allowed(kind if entry is None else entry),
        description=names.description(kind),
    )


def _refuse_name(wanted: Path, known: list[Path]) -> NoReturn:
    siblings = list(
        dict.fromkeys(path[len(wanted) - 1] for path in known if path[: len(wanted) - 1] == wanted[:-1])
    )
    meant = names.nearest(wanted, siblings)
    hint = "Did you mean " + " or ".join(f"`{names.written(each)}`" for each in meant) + "?" if meant else ""
    raise ConfigurationError(
        f"There is no setting `{names.written(wanted)}`.",
        hint=hint or "List them all: slipstream config explain",
    )
