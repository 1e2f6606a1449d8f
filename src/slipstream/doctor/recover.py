"""What an apply has left in force whose process was killed: found in the ledger, and taken back.

Only what that apply wrote is taken back: a setting that somebody changed since is theirs.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from slipstream.config import paths
from slipstream.config.live import LiveServer, live_servers
from slipstream.config.settings import Settings
from slipstream.core.errors import SlipstreamError
from slipstream.core.portal import PORTAL
from slipstream.doctor.one_at_a_time import alone
from slipstream.doctor.setting_file import RELOAD_SECONDS, text_of, write
from slipstream.doctor.undo import undone
from slipstream.doctor.whose_ledger import ledger_of
from slipstream.monitoring import admin
from slipstream.server.renewal import DoctorView, Renewed
from slipstream.store.ledger import Entry, LedgerStore

ASK_SECONDS = 30.0


def recover(settings: Settings, servers: Sequence[LiveServer] = ()) -> list[Entry]:
    """Take back what was interrupted, and have the server take that; what was found, newest first.

    Looked for in the ledger of these settings, and in those of `servers`. Raises `ConfigurationError` where a
    fix is being applied now, or a file cannot be written; `StoreFailed`.
    """
    ledgers = [paths.ledger_path(settings), *(ledger_of(each) for each in servers)]
    return [
        entry
        for ledger in dict.fromkeys(each.resolve() for each in ledgers if each is not None)
        for entry in _recovered(ledger, settings)
    ]


def _recovered(ledger: Path, settings: Settings) -> list[Entry]:
    if not ledger.is_file():
        return []
    with alone(ledger), contextlib.closing(LedgerStore(ledger)) as store:
        found = []
        for number, entry in store.unfinished():
            ended = _taken_back(entry, live_servers(settings))
            store.replace(number, ended)
            found.append(ended)
        return found


def _taken_back(entry: Entry, servers: Sequence[LiveServer]) -> Entry:
    """Its row as it is afterwards: not over where it cannot be told what stands in the file."""
    file = Path(entry.file)
    before = text_of(Path(entry.file_before)) if entry.file_before else ""
    told = undone(entry, text_of(file), before)
    if told.what == "write":
        write(file, told.text, file)
    elif told.what == "remove":
        file.unlink(missing_ok=True)
    untold = [server for server in servers if not _has_taken(server, file)]
    late = "".join(f" The server at {each.url} takes it when it reloads or starts again." for each in untold)
    note = f"The process that tried it ended before it was over; {told.note}{late}"
    return replace(entry, state="applying" if told.left == "unclear" else "interrupted", note=note)


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
