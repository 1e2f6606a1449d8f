"""Where settings are given: a file, the environment, flags. Each yields typed values and knows its spots.

It does not know which source wins; that is `load`.
"""

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path as File
from typing import Literal, NoReturn, get_args, get_origin

import msgspec
from msgspec import Struct

from slipstream.config import names
from slipstream.config.names import Path
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError

PREFIX = "SLIPSTREAM__"
FILE_BYTES_MAX = 1024 * 1024

_AT_END = re.compile(r" \(at end of document\)$")
_AT = re.compile(r" \(at line (\d+), column (\d+)\)$")
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


class FileSource(Source):
    """A `slipstream.toml`. Raises `ConfigurationError` where it cannot be read or is no TOML."""

    kind = "file"

    def __init__(self, file: File) -> None:
        self.name = str(file)
        try:
            with file.open("rb") as opened:
                data = opened.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise ConfigurationError(
                f"{file}: cannot be read ({error.strerror}).",
                hint="Write one with `slipstream config init`, or name another with --config.",
            ) from None
        if len(data) > FILE_BYTES_MAX:
            raise ConfigurationError(
                f"{file}: is larger than {FILE_BYTES_MAX} bytes.", hint="Is it the right file?"
            )
        try:
            self._text = data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ConfigurationError(
                f"{file}, line {line}: is not UTF-8.", hint="Save the file in UTF-8."
            ) from None
        self._tree = self._parsed()

    def given(self) -> Iterator[Given]:
        """All that the file sets."""
        return _walk(Settings, self._tree, (), self)

    def line(self, path: Path) -> int | None:
        """The line on which a key or a table first stands."""
        return self._lines.get(path)

    def spot(self, path: Path) -> str:
        """File and line."""
        line = self.line(path)
        return f"{self.name}, line {line}" if line else self.name

    def _parsed(self) -> dict[str, object]:
        try:
            return tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            message = str(error)
            if at := _AT.search(message):
                line, column = int(at[1]), int(at[2])
            else:
                line = max(1, len(self._text.rstrip("\n").splitlines()))
                column = len(self._text.rstrip("\n").rpartition("\n")[2]) + 1
            what = _AT_END.sub(" at the end of the file", _AT.sub("", message))
            raise ConfigurationError(
                f"{self.name}, line {line}, column {column}: {what}.",
                hint="The file must be TOML: `key = value` below a `[section]`; text stands in quotes.",
            ) from None

    @cached_property
    def _lines(self) -> dict[Path, int]:
        """First line of every key, found with the parser itself: where a prefix of the file first holds it.

        Quadratic in the lines that set something; asked for only by errors and `config explain`.
        """
        found: dict[Path, int] = {}
        lines = self._text.split("\n")
        begin = 1
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                begin = number + 1 if begin == number else begin
                continue
            try:
                tree = tomllib.loads("\n".join(lines[:number]))
            except tomllib.TOMLDecodeError:
                continue  # inside a value of several lines
            for path in _paths(tree, ()):
                found.setdefault(path, begin)
            begin = number + 1
        return found


class VariableSource(Source):
    """One variable of the environment, `SLIPSTREAM__SECTION__KEY`."""

    kind = "environment"

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self._value = value

    def given(self, tables: Mapping[Path, list[str]]) -> Iterator[Given]:
        """What the variable sets. `tables` are the users' names so far, so that `GPT_4_1` finds `gpt-4.1`."""
        path, kind = self._target(tables)
        structured = names.section_of(kind) or names.entry_of(kind)
        value: object = self._value
        if structured:
            try:
                value = json.loads(self._value)
            except ValueError:
                refuse(self, path, "is a table: expected a JSON object", hint='Such as {"name": "value"}.')
        return _walk(kind, value, path, self)

    def spot(self, path: Path) -> str:
        """The variable's name."""
        return f"${self.name}"

    def spelled(self, path: Path) -> str:
        """The variable that sets `path`."""
        return PREFIX + "__".join(re.sub(r"[^A-Za-z0-9]", "_", part).upper() for part in path)

    def _target(self, tables: Mapping[Path, list[str]]) -> tuple[Path, object]:
        """The setting that the variable's name means, and its type."""
        segments = self.name[len(PREFIX) :].lower().split("__")
        path: Path = ()
        kind: object = Settings
        while segments:
            entry = names.entry_of(kind)
            section = names.section_of(kind)
            if entry is not None:
                word = segments.pop(0) if names.section_of(entry) else "__".join(segments)
                segments = segments if names.section_of(entry) else []
                word = next((key for key in tables.get(path, []) if _folded(key) == _folded(word)), word)
                path, kind = (*path, word), entry
            elif section is not None and (info := names.fields(section).get(segments[0])):
                path, kind = (*path, segments.pop(0)), info.type
            else:
                unknown(self, (*path, segments[0]), kind)
        return path, kind


class FlagSource(Source):
    """One flag of the command line, named by the setting that it sets."""

    kind = "flag"

    def __init__(self, name: str, value: object) -> None:
        self.name = name
        self._value = value

    def given(self) -> Iterator[Given]:
        """What the flag sets."""
        value = self._value
        for part in reversed(names.read(self.name)):
            value = {part: value}
        return _walk(Settings, value, (), self)

    def spot(self, path: Path) -> str:
        """The flag's name."""
        return f"the flag for `{self.name}`"


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


def _walk(kind: object, raw: object, path: Path, source: Source) -> Iterator[Given]:
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
            yield from _walk(entry, value, (*path, key), source)
        return
    assert section is not None
    known = names.fields(section)
    for key, value in raw.items():
        if key not in known:
            unknown(source, (*path, key), kind)
        yield from _walk(known[key].type, value, (*path, key), source)


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


def _paths(tree: Mapping[str, object], path: Path) -> Iterator[Path]:
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from _paths(value, (*path, key))


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())
