"""What settings there are: every name with its type, default and description, read off the structs.

A name is a path of segments, `("models", "upstreams", "openai", "url")`; written, it is a TOML key.
It knows no file, no environment and no value that anybody set.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator
from typing import Annotated, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo

from slipstream.config.settings import Section, Settings
from slipstream.core.errors import ConfigurationError

Path = tuple[str, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Setting(Struct, frozen=True):
    """One setting: where it stands, what it may hold, what it holds unless told, what it is for."""

    path: Path
    kind: object
    """Its type as annotated, bounds included."""
    default: object
    """`msgspec.NODEFAULT` where it must be given."""
    description: str


class Table(Struct, frozen=True):
    """A table of the user's own names (`[models.upstreams.NAME]`): what each entry is."""

    path: Path
    entry: object
    """The type of an entry: a `Section`, or a plain type."""
    description: str


def written(path: Path) -> str:
    """A path as the TOML key it is: `models.simulated."gpt-4.1".ttft_ms`."""
    return ".".join(part if _BARE.fullmatch(part) else quoted(part) for part in path)


def quoted(text: str) -> str:
    """A text as TOML writes it: JSON's escapes, and one for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read(name: str) -> Path:
    """A TOML key as a path. Raises `ConfigurationError` for what is no key."""
    try:
        inner: object = tomllib.loads(f"{name} = 0") if "\n" not in name else 0
    except tomllib.TOMLDecodeError:
        inner = 0
    path: list[str] = []
    while isinstance(inner, dict) and len(inner) == 1:
        ((part, inner),) = inner.items()
        path.append(part)
    if not path or inner != 0 or isinstance(inner, bool):
        raise ConfigurationError(
            f"`{name}` is not the name of a setting.", hint="Write it like a key of TOML: `server.port`."
        )
    return tuple(path)


def fields(section: type[Section]) -> dict[str, FieldInfo]:
    """The fields of a section by name, in the order they are written."""
    return {info.name: info for info in msgspec.structs.fields(section)}


def section_of(kind: object) -> type[Section] | None:
    """The section that a type is, or None for a plain value."""
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def entry_of(kind: object) -> object | None:
    """The type of an entry where `kind` is a table of the user's own names, else None."""
    bare = plain(kind)
    return get_args(bare)[1] if get_origin(bare) is dict else None


def plain(kind: object) -> object:
    """A type without its bounds and description."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def description(kind: object) -> str:
    """What a type's annotation says of the setting; the last one wins."""
    if get_origin(kind) is not Annotated:
        return ""
    said = [meta.description for meta in get_args(kind)[1:] if isinstance(meta, Meta) and meta.description]
    return said[-1] if said else ""


def every(section: type[Section] = Settings, path: Path = ()) -> Iterator[Setting | Table]:
    """Every setting below a section in the order of the structs: plain ones first, then sections."""
    inner: list[tuple[Path, type[Section]]] = []
    for name, info in fields(section).items():
        below = section_of(info.type)
        entry = entry_of(info.type)
        if below is not None:
            inner.append(((*path, name), below))
        elif entry is not None:
            yield Table((*path, name), entry, description(info.type))
        else:
            yield Setting((*path, name), info.type, info.default, description(info.type))
    for place, below in inner:
        yield from every(below, place)


def allowed(kind: object) -> str:
    """What a value may be, in words: `int, 0 to 65535`, `auto | on | off`, `list of str`."""
    bare = plain(kind)
    if get_origin(bare) is Literal:
        return " | ".join(str(choice) for choice in get_args(bare))
    if get_origin(bare) is tuple:
        return f"list of {allowed(get_args(bare)[0])}"
    word = bare.__name__ if isinstance(bare, type) else str(bare)
    metas = [each for each in get_args(kind)[1:] if isinstance(each, Meta)] if bare is not kind else []
    least = next((f"{each.ge:,}" for each in metas if each.ge is not None), "")
    above = next((f"{each.gt:,}" for each in metas if each.gt is not None), "")
    most = next((f"{each.le:,}" for each in metas if each.le is not None), "")
    if least and most:
        return f"{word}, {least} to {most}"
    bounds = (
        f"at least {least}" if least else "",
        f"above {above}" if above else "",
        f"at most {most}" if most else "",
    )
    return ", ".join([word, *filter(None, bounds)])


def nearest(path: Path, known: list[str]) -> list[Path]:
    """What was probably meant by `path`, whose last segment is not among the `known` ones of its table.

    A setting of that very name in another section is found too: `port` is `server.port`.
    """
    close = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.6)
    if close:
        return [(*path[:-1], close[0])]
    return [setting.path for setting in every() if setting.path[-1] == path[-1]][:3]
