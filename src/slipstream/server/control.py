"""What the supervisor tells pages and admin routes: the one object behind its Unix socket.

The routes themselves are the gateway's (`admin_api`); this knows no HTTP.
"""

import os
from collections.abc import Callable, Sequence

from msgspec import Struct

import slipstream
from slipstream.core import clock
from slipstream.core.meters import Counters
from slipstream.core.record import Record
from slipstream.models.local_process import LocalAddress
from slipstream.server.access import Access
from slipstream.server.recording import Recorder
from slipstream.server.slots import Slot, SlotState


class Readiness(Struct, frozen=True):
    """Whether requests can be answered, and what some of them would wait for."""

    ready: bool
    draining: bool
    loading: tuple[str, ...]
    """Names of the models that cannot answer yet."""


Local = tuple[str, LocalAddress]
"""The embedded model: its name, and where it is served."""


class ControlState:
    """How every part of the supervisor does, for whoever may ask.

    Args:
        url: where the server is reached.
        slots: the workers.
        access: the keys and sessions.
        recorder: the records.
        counters: the supervisor's own counts; the workers' are added to them.
        local: name and address of the embedded model, None where it is off.
        renew_keys: called when a session has begun, so that the workers hear of it at once.
    """

    def __init__(
        self,
        url: str,
        slots: Sequence[Slot],
        *,
        access: Access,
        recorder: Recorder,
        counters: Counters,
        local: Callable[[], Local | None],
        renew_keys: Callable[[], None],
    ) -> None:
        self.draining = False
        self._url = url
        self._slots = slots
        self._access = access
        self._recorder = recorder
        self._counters = counters
        self._local = local
        self._renew_keys = renew_keys
        self._parts: dict[str, Callable[[], dict[str, object]]] = {}
        self._started_ns = clock.monotonic_ns()

    def include(self, name: str, health: Callable[[], dict[str, object]]) -> None:
        """Let the status tell of one more part, under its name."""
        self._parts[name] = health

    async def find_record(self, record_id: str) -> Record | None:
        """The record of a request, committed or not; None if it is not known. Raises `StoreFailed`."""
        return await self._recorder.find(record_id)

    async def recent(self, limit: int) -> Sequence[Record]:
        """The latest committed records, newest first. Raises `StoreFailed`."""
        return await self._recorder.recent(limit)

    def readiness(self) -> Readiness:
        """Whether requests can be answered now."""
        local = self._local()
        loading = (local[0],) if local is not None and local[1].state in {"loading", "failed"} else ()
        serving = any(slot.state is SlotState.READY for slot in self._slots)
        return Readiness(serving and not loading and not self.draining, self.draining, loading)

    def status(self) -> dict[str, object]:
        """How every part does, as JSON-ready values."""
        local = self._local()
        readiness = self.readiness()
        return {
            "version": slipstream.__version__,
            "pid": os.getpid(),
            "url": self._url,
            "uptime_seconds": (clock.monotonic_ns() - self._started_ns) / 1e9,
            "ready": readiness.ready,
            "draining": readiness.draining,
            "loading": readiness.loading,
            "workers": [
                {
                    "slot": slot.index,
                    "pid": slot.pid,
                    "state": slot.state.value,
                    "restarts": slot.restarts,
                    "in_flight": slot.in_flight,
                    "endpoints": slot.endpoints,
                }
                for slot in self._slots
            ],
            "local_model": _local_status(local),
            "records": self._recorder.health(),
            "keys": {"healthy": not self._access.failure, "detail": self._access.failure},
            **{name: health() for name, health in self._parts.items()},
            "counters": self.counts(),
        }

    def counts(self) -> dict[str, int]:
        """All counts: the supervisor's own and the workers', those that are gone included."""
        total = self._counters.snapshot()
        for slot in self._slots:
            for name, count in slot.counts().items():
                total[name] = total.get(name, 0) + count
        return total

    def login(self, token: str) -> str | None:
        """Spend a one-time token; the new session's cookie value, or None if the token is not valid."""
        cookie = self._access.login(token)
        if cookie is not None:
            self._renew_keys()
        return cookie

    def invite(self) -> str:
        """A link that opens the pages once; the plain address where no key is asked for."""
        if not self._access.required:
            return self._url
        token = self._access.sessions.issue(clock.monotonic_ns())
        return f"{self._url}/login?token={token}"


def _local_status(local: Local | None) -> dict[str, str] | None:
    """Without its key."""
    return {"name": local[0], "state": local[1].state, "detail": local[1].detail} if local else None
