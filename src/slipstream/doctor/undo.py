"""How a fix is taken out of a settings file that somebody may have changed since. Pure.

Only what was written for it is taken out: a setting that somebody changed since is theirs.
"""

import tomllib
from typing import Literal

import msgspec
from msgspec import Struct

from slipstream.config import names
from slipstream.config.edit import tree, value_at, with_value, without
from slipstream.core.errors import ConfigurationError
from slipstream.doctor.file_text import again, beside
from slipstream.store.ledger import Entry


class Undone(Struct, frozen=True):
    """What is done with a settings file: left, written with `text`, or removed; `note` says it.

    `left` is what may still stand there: nothing of the fix, a value of somebody's, or what cannot be told.
    """

    what: Literal["leave", "write", "remove"]
    note: str
    text: str = ""
    left: Literal["nothing", "theirs", "unclear"] = "nothing"


def undone(entry: Entry, now: str | None, before: str | None) -> Undone:
    """How an interrupted fix is taken back.

    Args:
        entry: its row in the ledger.
        now: the settings file; None where it is gone.
        before: the file as it was before; None where that is gone. Empty where there was none.
    """
    setting, had_file = f"`{entry.setting}`", bool(entry.file_before)
    if now is None:
        return Undone(
            "leave", "the settings file is not there" + (" any more." if had_file else ", as before.")
        )
    if had_file and now == before:
        return Undone("leave", f"{setting} was out just then: the file is as before.")
    if tree(now) is None:
        said = f"the settings file cannot be read and is left as it is; look at {setting}."
        return Undone("leave", said, left="unclear")
    held = value_at(tree(now), names.read(entry.setting))
    if held is None or held == _value(entry.before):
        return Undone("leave", f"{setting} stands in the file as before.")
    if held != _value(entry.after):
        return Undone("leave", f"{setting} was changed since, and is left as it is.", left="theirs")
    if before is not None and tree(before) is None:
        before = None  # it was a settings file when it was put aside
    try:
        if before is not None and now == again(before, entry.setting, entry.after, entry.written):
            back = f"the file is as before, with {setting} {entry.before}."
            return Undone("write", back, before) if had_file else Undone("remove", back)
        return _taken_out(entry, now, before)
    except ConfigurationError as error:
        return Undone("leave", f"{error.message} {error.hint}", left="unclear")


def _taken_out(entry: Entry, now: str, before: str | None) -> Undone:
    """Out of a file with other changes, which are kept."""
    setting, kept = f"`{entry.setting}`", "what else was changed in the file since is kept."
    was = value_at(tree(before), names.read(entry.setting)) if before is not None else None
    if was is not None:
        value = msgspec.json.encode(was).decode()
    elif before is None and not entry.written:
        value = entry.before  # whether there was a line is not known: the ledger knows the value
    else:
        text = without(now, _ours(entry, now), before=before or "")
        return Undone("write", f"{setting} is out of the file again; {kept}", text)
    return Undone("write", f"{setting} is {value} again; {kept}", with_value(now, entry.setting, value))


def _ours(entry: Entry, now: str) -> list[str]:
    """The lines that were written: the setting, and what stands beside it while nobody has added to that."""
    table = names.read(entry.setting)[:-1]
    written, held = tree(entry.written) or {}, value_at(tree(now), table)
    more = held if isinstance(held, dict) else {}
    is_as_written = {key: value for key, value in more.items() if key in written} == written
    if not is_as_written or len(more) != len(written) + 1:
        return [entry.setting]
    return [entry.setting, *beside(entry.setting, entry.written)]


def _value(written: str) -> object:
    return tomllib.loads(f"x = {written}")["x"]
