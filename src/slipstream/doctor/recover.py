"""What an apply has left in force whose process was killed: found in the ledger, and taken back.

Only what that apply wrote is taken back: a setting that somebody changed since is theirs.
"""

import contextlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from slipstream.config import names, paths
from slipstream.config.edit import with_value
from slipstream.config.live import LiveServer, live_servers
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError, SlipstreamError
from slipstream.core.portal import PORTAL
from slipstream.doctor.one_at_a_time import alone
from slipstream.doctor.setting_file import RELOAD_SECONDS, write
from slipstream.monitoring import admin
from slipstream.server.renewal import DoctorView, Renewed
from slipstream.store.ledger import Entry, LedgerStore

ASK_SECONDS = 30.0


class Undone(Struct, frozen=True):
    """What is done with a settings file: left, written with `text`, or removed; `note` says it."""

    what: Literal["leave", "write", "remove"]
    note: str
    text: str = ""


def undone(entry: Entry, now: str | None, before: str | None) -> Undone:
    """How an interrupted fix is taken back. Pure.

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
    try:
        held = _value_in(now, entry.setting)
    except tomllib.TOMLDecodeError:
        return Undone("leave", f"the settings file cannot be read and is left as it is; look at {setting}.")
    if held is None or held == _value(entry.before):
        return Undone("leave", f"{setting} stands in the file as before.")
    if held != _value(entry.after):
        return Undone("leave", f"{setting} was changed since, and is left as it is.")
    try:
        if before is not None and now == with_value(before, entry.setting, entry.after):
            back = f"the file is as before, with {setting} {entry.before}."
            return Undone("write", back, before) if had_file else Undone("remove", back)
        was = _value_in(before, entry.setting) if before is not None else None
        value = entry.before if was is None else msgspec.json.encode(was).decode()
        note = f"{setting} is {value} again; what else was changed in the file since is kept."
        return Undone("write", note, with_value(now, entry.setting, value))
    except ConfigurationError as error:
        return Undone("leave", f"{error.message} {error.hint}")


def _value(written: str) -> object:
    return tomllib.loads(f"x = {written}")["x"]


def _value_in(text: str, setting: str) -> object:
    inner: object = tomllib.loads(text)
    for part in names.read(setting):
        inner = inner.get(part) if isinstance(inner, dict) else None
    return inner


def recover(settings: Settings) -> list[Entry]:
    """Take back what was interrupted, and have the server take that; what was found, newest first.

    Raises `ConfigurationError` where a fix is being applied now, or a file cannot be written; `StoreFailed`.
    """
    ledger = paths.ledger_path(settings)
    if not ledger.is_file():
        return []
    with alone(ledger), contextlib.closing(LedgerStore(ledger)) as store:
        found = []
        for number, entry in store.unfinished():
            ended = replace(entry, state="interrupted", note=_taken_back(entry, live_servers(settings)))
            store.replace(number, ended)
            found.append(ended)
        return found


def _taken_back(entry: Entry, servers: Sequence[LiveServer]) -> str:
    file = Path(entry.file)
    before = _text(Path(entry.file_before)) if entry.file_before else ""
    told = undone(entry, _text(file), before)
    if told.what == "write":
        write(file, told.text, file)
    elif told.what == "remove":
        file.unlink(missing_ok=True)
    untold = [server for server in servers if not _has_taken(server, file)]
    late = "".join(f" The server at {each.url} takes it when it reloads or starts again." for each in untold)
    return f"The process that tried it ended before it was over; {told.note}{late}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _has_taken(server: LiveServer, file: Path) -> bool:
    """Whether a server has read that file again, or has another one."""
    try:
        said = PORTAL.call(admin.request(server, "GET", "doctor"), timeout=ASK_SECONDS)
        if Path(admin.understood(said, DoctorView).file) != file:
            return True
        asked = admin.request(server, "POST", "settings/reload", seconds=RELOAD_SECONDS)
        return not admin.understood(PORTAL.call(asked), Renewed).refused
    except (SlipstreamError, TimeoutError):
        return False
