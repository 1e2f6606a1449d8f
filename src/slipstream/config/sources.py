"""Where settings are given: a file, the environment, flags. Each yields typed values and knows its spots.

It does not know which source wins; that is `load`.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path as File

from slipstream.config import names
from slipstream.config.names import Path
from slipstream.config.settings import Settings
from slipstream.config.values import Given, Source, refuse, unknown, walk
from slipstream.core.errors import ConfigurationError

PREFIX = "SLIPSTREAM__"
FILE_BYTES_MAX = 1024 * 1024

_AT_END = re.compile(r" \(at end of document\)$")
_AT = re.compile(r" \(at line (\d+), column (\d+)\)$")


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
        return walk(Settings, self._tree, (), self)

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
        return walk(kind, value, path, self)

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
        return walk(Settings, value, (), self)

    def spot(self, path: Path) -> str:
        """The flag's name."""
        return f"the flag for `{self.name}`"


def _paths(tree: Mapping[str, object], path: Path) -> Iterator[Path]:
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from _paths(value, (*path, key))


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())
