"""The text of a settings file with a fix in it: such that whoever could read the file before still can.

An upstream that the server has from a flag or a variable is not in the file. A weight alone would make
an entry without `url` there, which no command reads; then the whole entry is written.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from slipstream.config import names
from slipstream.config.edit import tree, value_at, with_value, with_values
from slipstream.config.explain import shown
from slipstream.config.load import FILE_NAME, load
from slipstream.config.settings import Settings, Upstream
from slipstream.core.errors import ConfigurationError
from slipstream.doctor.finding import Fix

UPSTREAMS = ("models", "upstreams")


class Fixed(Struct, frozen=True):
    """A file with a fix in it; `written` is what was written beside the setting: TOML below its table."""

    text: str
    written: str = ""


def fixed(before: str, fix: Fix, settings: Settings) -> Fixed:
    """The file with the setting, and with all else of that upstream where the file does not know it.

    Args:
        before: the file's text, empty where there is none.
        settings: those of the server.

    Raises `ConfigurationError`, with what to write, where the file could not be read any more.
    """
    alone = with_value(before, fix.setting, fix.after)
    why = newly_refused(before, alone)
    if not why:
        return Fixed(alone)
    entry = _entry(before, fix.setting, settings)
    table = names.read(fix.setting)[:-1]
    hint = f"Write it into {FILE_NAME} first: [{names.written(table)}] and its `url`."
    if any(_has_credentials(value) for value in entry.values()):
        raise ConfigurationError(
            f"`{fix.setting}` is not written: the file lacks that upstream, whose address holds credentials.",
            hint=hint,
        )
    lines = {key: _toml(value) for key, value in entry.items()}
    by_name = {names.written((*table, key)): value for key, value in lines.items()}
    text = with_values(before, {**by_name, fix.setting: fix.after})
    if not entry or (why := newly_refused(before, text)):
        raise ConfigurationError(f"`{fix.setting}` is not written: with it, {why}", hint=hint)
    return Fixed(text, "".join(f"{key} = {value}\n" for key, value in lines.items()))


def again(before: str, setting: str, value: str, written: str) -> str:
    """The file as `fixed` wrote it. Raises `ConfigurationError`."""
    return with_values(before, {**beside(setting, written), setting: value})


def beside(setting: str, written: str) -> dict[str, str]:
    """What was written beside a setting: names and values, both as TOML writes them."""
    table = names.read(setting)[:-1]
    found = tree(written) or {}
    return {names.written((*table, key)): _toml(value) for key, value in found.items()}


def newly_refused(before: str, after: str) -> str:
    """Why a command cannot read `after` that could read `before`; empty where each still can.

    Commands run in this environment, and in one that says nothing.
    """
    environs: tuple[Mapping[str, str], ...] = ({}, os.environ)
    for environ in environs:
        if not _refused(before, environ) and (why := _refused(after, environ)):
            return why
    return ""


def _refused(text: str, environ: Mapping[str, str]) -> str:
    with tempfile.TemporaryDirectory(prefix="slipstream-") as folder:
        file = Path(folder) / FILE_NAME
        file.write_bytes(text.encode())
        try:
            load(path=file, environ=environ)
        except ConfigurationError as error:
            return error.message.replace(str(file), FILE_NAME)
    return ""


def _entry(before: str, setting: str, settings: Settings) -> dict[str, object]:
    """What the server has of that upstream and the file has not, but for defaults and the setting itself."""
    *table, key = names.read(setting)
    upstream = settings.models.upstreams.get(table[-1])
    if tuple(table[:-1]) != UPSTREAMS or upstream is None:
        return {}
    held = value_at(tree(before), tuple(table))
    known = held.keys() if isinstance(held, dict) else ()
    has: dict[str, object] = msgspec.to_builtins(upstream)
    usual: dict[str, object] = msgspec.to_builtins(Upstream(url=""))
    return {
        name: value
        for name, value in has.items()
        if name != key and name not in known and value != usual[name]
    }


def _has_credentials(value: object) -> bool:
    return shown(value) != (list(value) if isinstance(value, tuple | list) else value)


def _toml(value: object) -> str:
    """A plain value, or a list of such, as TOML writes it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return names.quoted(value) if isinstance(value, str) else json.dumps(value)
