"""A server whose answer times are known beforehand: what the load engine is tested against.

    python -m slipstream.testing.load.known_server '{"service_ns": 50000000}'

Every request is answered after `service_ns`, one at a time if `is_queue`. So long after the first request as
`freeze_after_ns` says, the whole process stands still for `freeze_ns`, as a stopped one does.

It is also a witness: a timer of its own tells how late this machine wakes a process, whatever is measured.
`GET /late` answers with the 99th percentile of that, in milliseconds.
"""

import asyncio
import heapq
import sys
import time
from typing import cast

import httptools
import msgspec
from msgspec import Struct

from slipstream.core import clock
from slipstream.testing.floor_process import serve_as_child
from slipstream.testing.load.pacer import Pacer

BEAT_SECONDS = 0.005
BEATS_MAX = 100_000
WITNESS = b"/late"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Script(Struct, frozen=True, forbid_unknown_fields=True):
    """How it behaves."""

    service_ns: int = 0
    is_queue: bool = False
    freeze_after_ns: int = 0
    freeze_ns: int = 0


class Known:
    """What its connections share."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._pacer = Pacer(self._on_time)
        self._due: list[tuple[int, int, asyncio.Transport | None]] = []
        self._count = 0
        self._free_at = 0
        self._late: list[int] = []
        self._thawed = False
        self._beat(clock.monotonic_ns())

    def _beat(self, due: int) -> None:
        """Note how late this was called; the one beat of a freeze apart."""
        now = clock.monotonic_ns()
        if self._thawed:
            self._thawed = False
        elif len(self._late) < BEATS_MAX:
            self._late.append(now - due)
        again = now + round(BEAT_SECONDS * 1e9)
        asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat, again)

    def late(self) -> bytes:
        """The answer to whoever asks how late timers fired."""
        ordered = sorted(self._late)
        body = b"%.3f" % (ordered[len(ordered) * 99 // 100] / 1e6)
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)

    def take(self, transport: asyncio.Transport) -> None:
        """A request is there."""
        now, script = clock.monotonic_ns(), self._script
        if not self._count and script.freeze_ns:
            heapq.heappush(self._due, (now + script.freeze_after_ns, -1, None))
        self._count += 1
        begins = max(now, self._free_at) if script.is_queue else now
        self._free_at = begins + script.service_ns
        heapq.heappush(self._due, (self._free_at, self._count, transport))
        self._pacer.arm(self._due[0][0])

    def _on_time(self) -> None:
        due = self._due
        while due and due[0][0] <= clock.monotonic_ns():
            at, _, transport = heapq.heappop(due)
            if transport is None:
                time.sleep(max(0, at + self._script.freeze_ns - clock.monotonic_ns()) / 1e9)
                self._thawed = True
            else:
                transport.write(ANSWER)
        if due:
            self._pacer.arm(due[0][0])
        else:
            self._pacer.disarm()


class KnownConnection(asyncio.Protocol):
    """One connection."""

    def __init__(self, script: Script, known: list[Known]) -> None:
        if not known:
            known.append(Known(script))
        self._known = known[0]
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; whoever speaks something else than HTTP is dropped."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, path: bytes) -> None:
        """Called by the parser."""
        self._path = path

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._path == WITNESS:
            self._transport.write(self._known.late())
            self._transport.close()
            return
        self._known.take(self._transport)


def main(arguments: list[str]) -> int:
    """The process."""
    script = msgspec.json.decode(arguments[0] if arguments else "{}", type=Script)
    known: list[Known] = []
    return serve_as_child(lambda: KnownConnection(script, known))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
