"""Messages over a stream socket: length-prefixed frames with a cap, an outgoing buffer with a bound.

It does not know what the messages mean. A frame is four bytes of length, big-endian, then the message.
"""

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import msgspec

from slipstream.core.errors import SlipstreamError

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""Longest message. A longer one means that the stream is out of step."""
OUTGOING_BYTES_MAX = FRAME_BYTES_MAX + 4
"""Most bytes that wait for the other end."""

_LENGTH = struct.Struct(">I")
_ENCODER = msgspec.msgpack.Encoder()
_log = logging.getLogger(__name__)

Incoming = TypeVar("Incoming")


class FrameReader:
    """Cuts a stream of bytes into the frames it was made of, wherever it was split."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the messages they complete. A frame over the cap raises `SlipstreamError`."""
        buffer = self._buffer
        buffer += data
        messages = []
        position = 0
        while len(buffer) - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, position)
            if length > FRAME_BYTES_MAX:
                raise SlipstreamError(
                    f"A frame of {length} bytes is over the cap of {FRAME_BYTES_MAX}.", code="channel_broken"
                )
            start = position + _LENGTH.size
            if start + length > len(buffer):
                break
            messages.append(bytes(buffer[start : start + length]))
            position = start + length
        del buffer[:position]
        return messages


def frame(message: bytes) -> bytes:
    """`message` as it stands on the wire. It must be within `FRAME_BYTES_MAX`."""
    assert len(message) <= FRAME_BYTES_MAX
    return _LENGTH.pack(len(message)) + message


class Channel(asyncio.Protocol, Generic[Incoming]):
    """One end of the line between the supervisor and a worker.

    Args:
        incoming: the union of messages that the other end may send.
        on_message: called with each one, in order.
        on_close: called once when the line is gone, for whatever reason.
    """

    def __init__(
        self, incoming: object, on_message: Callable[[Incoming], None], on_close: Callable[[], None]
    ) -> None:
        self._decode = cast(
            "Callable[[bytes], Incoming]", msgspec.msgpack.Decoder(cast("type[Incoming]", incoming)).decode
        )
        self._on_message = on_message
        self._on_close = on_close
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._all_sent = asyncio.Event()
        self._all_sent.set()

    @property
    def room_bytes(self) -> int:
        """Bytes that may still be sent before the bound on the outgoing buffer; 0 when closed."""
        if self._transport is None or self._transport.is_closing():
            return 0
        return OUTGOING_BYTES_MAX - self._transport.get_write_buffer_size()

    def send(self, message: msgspec.Struct) -> bool:
        """Send one message. False, and nothing sent, when it finds no room or the line is closed."""
        encoded = _ENCODER.encode(message)
        if self._transport is None or len(encoded) + _LENGTH.size > self.room_bytes:
            return False
        self._transport.write(frame(encoded))
        return True

    async def all_sent(self) -> None:
        """Return when the operating system has taken every byte, or the line is gone."""
        await self._all_sent.wait()

    def close(self) -> None:
        """Close the line after what was sent has left."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the line is up."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came. What cannot be read ends the line: its two ends no longer agree."""
        try:
            for encoded in self._reader.feed(data):
                self._on_message(self._decode(encoded))
        except (SlipstreamError, msgspec.MsgspecError) as error:
            _log.error("the line between supervisor and worker broke: %s", error)
            if self._transport is not None:
                self._transport.abort()

    def pause_writing(self) -> None:
        """asyncio: some bytes wait for the other end."""
        self._all_sent.clear()

    def resume_writing(self) -> None:
        """asyncio: none wait any more."""
        self._all_sent.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the line is gone."""
        self._transport = None
        self._all_sent.set()
        self._on_close()
