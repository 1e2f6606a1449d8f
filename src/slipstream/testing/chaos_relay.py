"""One relayed connection: two sockets, two links, and the timers between them. Decides nothing.

What passes, when, and what breaks off is said by the links; this shell reads, writes, pauses and closes.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, cast

from slipstream.core import clock
from slipstream.testing.chaos_events import Strike
from slipstream.testing.chaos_faults import Fault, Toxic
from slipstream.testing.chaos_link import Link
from slipstream.testing.chaos_response import Choice, RequestLog, Responses
from slipstream.testing.chaos_set import FaultSet
from slipstream.testing.chaos_toxics import Cut, Stage, machine

_LINGER_SECONDS = 1.0  # how long a closed client may go on sending before its socket is dropped
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Counts:
    """What went through a fault proxy since it started."""

    connections: int = 0
    """Accepted, refused ones included."""
    open: int = 0
    bytes_up: int = 0
    """Written to the upstream."""
    bytes_down: int = 0
    """Written to clients."""
    responses: int = 0
    """Heads of final responses seen."""
    upstream_failed: int = 0
    """Connections to the upstream that could not be made."""
    over_limit: int = 0
    """Connections reset because `max_connections` were open."""
    hits: dict[str, int] = field(default_factory=dict)
    """Connections or responses that each fault struck, by its name."""


class Owner(Protocol):
    """What a relay asks of its proxy."""

    faults: FaultSet
    totals: Counts

    async def connect(self, side: asyncio.Protocol) -> None:
        """Connect a protocol to the upstream; OSError if that fails."""

    def trusts(self, address: str) -> bool:
        """Whether an upstream at this address may be sent anything."""

    def admit(self, relay: "Relay") -> int | None:
        """Take note of a relay and give its number, on which its dice depend; None = there is no room."""

    def ended(self, relay: "Relay") -> None:
        """Hear that both sockets are closed."""


class Relay:
    """A client's connection, the upstream's, and the links between them.

    Args:
        owner: the proxy.
        buffer_bytes: how much of each direction may wait.
    """

    def __init__(self, owner: Owner, buffer_bytes: int) -> None:
        self._owner = owner
        self._number = 0
        self._up, self._down = Link(buffer_bytes), Link(buffer_bytes)
        self.client = Side(self, self._up, self._down, self._sent_down)
        self.upstream = Side(self, self._down, self._up, self._sent_up)
        self.client.peer, self.upstream.peer = self.upstream, self.client
        self._requests = RequestLog()
        choice = Choice(self._armed, self._draw, owner.faults.take, self._seen)
        self._responses = Responses(self._requests, choice)
        self._machines: dict[Fault, Stage | None] = {}
        self._dial: asyncio.Task[None] | None = None
        self.closing = False

    def begin(self) -> None:
        """The client is there: refuse it, or connect to the upstream."""
        number = self._owner.admit(self)
        if number is None:
            self.cut(Cut.RESET)
            return
        self._number = number
        for fault in self._owner.faults.refusals(clock.monotonic_ns()):
            if fault.mode != "stop" and self._owner.faults.strike(fault, self._number):
                self.cut(Cut.RESET if fault.mode == "reset" else Cut.CLOSE)
                return
        self.refit()
        self._dial = asyncio.get_running_loop().create_task(self._connect())
        self._dial.add_done_callback(lambda _: self._end_if_over())

    async def _connect(self) -> None:
        try:
            await self._owner.connect(self.upstream)
        except OSError:
            self.fail()

    def trusts(self, peer: tuple[str, int]) -> bool:
        """Whether bytes may be sent to this upstream; asked of the address that was really reached."""
        return self._owner.trusts(peer[0])

    def fail(self) -> None:
        """There is no upstream: the client's connection is reset."""
        self._owner.totals.upstream_failed += 1
        self.cut(Cut.RESET)

    def refit(self) -> None:
        """Put in the machines of the faults that are active now; those that stay keep their state."""
        now = clock.monotonic_ns()
        active = self._owner.faults.active(now)
        toxics = [fault for fault in active if isinstance(fault, Toxic)]
        self._machines = {fault: self._machine(fault, now) for fault in toxics}
        names = {fault.name for fault in active}
        self._up.fit([self._requests, *self._stages("up", toxics)], names)
        self._down.fit([self._responses, *self._stages("down", toxics)], names)
        self.client.pump()
        self.upstream.pump()

    def _machine(self, fault: Toxic, now: int) -> Stage | None:
        if fault in self._machines:
            return self._machines[fault]
        dice = self._owner.faults.strike(fault, self._number)
        return machine(fault, dice, now) if dice is not None else None

    def _stages(self, direction: str, toxics: Iterable[Toxic]) -> list[Stage]:
        stages = (self._machines[fault] for fault in toxics if fault.direction == direction)
        return [stage for stage in stages if stage is not None]

    def _armed(self) -> bool:
        return bool(self._owner.faults.responses(clock.monotonic_ns()))

    def _draw(self, number: int, target: bytes) -> list[Strike]:
        drawn = (
            (fault, self._owner.faults.draw(fault, self._number, number))
            for fault in self._owner.faults.responses(clock.monotonic_ns())
            if target.startswith(fault.path.encode())
        )
        return [(fault, dice) for fault, dice in drawn if dice is not None]

    def _sent_up(self, size: int) -> None:
        self._owner.totals.bytes_up += size

    def _sent_down(self, size: int) -> None:
        self._owner.totals.bytes_down += size

    def _seen(self) -> None:
        self._owner.totals.responses += 1

    def cut(self, cut: Cut) -> None:
        """Break both connections off."""
        if self.closing:
            return
        self.closing = True
        if self._dial is not None:
            self._dial.cancel()
        if cut is Cut.CLOSE:
            self.client.finish()
        else:
            self.client.drop(reset=True)
        self.upstream.drop(reset=cut is Cut.RESET)

    def abort(self) -> None:
        """Close both sockets now, without waiting for anyone."""
        self.closing = True
        if self._dial is not None:
            self._dial.cancel()
        self.client.drop(reset=False)
        self.upstream.drop(reset=False)

    def lost(self, side: "Side", error: Exception | None) -> None:
        """One socket is closed: the other follows in the same way."""
        if not self.closing:
            self.closing = True
            side.peer.drop(reset=error is not None)
        if self._dial is not None:
            self._dial.cancel()
        self._end_if_over()

    def _end_if_over(self) -> None:
        dialling = self._dial is not None and not self._dial.done()
        if not self.client.connected and not self.upstream.connected and not dialling:
            self._owner.ended(self)

    def close_if_over(self) -> None:
        """One peer has nothing more to send: over if both have, or if a fault holds what the other may send.

        A client that closes cannot be told from one that half-closes; behind a hang it is taken to be gone.
        """
        client_gone = self.client.input_ended and self._down.held
        upstream_gone = self.client.output_ended and self._up.held
        if client_gone or upstream_gone:
            self.cut(Cut.CLOSE)
        elif self.client.output_ended and self.upstream.output_ended:
            self.abort()


