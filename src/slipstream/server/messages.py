"""What the supervisor and its workers say to each other, as data; it does not know how it travels.

Encoded as msgpack, one message a frame. Both ends are always the same version: one started the other.
"""

from typing import Any, Literal

import msgspec

from slipstream.core.health import EndpointSnapshot
from slipstream.core.keys import KeyEntry
from slipstream.core.use import UseRow
from slipstream.models.local_process import LocalAddress
from slipstream.profiling.memory_profile import By, MemoryProfile
from slipstream.profiling.packed import PackedProfile
from slipstream.profiling.stalls import Stall


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What every message is: frozen, tagged with its own name."""


class Begin(Message, frozen=True):
    """Supervisor: first of all, what to serve."""

    settings: bytes
    """All settings, as JSON."""
    slot: int
    control_socket: str
    """Path of the Unix socket that answers pages and admin routes."""
    salt: bytes
    """Key of the hashes in records: the same in every worker, forgotten when the server ends."""


class Keys(Message, frozen=True):
    """Supervisor: who may call from now on. Replaces what was known."""

    entries: tuple[KeyEntry, ...]
    """Keys, and the sessions of pages: a session's secret is the value of its cookie."""
    required: bool


class Local(Message, frozen=True):
    """Supervisor: where the embedded model answers from now on."""

    address: LocalAddress


class Drain(Message, frozen=True):
    """Supervisor: accept nothing more, finish what runs within `seconds`, end. A second one replaces it."""

    seconds: float


class Profile(Message, frozen=True):
    """Supervisor: look at yourself for so long, and say what you saw."""

    number: int
    """Which profile it is; the answer carries it."""
    what: Literal["cpu", "memory"]
    seconds: float
    hertz: int
    stacks: int
    """Most stacks to send; the rest is summed up."""
    by: By | None = None
    """What takes allocations down, for a profile of memory."""


class Unwanted(Message, frozen=True):
    """Supervisor: nobody waits for that profile any more."""

    number: int
    """Which profile; one that is over already is let be."""


class Ready(Message, frozen=True):
    """Worker: it serves."""

    pid: int


class Leaving(Message, frozen=True):
    """Worker: somebody else asked it to end; it accepts nothing more and drains."""


class Refused(Message, frozen=True):
    """Worker: it cannot serve, and starting again would not help."""

    message: str
    hint: str


class Records(Message, frozen=True):
    """Worker: closed records, as the rows that store them."""

    rows: list[list[Any]]
    """Each a `store.rows.Row`; msgspec decodes no union of text and bytes, and need not look."""


class Status(Message, frozen=True):
    """Worker, every second and as its last word: how it does."""

    in_flight: int
    counters: dict[str, int]
    endpoints: tuple[EndpointSnapshot, ...] = ()
    """What it knows of each upstream's models; those that do not take requests come first."""
    use: tuple[UseRow, ...] = ()
    """How its parts do."""


class Renew(Message, frozen=True):
    """Supervisor: other settings hold from now on, as far as they can change while it serves."""

    settings: bytes
    """All settings, as JSON."""
    number: int
    """Which renewal it is; the answers carry it."""
    local: LocalAddress | None
    """Where the embedded model with these settings answers; None where there is none."""


class Took(Message, frozen=True):
    """Worker: the settings of a renewal hold."""

    number: int
    pid: int


class LetGo(Message, frozen=True):
    """Worker: nothing is under way any more where the embedded model was before a renewal."""

    number: int
    pid: int


class Stalled(Message, frozen=True):
    """Worker: its event loop was held up."""

    stall: Stall


class Profiled(Message, frozen=True):
    """Worker: what it saw; `error` says why it saw nothing."""

    number: int
    pid: int
    cpu: PackedProfile | None = None
    memory: MemoryProfile | None = None
    error: str = ""


ToWorker = Begin | Keys | Local | Renew | Drain | Profile | Unwanted
FromWorker = Ready | Leaving | Refused | Records | Status | Stalled | Profiled | Took | LetGo
