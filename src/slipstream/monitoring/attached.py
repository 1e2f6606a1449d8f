"""How a program beside a live server reads its metrics and adds its own: admin routes and a guest slab.

Which server is meant is looked up like everywhere (`config.live`), at most once a second, so a program
follows a server that is started or ended later.
"""

import logging
import os
import threading
from pathlib import Path

from slipstream.config.live import LiveServer, find_live
from slipstream.config.load import load
from slipstream.core import clock
from slipstream.core.portal import PORTAL
from slipstream.monitoring import admin
from slipstream.monitoring.calls import Calls
from slipstream.monitoring.own_process import OWN_PROCESS
from slipstream.monitoring.slab import claim_guest, slab_folder
from slipstream.monitoring.summary import Summary

LOOK_NS = 1_000_000_000
"""How long the answer to which server lives is taken to hold."""
ANSWER_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Attachment:
    """One program's tie to the live server. Any thread may use it.

    Args:
        server: URL or process id of the server that is meant, where there are several.
    """

    def __init__(self, server: str = "") -> None:
        self._named = server
        self._lock = threading.Lock()
        self._server: LiveServer | None = None
        self._looked_ns: int | None = None
        self._calls: Calls | None = None
        self._try_ns = 0
        self._pid = os.getpid()

    def server(self) -> LiveServer | None:
        """The live server, None where this process is alone.

        Raises `ConfigurationError` where several live, or the one that was named does not.
        """
        with self._lock:
            now_ns = clock.monotonic_ns()
            if self._looked_ns is None or now_ns - self._looked_ns > LOOK_NS:
                found = self._found()
                self._looked_ns = now_ns
                if found != self._server:
                    self._server = found
                    self._leave()
            return self._server

    def _found(self) -> LiveServer | None:
        """The one that is known already, where the system lets nobody look."""
        try:
            return find_live(load(), server=self._named or None)
        except OSError as error:  # no file more may be opened
            if self._looked_ns is None:
                _log.warning("whether a server lives cannot be seen for now: %s", error)
            return self._server

    def calls(self) -> Calls:
        """Where measured calls are written: a guest slab of the server, or this process's own."""
        server = self.server()
        if server is None:
            return OWN_PROCESS.calls()
        with self._lock:
            if self._pid != os.getpid():  # a forked child: the slab is its parent's
                self._pid, self._calls = os.getpid(), None
            if self._calls is None:
                self._calls = self._claimed(server)
            return self._calls or OWN_PROCESS.calls()

    def _claimed(self, server: LiveServer) -> Calls | None:
        """A guest slab of the server; None while all are taken. Tried again once a second at most."""
        now_ns = clock.monotonic_ns()
        if not server.control or now_ns < self._try_ns:
            return None
        slab = claim_guest(slab_folder(Path(server.control)))
        if slab is None:
            if not self._try_ns:
                _log.warning("the server has no room for the measurements of this program for now")
            self._try_ns = now_ns + LOOK_NS
            return None
        return Calls(slab)

    async def summary(self, server: LiveServer, *, fresh: bool) -> Summary:
        """What the server tells at a glance. Raises `SlipstreamError` where it does not answer."""
        path = f"metrics/summary?fresh={int(fresh)}"
        return admin.understood(await admin.request(server, "GET", path), Summary)

    def forget(self) -> None:
        """Leave the guest slab; what was counted stays with the server."""
        with self._lock:
            self._leave()

    def _leave(self) -> None:
        if self._calls is not None:
            self._calls.close()
            self._calls = None


def ask(attachment: Attachment, server: LiveServer, *, fresh: bool) -> Summary:
    """The same for code without an event loop, or that may block it for the milliseconds this takes."""
    return PORTAL.call(attachment.summary(server, fresh=fresh), timeout=ANSWER_SECONDS)