class Side(asyncio.Protocol):
    """One socket of a relay.

    Args:
        relay: what it belongs to.
        inbound: takes what this socket reads.
        outbound: says what to write to it.
        sent: hears how many bytes were written.
    """

    peer: "Side"

    def __init__(self, relay: Relay, inbound: Link, outbound: Link, sent: Callable[[int], None]) -> None:
        self._relay = relay
        self._inbound, self._outbound, self._sent = inbound, outbound, sent
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.Handle | None = None
        self._writable = True
        self._reading = True
        self.connected = False
        self.input_ended = False
        self.output_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        stream = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._transport = stream
        self.connected = True
        sock = stream.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # With no room for us to buffer, "writable" means that the kernel has every byte: a cut loses none.
        stream.set_write_buffer_limits(high=0)
        if self is self._relay.client:
            self._relay.begin()
        elif self._relay.closing:
            self.drop(reset=False)
        elif not self._relay.trusts(stream.get_extra_info("peername")):
            self._relay.fail()
        else:
            self.pump()

    def data_received(self, data: bytes) -> None:
        """Feed the link towards the other side."""
        if self._relay.closing:
            return
        self._inbound.feed(clock.monotonic_ns(), bytes(data))
        self.peer.pump()
        if self._inbound.full:
            self._pause()

    def eof_received(self) -> bool:
        """The peer has nothing more to send; the other direction lives on."""
        self.input_ended = True
        if self._relay.closing:
            return False
        self._inbound.feed(clock.monotonic_ns(), Cut.FIN)
        self.peer.pump()
        self._relay.close_if_over()
        return True

    def pause_writing(self) -> None:
        """The kernel's buffer is full."""
        self._writable = False

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        self._writable = True
        self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self.connected = False
        self._stop_timer()
        self._relay.lost(self, exc)

    def pump(self) -> None:
        """Write the next piece that is due, make the cut that is due, or come back when one is."""
        self._stop_timer()
        if self._relay.closing or self._transport is None:
            return
        now = clock.monotonic_ns()
        piece = self._outbound.take(now) if self._writable else self._outbound.overdue(now)
        if isinstance(piece, bytes):
            self._transport.write(piece)
            self._sent(len(piece))
        elif piece is Cut.FIN:
            self._end_output()
        elif piece is not None:
            self._relay.cut(piece)
        if not self._relay.closing:
            self.peer.resume()
            self._come_back(now)

    def _come_back(self, now: int) -> None:
        """See when the next piece is to be written."""
        at = self._outbound.wake_at if self._writable else self._outbound.due_at
        loop = asyncio.get_running_loop()
        if at is None:
            return
        if at > now:
            self._timer = loop.call_later((at - now) / 1e9, self.pump)
        else:
            # Two turns of the loop between pieces: readers see what was cut apart before the rest joins it.
            self._timer = loop.call_soon(self._after_a_turn)

    def _after_a_turn(self) -> None:
        self._timer = asyncio.get_running_loop().call_soon(self.pump)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_output(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
        self.output_ended = True
        self._relay.close_if_over()

    def _pause(self) -> None:
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, if there is room for it again."""
        if not self._reading and not self._inbound.full:
            self._read_on()

    def _read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def finish(self) -> None:
        """Close cleanly: what was written arrives, then FIN; what still comes in is thrown away."""
        self._stop_timer()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self.input_ended:
            transport.close()
            return
        if not self.output_ended:
            transport.write_eof()
        if not self._reading:
            self._read_on()  # bytes left unread would turn the close into a reset
        self._timer = asyncio.get_running_loop().call_later(_LINGER_SECONDS, transport.abort)

    def drop(self, *, reset: bool) -> None:
        """Close at once, with RST if asked for."""
        self._stop_timer()
        if self._transport is None:
            return
        if reset:
            sock = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()
