"""One setting changed in the text of a `slipstream.toml`, all else left as a person wrote it. Pure.

It knows TOML only as far as people write settings: one key a line, tables by their headers. What comes out
is read again and held against what was meant; where that differs nothing is changed.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence

from slipstream.config import names
from slipstream.config.names import Path
from slipstream.core.errors import ConfigurationError

_HEADER = re.compile(r"^\s*\[(?P<name>[^\[\]]+(?:\"[^\"]*\"[^\[\]]*)*)\]\s*(?:#.*)?$")
_KEY = re.compile(r"^(?P<before>\s*(?P<name>[^=#]+?)\s*=\s*)(?P<value>[^#]*?)(?P<after>\s*(?:#.*)?)$")


BYTE_ORDER_MARK = "\ufeff"


def with_value(text: str, setting: str, value: str) -> str:
    """The text with a setting set to `value` (as TOML writes it).

    Raises `ConfigurationError`, with the line to write, where the file has it in a form not known here.
    """
    path = names.read(setting)
    changed = _replaced(text, path, value)
    if changed is None:
        changed = _inserted(text, path, value)
    meant = _meant(text, path, value)
    if meant is None or tree(changed) != meant:
        raise ConfigurationError(
            f"`{setting}` stands in the file in a form that cannot be changed here.",
            hint=f"Write it yourself: {setting} = {value}",
        )
    return changed


def with_values(text: str, values: Mapping[str, str]) -> str:
    """The text with several settings set; new lines of a table stand in the order given. Raises as one."""
    for setting, value in reversed(list(values.items())):
        text = with_value(text, setting, value)
    return text


def without(text: str, settings: Sequence[str], *, before: str = "") -> str:
    """The text without the lines of some settings, and without tables left empty that `before` lacks.

    Raises `ConfigurationError` where the file has one in a form not known here.
    """
    paths = [names.read(each) for each in settings]
    meant = tree(text)
    for path in paths:
        inner = value_at(meant, path[:-1])
        if isinstance(inner, dict):
            inner.pop(path[-1], None)
    lines = [line for line, at in _placed(text) if at not in paths]
    changed = "\n".join(lines)
    tables = {path[:-1] for path in paths if not isinstance(value_at(tree(before), path[:-1]), dict)}
    changed = _without_empty(changed, [each for each in tables if value_at(meant, each) == {}])
    if meant is None or _pruned(tree(changed)) != _pruned(meant):
        raise ConfigurationError(
            f"`{settings[0]}` stands in the file in a form that cannot be taken out here.",
            hint=f"Take it out yourself: {', '.join(settings)}.",
        )
    return changed


def tree(text: str) -> dict[str, object] | None:
    """What a file says; None where it is no TOML. A mark of the byte order in front is passed over."""
    try:
        return tomllib.loads(text.removeprefix(BYTE_ORDER_MARK))
    except tomllib.TOMLDecodeError:
        return None


def value_at(found: object, path: Path) -> object:
    """What stands at a path below a table; None where nothing does."""
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _placed(text: str) -> list[tuple[str, Path]]:
    """Every line with the path of the key that it sets; without one: a header's is empty."""
    table: Path = ()
    placed: list[tuple[str, Path]] = []
    for line in text.split("\n"):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header is not None:
            table = _read(header["name"])
        is_key = header is None and key is not None
        placed.append((line, (*table, *_read(key["name"])) if is_key and key is not None else ()))
    return placed


def _without_empty(text: str, tables: Sequence[Path]) -> str:
    """Without the headers of some tables, each with the empty line above it."""
    kept: list[str] = []
    for line in text.split("\n"):
        header = _HEADER.match(line)
        if header is None or _read(header["name"]) not in tables:
            kept.append(line)
        elif kept and not kept[-1].strip():
            kept.pop()
    return "\n".join(kept)


def _pruned(found: object) -> object:
    """A tree without its empty tables."""
    if not isinstance(found, dict):
        return found
    inner = {name: _pruned(below) for name, below in found.items()}
    return {name: below for name, below in inner.items() if below != {}}


def _replaced(text: str, path: Path, value: str) -> str | None:
    placed = _placed(text)
    for number, (line, at) in enumerate(placed):
        key = _KEY.match(line)
        if at == path and key is not None:
            placed[number] = (f"{key['before']}{value}{key['after']}", at)
            return "\n".join(each for each, _ in placed)
    return None


def _inserted(text: str, path: Path, value: str) -> str:
    """A new line: below the header of its table, or with a header of its own at the end."""
    end = "\r\n" if "\r\n" in text else "\n"
    written = f"{names.written(path[-1:])} = {value}"
    lines = text.split("\n")
    for at, line in enumerate(lines):
        header = _HEADER.match(line)
        if header is not None and _read(header["name"]) == path[:-1]:
            if at + 1 == len(lines):  # the header is the last line, and not ended
                lines[at] += end.removesuffix("\n")
            else:
                written += end.removesuffix("\n")
            lines.insert(at + 1, written)
            return "\n".join(lines)
    body = text.rstrip("\r\n")
    gap = end * 2 if body else ""
    return f"{body}{gap}[{names.written(path[:-1])}]{end}{written}{end}"


def _read(name: str) -> Path:
    try:
        return names.read(name.strip())
    except ConfigurationError:
        return ("",)  # no key of ours, and none that is looked for


def _meant(text: str, path: Path, value: str) -> dict[str, object] | None:
    found = tree(text)
    if found is None:
        return None
    inner = found
    for part in path[:-1]:
        below = inner.setdefault(part, {})
        if not isinstance(below, dict):
            return {}
        inner = below
    inner[path[-1]] = tomllib.loads(f"x = {value}")["x"]
    return found
