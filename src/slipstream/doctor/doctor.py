"""`Doctor().diagnose("1h")`: fetches the evidence of this machine's server, or of the records it has left."""

import asyncio
import contextlib
from collections.abc import Mapping

import msgspec

from slipstream.config import paths
from slipstream.config.live import LiveServer, find_live
from slipstream.config.load import load
from slipstream.config.settings import Settings
from slipstream.core import clock
from slipstream.core.errors import BadRequest, StoreFailed
from slipstream.core.portal import PORTAL
from slipstream.core.record import Record
from slipstream.core.use import UseRow
from slipstream.doctor import ledger
from slipstream.doctor.diagnosis import Diagnosis, diagnose
from slipstream.doctor.evidence import RECORDS_MAX, Evidence, gather
from slipstream.doctor.ledger import Ledger
from slipstream.doctor.predict import REPLAYS
from slipstream.doctor.whose_ledger import ledger_meant, seen_here
from slipstream.models.local_process import cores
from slipstream.monitoring import admin
from slipstream.server.profile_desk import UseList
from slipstream.server.renewal import DoctorView
from slipstream.store import settings_since
from slipstream.store.records import PAGE_MAX, RecordFilter, RecordStore
from slipstream.testing.load.quantity import seconds as seconds_of

ASK_SECONDS = 30.0
WINDOW_SECONDS_MAX = 50 * 366 * 86_400.0
USE_SECONDS = 1.0
"""How long resources are watched: what is full now, beside what was slow."""


class Doctor:
    """Says what is slow, why, and what would help.

    Args:
        server: URL or process id of the live server that is meant, where there are several.
        settings: whose records are looked at; by default those that hold here.

    Example:
        print(Doctor().diagnose("1h").verdict)
    """

    def __init__(self, *, server: str = "", settings: Settings | None = None) -> None:
        self._named = server
        self._settings = settings

    def diagnose(self, window: str | float = "1h", *, replays: int = REPLAYS) -> Diagnosis:
        """What the requests of the last `window` (`15m`, `1h`, or seconds) tell.

        Without a live server its records are read all the same; then nothing is known of stalls.
        Raises `BadRequest` for a window that is none, `ConfigurationError` where several servers live.
        """
        return self.judge(self.evidence(window), replays=replays)

    def judge(self, evidence: Evidence, *, replays: int = REPLAYS) -> Diagnosis:
        """What evidence tells, beside how such advice has fared so far."""
        return diagnose(evidence, replays=replays, records=self.reputation())

    def evidence(self, window: str | float = "1h") -> Evidence:
        """What a diagnosis of that window is made of. Raises as `diagnose`.

        It begins at the last change of the server's settings, while it served or by a restart with others:
        what was before is not what is now.
        """
        span = seconds_of(window) if isinstance(window, str) else window
        if not 0 < span < WINDOW_SECONDS_MAX:
            raise BadRequest(
                f"{window!r} is no window to look back.", param="window", hint="Such as 15m or 6h."
            )
        since_ns = clock.wall_ns() - round(span * 1e9)
        settings = self._settings or load()
        view = self.view(settings)
        in_force = view.settings if view is not None else settings
        changed_ns = changed_since(view, in_force, since_ns)
        since_ns = max(since_ns, changed_ns)
        stalls = [each for each in view.stalls if each.wall_ns >= since_ns] if view is not None else []
        return gather(
            recorded(in_force, since_ns),
            in_force,
            stalls,
            self.resources(settings),
            settings_since_wall_ns=changed_ns,
            cores=cores(),
        )

    def live(self, settings: Settings) -> LiveServer | None:
        """The live server that is meant; None where none lives."""
        return find_live(settings, server=self._named or None)

    def view(self, settings: Settings) -> DoctorView | None:
        """What the live server tells of itself; None where none lives."""
        server = self.live(settings)
        if server is None:
            return None
        said = PORTAL.call(admin.request(server, "GET", "doctor"), timeout=ASK_SECONDS)
        view = admin.understood(said, DoctorView)
        return msgspec.structs.replace(view, settings=seen_here(server, view))

    def resources(self, settings: Settings) -> tuple[UseRow, ...]:
        """The USE table of the live server, of about the last second; empty where none lives."""
        server = self.live(settings)
        if server is None:
            return ()
        said = PORTAL.call(_use(server), timeout=ASK_SECONDS)
        return tuple(admin.understood(said, UseList).rows)

    def reputation(self) -> Mapping[str, str]:
        """What the ledger says of each class of advice; nothing where it cannot be read."""
        with contextlib.suppress(StoreFailed):
            return ledger.reputation(self.ledger().entries)
        return {}

    def interrupted(self) -> str:
        """What is to be done of a fix whose process died while it was tried; empty where none did."""
        with contextlib.suppress(StoreFailed):
            return self.ledger().interrupted
        return ""

    def ledger(self) -> Ledger:
        """All advice that was acted on, and how right it was. Raises `StoreFailed`."""
        return ledger.read(ledger_meant(self._named, self._settings))


def changed_since(view: DoctorView | None, settings: Settings, since_wall_ns: int) -> int:
    """When settings last changed after that; 0 where they did not.

    Where no server lives (`view` is None) it is told by what the last one has written down.
    """
    held_ns = (
        view.changed_wall_ns
        if view is not None
        else settings_since.since(paths.settings_since_path(settings))
    )
    return held_ns if held_ns > since_wall_ns else 0


async def _use(server: LiveServer) -> bytes:
    """Asked twice: rates are over the time since whoever asked before."""
    await admin.request(server, "GET", "use")
    await asyncio.sleep(USE_SECONDS)
    return await admin.request(server, "GET", "use")


def recorded(settings: Settings, since_wall_ns: int, until_wall_ns: int | None = None) -> list[Record]:
    """The latest records since then (until then); none where nothing was ever recorded."""
    path = paths.records_path(settings)
    if not path.is_file():
        return []
    store = RecordStore(path)
    rows: list[Record] = []
    try:
        where = RecordFilter(since_wall_ns=since_wall_ns, until_wall_ns=until_wall_ns)
        before = ""
        while len(rows) < RECORDS_MAX:
            page = store.recent(PAGE_MAX, before=before, where=where)
            rows += page
            if len(page) < PAGE_MAX:
                break
            before = page[-1].id
    finally:
        store.close()
    return rows[:RECORDS_MAX]
