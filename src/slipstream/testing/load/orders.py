"""What passes between the engine and its workers: orders in, a report out. Samples go by shared memory."""

import numpy as np
from msgspec import Struct, msgpack

from slipstream.testing.load.plan import Shard
from slipstream.testing.load.run import RunOptions, Stopped
from slipstream.testing.load.target import Target
from slipstream.testing.load.words import Said

READY = b"ready\n"
GO = b"go\n"
STOP = b"stop\n"
LENGTH_BYTES = 8
_ARRAY = 1
_KIND_BYTES = 4


class Orders(Struct, frozen=True, kw_only=True):
    """What a worker is told before anything is sent."""

    shard: Shard
    target: Target
    options: RunOptions
    rows_fd: int
    gaps_fd: int
    rows_max: int
    gaps_max: int
    nonce: int
    ids_max: int
    bytes_max: int
    core: int | None


class Report(Struct, frozen=True, kw_only=True):
    """What a worker says at its end, beside its samples."""

    stopped: Stopped
    ended_ns: int
    planned: int
    cap_hits: int
    cpu_share: float | None
    loop_lags_ns: list[int]
    gc_pauses: int
    gc_pause_max_ns: int
    gc_pause_total_ns: int
    connections: int
    gaps_beyond: int
    gap_histogram: list[int]
    ids: list[tuple[int, str]]
    said: list[Said]


def encode(orders: Orders) -> bytes:
    """With its length in front."""
    body = msgpack.encode(orders, enc_hook=_from_array)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode(body: bytes) -> Orders:
    """Without the length."""
    decoder = msgpack.Decoder(Orders, ext_hook=_to_array, dec_hook=lambda _, value: value)
    return decoder.decode(body)


def _from_array(value: object) -> msgpack.Ext:
    if not isinstance(value, np.ndarray):
        raise NotImplementedError(type(value))
    return msgpack.Ext(_ARRAY, value.dtype.str.encode().ljust(_KIND_BYTES) + value.tobytes())


def _to_array(code: int, data: memoryview) -> object:
    assert code == _ARRAY
    return np.frombuffer(data[_KIND_BYTES:], np.dtype(bytes(data[:_KIND_BYTES]).decode().strip()))
