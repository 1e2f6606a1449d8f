"""Settings as text: the commented file of `config init`, the effective file, the page of the docs."""

from collections.abc import Iterator
from typing import Literal, get_args, get_origin

import msgspec

from slipstream.config import names, renewable
from slipstream.config.explain import shown
from slipstream.config.names import Path, Setting, Table
from slipstream.config.settings import Section, Settings

_HEAD = """\
# Settings of Slipstream. Each stands here with its default; uncomment a line to change it.
# The environment overrides this file: SLIPSTREAM__SERVER__PORT=8081. Flags override both.
# `slipstream config explain` tells which value holds and where it came from.
"""

_PAGE_HEAD = """\
# Settings

Made from `src/slipstream/config/settings.py` by `make docs`; edit the descriptions there.

A setting is taken from `slipstream.toml` in the working folder (or `--config FILE`, or `$SLIPSTREAM_CONFIG`),
overridden by the environment (`SLIPSTREAM__SECTION__KEY`), overridden by flags.
`slipstream config init` writes a commented file, `slipstream config explain` tells what holds and why.

A running server takes what is marked ↻ when it is told to read its settings again
(`POST /_slipstream/settings/reload`, an admin route); no request is dropped. All else waits for a restart.
"""


def toml_value(value: object) -> str:
    """A plain value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(each) for each in value) + "]"
    assert isinstance(value, str)
    return names.quoted(value)


def effective(settings: Settings) -> str:
    """All settings as a `slipstream.toml` that says the same; credentials inside URLs are masked."""
    return "\n".join(_effective(Settings, settings, ())).strip() + "\n"


def commented() -> str:
    """A `slipstream.toml` that changes nothing: every setting at its default, with its description."""
    lines = [_HEAD]
    open_section: Path = ()
    for each in names.every():
        if isinstance(each, Table):
            continue
        if each.path[:-1] != open_section:
            lines += _tables(open_section)
            open_section = each.path[:-1]
            lines += ["", f"[{names.written(open_section)}]"]
        lines += _commented(each)
    return "\n".join([*lines, *_tables(open_section)]) + "\n"


def page() -> str:
    """The page of the documentation that lists every setting."""
    lines = [_PAGE_HEAD]
    open_section: Path | None = None
    for each in names.every():
        if isinstance(each, Table):
            continue
        if each.path[:-1] != open_section:
            lines += _table_pages(open_section)
            open_section = each.path[:-1]
            lines += _heading(
                f"`[{names.written(open_section)}]`" if open_section else "On top", open_section
            )
        lines.append(_row(each, is_live=renewable.is_live(each.path)))
    return "\n".join([*lines, *_table_pages(open_section)]) + "\n"


def _effective(section: type[Section], values: object, path: Path) -> Iterator[str]:
    inner: list[tuple[type[Section], object, Path]] = []
    tables: list[tuple[Path, dict[str, object], type[Section] | None]] = []
    lines: list[str] = []
    for name, info in names.fields(section).items():
        value = getattr(values, name)
        below, entry = names.section_of(info.type), names.entry_of(info.type)
        if below is not None:
            inner.append((below, value, (*path, name)))
        elif entry is not None:
            tables.append(((*path, name), value, names.section_of(entry)))
        else:
            lines.append(f"{name} = {toml_value(shown(value))}")
    if path:
        yield f"\n[{names.written(path)}]"
    yield from lines
    for place, entries, entry_section in tables:
        if entry_section is None and entries:
            yield f"\n[{names.written(place)}]"
            yield from (
                f"{names.written((key,))} = {toml_value(shown(value))}" for key, value in entries.items()
            )
        elif entry_section is not None:
            for key, value in entries.items():
                yield from _effective(entry_section, value, (*place, key))
    for below, value, place in inner:
        yield from _effective(below, value, place)


def _commented(setting: Setting) -> list[str]:
    value = _example(setting.kind) if setting.default is msgspec.NODEFAULT else toml_value(setting.default)
    return [f"# {setting.description}", f"# {setting.path[-1]} = {value}"]


def _example(kind: object) -> str:
    """What stands where a value must be given."""
    plain = names.plain(kind)
    if get_origin(plain) is Literal:
        return toml_value(get_args(plain)[0])
    return '"..."' if plain is str else "1.0"


def _tables(section: Path) -> list[str]:
    """The tables of the user's own names in a section, wholly commented out."""
    lines: list[str] = []
    for table in names.every():
        if not isinstance(table, Table) or table.path[:-1] != section:
            continue
        entry = names.section_of(table.entry)
        lines += ["", f"# {table.description}"]
        if entry is None:
            example = toml_value("..." if names.plain(table.entry) is str else ("...",))
            lines += [f"# [{names.written(table.path)}]", f'# "another-name" = {example}']
        else:
            lines.append(f"# [{names.written((*table.path, 'name'))}]")
            for setting in names.every(entry):
                assert isinstance(setting, Setting)
                about, line = _commented(setting)
                lines += [f"#   {about}", f"#   {line.removeprefix('# ')}"]
    return lines


def _table_pages(section: Path | None) -> list[str]:
    lines: list[str] = []
    for table in names.every():
        if not isinstance(table, Table) or table.path[:-1] != section:
            continue
        entry = names.section_of(table.entry)
        lines += ["", f"## `[{names.written(table.path)}{'.NAME' if entry else ''}]`", "", table.description]
        if entry is None:
            lines += ["", f'Each line: `"a name" = ` {names.allowed(table.entry)}.']
        else:
            lines += [
                "",
                *_COLUMNS,
                *(
                    _row(each, is_live=renewable.is_live(table.path))
                    for each in names.every(entry)
                    if isinstance(each, Setting)
                ),
            ]
    return lines


_COLUMNS = ("| setting | default | may be | what it does |", "|---|---|---|---|")


def _heading(title: str, path: Path) -> list[str]:
    section: type[Section] = Settings
    for part in path:
        below = names.section_of(names.fields(section)[part].type)
        assert below is not None
        section = below
    about = (section.__doc__ or "").strip() if path else "Before the first section of the file."
    return ["", f"## {title}", "", about, "", *_COLUMNS]


def _row(setting: Setting, *, is_live: bool) -> str:
    default = "must be given" if setting.default is msgspec.NODEFAULT else f"`{toml_value(setting.default)}`"
    name = f"`{setting.path[-1]}`" + " ↻" * is_live
    cells = (name, default, names.allowed(setting.kind), setting.description)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
