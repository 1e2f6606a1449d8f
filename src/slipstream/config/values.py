"""Values as they are given: walked along the structs, typed, and refused at the spot where they stand.

It does not know files, the environment or flags; those are `sources`.
"""

import json
import math
from collections.abc import Iterator
from typing import Literal, NoReturn, get_args, get_origin

import msgspec
from msgspec import Struct

from slipstream.config import names
from slipstream.config.names import Path
from slipstream.core.errors import ConfigurationError

_WORDS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


class Source:
    """One place where settings are given.

    Attributes:
        kind: what sort of place it is.
        name: the file's path, the variable's name, the flag's name.
    """

    kind: Literal["default", "file", "environment", "flag"] = "default"
    name = ""

    def spot(self, path: Path) -> str:
        """Where exactly a setting stands, for a message."""
        return self.kind

    def line(self, path: Path) -> int | None:
        """The line a setting stands on, where there are lines."""
        return None

    def spelled(self, path: Path) -> str:
        """How this place spells a setting's name."""
        return f"`{names.written(path)}`"


DEFAULT = Source()


class Given(Struct, frozen=True):
    """One value that somebody gave, typed; an empty mapping opens a table's entry."""

    path: Path
    value: object
    source: Source


def refuse(source: Source, path: Path, what: str, *, hint: str = "") -> NoReturn:
    """Raise the `ConfigurationError` for one setting at its spot. The value itself is never shown."""
    raise ConfigurationError(f"{source.spot(path)}: `{names.written(path)}` {what}.", hint=hint)


def unknown(source: Source, path: Path, parent: object) -> NoReturn:
    """Raise the `ConfigurationError` for a name that does not exist in `parent`."""
    section = names.section_of(parent)
    known = list(names.fields(section)) if section else []
    meant = names.nearest(path, known)
    if meant:
        hint = "Did you mean " + " or ".join(source.spelled(each) for each in meant) + "?"
    elif known:
        hint = "Known there: " + ", ".join(known) + "."
    else:
        hint = f"{source.spelled(path[:-1])} is a plain value."
    raise ConfigurationError(f"{source.spot(path)}: there is no setting `{names.written(path)}`.", hint=hint)


def walk(kind: object, raw: object, path: Path, source: Source) -> Iterator[Given]:
    """Typed leaves of what was given for `path`."""
    section = names.section_of(kind)
    entry = names.entry_of(kind)
    if section is None and entry is None:
        yield Given(path, _converted(kind, raw, path, source), source)
        return
    if not isinstance(raw, dict):
        refuse(source, path, f"is a table: expected `key = value` below `[{names.written(path)}]`")
    if entry is not None:
        for key, value in raw.items():
            if names.section_of(entry):
                yield Given((*path, key), {}, source)
            yield from walk(entry, value, (*path, key), source)
        return
    assert section is not None
    known = names.fields(section)
    for key, value in raw.items():
        if key not in known:
            unknown(source, (*path, key), kind)
        yield from walk(known[key].type, value, (*path, key), source)


def _converted(kind: object, raw: object, path: Path, source: Source) -> object:
    """One plain value in its type; text from the environment and flags is read as the type asks."""
    plain = names.plain(kind)
    if get_origin(plain) is Literal and raw not in get_args(plain):
        allowed = ", ".join(f"`{each}`" for each in get_args(plain))
        refuse(source, path, f"must be one of {allowed}")
    lax = isinstance(raw, str) and source.kind in {"environment", "flag"}
    value = _from_text(plain, raw, path, source) if lax else raw
    try:
        converted: object = msgspec.convert(value, kind, strict=not lax)
    except msgspec.ValidationError as error:
        message = str(error).removesuffix(" - at `$`")
        refuse(source, path, "has a wrong value: " + message[:1].lower() + message[1:])
    if isinstance(converted, float) and not math.isfinite(converted):
        refuse(source, path, "must be a finite number")
    return converted


def _from_text(plain: object, text: object, path: Path, source: Source) -> object:
    assert isinstance(text, str)
    if plain is bool:
        return _WORDS.get(text.strip().lower(), text)
    if get_origin(plain) is tuple:
        if not text.lstrip().startswith("["):
            return [part.strip() for part in text.split(",") if part.strip()]
        try:
            return json.loads(text)
        except ValueError:
            refuse(source, path, "is neither a JSON array nor a list with commas")
    return text
