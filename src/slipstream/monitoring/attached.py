"""How a program beside a live server reads its metrics and adds its own: admin routes and a guest slab.

Which server is meant is looked up like everywhere (`config.live`), at most once a second, so a program
follows a server that is started or ended later.
"""

import logging
import os
import threading
from pathlib import Path

import msgspec

from slipstream.config.live import LiveServer, find_live
from slipstream.config.load import load
from slipstream.core import clock
from slipstream.core.errors import SlipstreamError
from slipstream.core.portal import PORTAL
from slipstream.monitoring.calls import Calls
from slipstream.monitoring.own_process import OWN_PROCESS
from slipstream.monitoring.slab import claim_guest
from slipstream.monitoring.summary import Summary
from slipstream.net.client import ClientOptions, HttpClient

LOOK_NS = 1_000_000_000
"""How long the answer to which server lives is taken to hold."""
ANSWER_SECONDS = 5.0
ANSWER_BYTES = 4 * 1024 * 1024
PATH = "/_slipstream/metrics/summary"

_log = logging.getLogger(__name__)


def slab_folder(server: LiveServer) -> Path | None:
    """Where a live server's slabs lie, None for one that shares none."""
    if not server.control:
        return None
    control = Path(server.control)
    return control.with_name(control.stem.replace("control-", "metrics-", 1))


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
        self._pid = os.getpid()

    def server(self) -> LiveServer | None:
        """The live server, None where this process is alone.

        Raises `ConfigurationError` where several live, or the one that was named does not.
        """
        with self._lock:
            now_ns = clock.monotonic_ns()
            if self._looked_ns is None or now_ns - self._looked_ns > LOOK_NS:
                found = find_live(load(), server=self._named or None)
                self._looked_ns = now_ns
                if found != self._server:
                    self._server = found
                    self._leave()
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
                folder = slab_folder(server)
                slab = claim_guest(folder) if folder is not None else None
                if slab is None:
                    _log.warning("the server has no room for the measurements of this program")
                    return OWN_PROCESS.calls()
                self._calls = Calls(slab)
            return self._calls

    async def summary(self, server: LiveServer, *, fresh: bool) -> Summary:
        """What the server tells at a glance. Raises `SlipstreamError` where it does not answer."""
        client = HttpClient(server.url, ClientOptions(connections=1))
        try:
            response = await client.request(
                "GET",
                f"{PATH}?fresh={'1' if fresh else '0'}",
                ((b"authorization", b"Bearer " + server.token.encode()),),
            )
            body = await response.read(ANSWER_BYTES)
        finally:
            await client.aclose()
        if response.status != 200:
            raise SlipstreamError(f"The server at {server.url} answered {response.status} to {PATH}.")
        try:
            return msgspec.json.decode(body, type=Summary)
        except msgspec.MsgspecError as error:
            raise SlipstreamError(
                f"The server at {server.url} speaks of its metrics in a way that is not known here.",
                hint="Use the same version of Slipstream on both sides.",
            ) from error

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
