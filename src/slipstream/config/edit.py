"""One setting changed in the text of a `slipstream.toml`, all else left as a person wrote it. Pure.

It knows TOML only as far as people write settings: one key a line, tables by their headers. What comes out
is read again and held against what was meant; where that differs nothing is changed.
"""

import re
import tomllib

from slipstream.config import names
from slipstream.config.names import Path
from slipstream.core.errors import ConfigurationError

_HEADER = re.compile(r"^\s*\[(?P<name>[^\[\]]+(?:\"[^\"]*\"[^\[\]]*)*)\]\s*(?:#.*)?$")
_KEY = re.compile(r"^(?P<before>\s*(?P<name>[^=#]+?)\s*=\s*)(?P<value>[^#]*?)(?P<after>\s*(?:#.*)?)$")


def with_value(text: str, setting: str, value: str) -> str:
    """The text with a setting set to `value` (as TOML writes it).

    Raises `ConfigurationError`, with the line to write, where the file has it in a form not known here.
    """
    path = names.read(setting)
    changed = _replaced(text, path, value)
    if changed is None:
        changed = _inserted(text, path, value)
    meant = _meant(text, path, value)
    if meant is None or _tree(changed) != meant:
        raise ConfigurationError(
            f"`{setting}` stands in the file in a form that cannot be changed here.",
            hint=f"Write it yourself: {setting} = {value}",
        )
    return changed


def _replaced(text: str, path: Path, value: str) -> str | None:
    lines = text.split("\n")
    table: Path = ()
    for at, line in enumerate(lines):
        header = _HEADER.match(line)
        if header is not None:
            table = _read(header["name"])
            continue
        key = _KEY.match(line)
        if key is not None and (*table, *_read(key["name"])) == path:
            lines[at] = f"{key['before']}{value}{key['after']}"
            return "\n".join(lines)
    return None


def _inserted(text: str, path: Path, value: str) -> str:
    """A new line: below the header of its table, or with a header of its own at the end."""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        header = _HEADER.match(line)
        if header is not None and _read(header["name"]) == path[:-1]:
            lines.insert(at + 1, f"{names.written(path[-1:])} = {value}")
            return "\n".join(lines)
    body = text.rstrip("\n")
    gap = "\n\n" if body else ""
    return f"{body}{gap}[{names.written(path[:-1])}]\n{names.written(path[-1:])} = {value}\n"


def _read(name: str) -> Path:
    try:
        return names.read(name.strip())
    except ConfigurationError:
        return ("",)  # no key of ours, and none that is looked for


def _tree(text: str) -> dict[str, object] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _meant(text: str, path: Path, value: str) -> dict[str, object] | None:
    tree = _tree(text)
    if tree is None:
        return None
    inner = tree
    for part in path[:-1]:
        below = inner.setdefault(part, {})
        if not isinstance(below, dict):
            return {}
        inner = below
    inner[path[-1]] = tomllib.loads(f"x = {value}")["x"]
    return tree
