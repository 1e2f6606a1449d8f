"""Settings as they hold: defaults, then `slipstream.toml`, then the environment, then flags.

Whatever is unknown or of a wrong type is refused with its spot and what was probably meant.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path as File

import msgspec
from msgspec import Struct

from slipstream.config import edit, names
from slipstream.config.names import Path
from slipstream.config.settings import Section, Settings
from slipstream.config.sources import PREFIX, FileSource, FlagSource, VariableSource
from slipstream.config.values import DEFAULT, Given, Source, refuse
from slipstream.core.errors import ConfigurationError

FILE_NAME = "slipstream.toml"
FILE_VARIABLE = "SLIPSTREAM_CONFIG"


class Loaded(Struct, frozen=True):
    """Settings, and where each of them came from."""

    settings: Settings
    sources: dict[Path, Source]
    """By path, for what somebody gave; all else is a default."""
    file: File | None
    """The file that was read, if any."""

    def source(self, path: Path) -> Source:
        """Where the value of a setting came from."""
        return self.sources.get(path, DEFAULT)


def load(
    *,
    path: File | None = None,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings that hold now.

    Args:
        path: the file to read; else `$SLIPSTREAM_CONFIG`, else `slipstream.toml` here if there is one.
        flags: values by the setting's name (`{"server.port": 8081}`); None as a value = not given.
        environ: the environment to read; else this process's.

    Raises `ConfigurationError` that names the file and line, the variable or the flag.
    """
    return load_with_origins(path=path, flags=flags, environ=environ).settings


def load_with_origins(
    *,
    path: File | None = None,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Like `load`, and says where each value came from."""
    environ = os.environ if environ is None else environ
    file = find_file(path, environ)
    tree: dict[str, object] = {}
    sources: dict[Path, Source] = {}
    if file is not None:
        for given in FileSource(file).given():
            _put(given, tree, sources)
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        for given in VariableSource(variable, environ[variable]).given(_users_names(tree)):
            _put(given, tree, sources)
    for flag, value in (flags or {}).items():
        if value is not None:
            for given in FlagSource(flag, value).given():
                _put(given, tree, sources)
    _require_complete(tree, sources)
    return Loaded(msgspec.convert(tree, Settings), sources, file)


def load_folders(*, path: File | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Like `load`; where that refuses, the folders alone: what our own files say mends a settings file.

    They are read off as much of the file as can be read. Raises nothing.
    """
    environ = os.environ if environ is None else environ
    with contextlib.suppress(ConfigurationError):
        return load(path=path, environ=environ)
    text = ""
    with contextlib.suppress(ConfigurationError, OSError, UnicodeDecodeError):
        file = find_file(path, environ)
        text = file.read_bytes().decode() if file is not None else ""
    top = re.split(r"^\s*\[", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = edit.tree(text) or edit.tree(top) or {}

    def folder(name: str) -> str:
        given = environ.get(f"{PREFIX}{name.upper()}", found.get(name))
        return given if isinstance(given, str) else ""

    return Settings(data_folder=folder("data_folder"), state_folder=folder("state_folder"))


def find_file(path: File | None, environ: Mapping[str, str]) -> File | None:
    """The file to read: the one named, `$SLIPSTREAM_CONFIG`, or the one in the working folder if it is there.

    Raises `ConfigurationError` for a named file that does not exist.
    """
    if path is None and not environ.get(FILE_VARIABLE):
        here = File(FILE_NAME)
        return here if here.is_file() else None
    named = File(environ[FILE_VARIABLE]).expanduser() if path is None else path.expanduser()
    if not named.is_file():
        by = f"${FILE_VARIABLE}" if path is None else "--config"
        raise ConfigurationError(
            f"{named}: there is no such file ({by}).", hint="Write one with `slipstream config init`."
        )
    return named


def _put(given: Given, tree: dict[str, object], sources: dict[Path, Source]) -> None:
    """Lay one value over what is there; a later source wins."""
    *above, last = given.path
    for part in above:
        inner = tree.setdefault(part, {})
        assert isinstance(inner, dict)
        tree = inner
    if given.value == {} and isinstance(given.value, dict):
        tree.setdefault(last, {})
        sources.setdefault(given.path, given.source)
    else:
        tree[last] = given.value
        sources[given.path] = given.source


def _users_names(tree: Mapping[str, object]) -> dict[Path, list[str]]:
    """The keys of every table of the user's own names."""
    found: dict[Path, list[str]] = {}
    for each in names.every():
        if isinstance(each, names.Table):
            inner: object = tree
            for part in each.path:
                inner = inner.get(part, {}) if isinstance(inner, dict) else {}
            found[each.path] = list(inner) if isinstance(inner, dict) else []
    return found


def _require_complete(tree: Mapping[str, object], sources: Mapping[Path, Source]) -> None:
    """Refuse an entry of a table that lacks what has no default."""
    for table, keys in _users_names(tree).items():
        entry = next(
            each.entry for each in names.every() if isinstance(each, names.Table) and each.path == table
        )
        section = names.section_of(entry)
        for key in keys if section else []:
            path = (*table, key)
            assert section is not None
            missing = [name for name in _required(section) if (*path, name) not in sources]
            if missing:
                refuse(
                    next(source for place, source in sources.items() if place[: len(path)] == path),
                    path,
                    f"lacks `{missing[0]}`",
                    hint=f"Write: {names.written((*path, missing[0]))} = ...",
                )


def _required(section: type[Section]) -> list[str]:
    return [name for name, info in names.fields(section).items() if info.required]
