"""What is written down of one request: the one mutable thing that travels its whole way.

Times inside are nanoseconds since the request's arrival, so a record may cross processes.
No message text is ever held here (DESIGN §7).
"""

import os
from types import TracebackType
from typing import Literal

import msgspec

from slipstream.core import clock
from slipstream.core.errors import SlipstreamError

Outcome = Literal["aborted", "served", "hit", "shared", "refused", "failed"]

STEPS_MAX = 64
"""A record keeps at most this many steps; later ones are counted in `steps_dropped`."""


QUEUE = "queue"
"""The step that is spent waiting for a slot of the model, or for a connection to it."""

FAILURES_TEXT_MAX = 240
"""Characters of `Record.failures`; what further attempts say is left out, `attempts` counts them."""


class Step(msgspec.Struct, array_like=True):
    """One stretch of a request's time: `name`, start and duration in ns.

    While its record is open, `start_ns` is on the monotonic clock; closing the record makes it relative
    to the arrival. A step that is not over has `duration_ns == -1`. It is its own context manager.
    """

    name: str
    start_ns: int
    duration_ns: int = -1

    def __enter__(self) -> None:
        """The clock runs since `Record.step`."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.duration_ns < 0:  # else the record was closed meanwhile
            self.duration_ns = clock.monotonic_ns() - self.start_ns


class Record(msgspec.Struct, omit_defaults=True):
    """All that is known of one request. Field names are the column names of the store."""

    id: str = ""
    origin_ns: int = 0
    arrived_wall_ns: int = 0
    route: str = ""
    dialect: str = "openai"
    key_id: str = ""
    tenant: str = ""
    """As the operator named it when the key was made, in clear: reports and limits show it (decision 12)."""
    model_asked: str = ""
    model: str = ""
    upstream: str = ""
    stream: bool = False
    parameters_hash: str = ""
    prompt_hash: str = ""
    request_bytes: int = 0
    response_bytes: int = 0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    tokens_estimated: bool = False
    cost: float | None = None
    queue_wait_ns: int | None = None
    """Waiting for a slot of the model or a connection to it, as far as it got where the client left."""
    in_flight: int = 0
    first_byte_ns: int | None = None
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    chunks: int = 0
    chunk_gap_mean_ns: int | None = None
    chunk_gap_p95_ns: int | None = None
    chunk_gap_max_ns: int | None = None
    duration_ns: int = 0
    attempts: int = 0
    outcome: Outcome = "aborted"
    status: int = 0
    error_type: str = ""
    error_code: str = ""
    finish_reason: str = ""
    default_system_prompt: bool = False
    default_temperature: bool = False
    default_repeat_penalty: bool = False
    steps: list[Step] = []
    steps_dropped: int = 0
    gateway_cpu_ns: int | None = None
    """CPU of the worker's loop a request, over the batch of records that this one left with (decision 12).

    None where that batch follows a pause, so that it would be charged with what the pause cost."""
    failures: str = ""
    """Attempts that failed, in order: `upstream why` of each, with `;` between them."""

    def since_arrival(self) -> int:
        """Nanoseconds since the request arrived."""
        return clock.monotonic_ns() - self.origin_ns

    def step(self, name: str) -> Step:
        """Time a step of the way: `with record.step("admit"): ...`; it is kept however its block ends."""
        step = Step(name, clock.monotonic_ns())
        if self.origin_ns and len(self.steps) < STEPS_MAX:
            self.steps.append(step)
        else:
            self.steps_dropped += 1
        return step

    def add_step(self, name: str, start_ns: int, duration_ns: int) -> None:
        """Write down a step that was timed elsewhere; its start is in ns since arrival."""
        if self.origin_ns and len(self.steps) < STEPS_MAX:
            self.steps.append(Step(name, self.origin_ns + start_ns, duration_ns))
        else:
            self.steps_dropped += 1

    def note_failure(self, upstream: str, why: str) -> None:
        """An attempt at `upstream` failed; `why` is an error's code or an answer's status."""
        said = f"{upstream} {why}".replace(";", ",")
        joined = f"{self.failures};{said}" if self.failures else said
        if len(joined) <= FAILURES_TEXT_MAX:
            self.failures = joined

    def fail(self, error: SlipstreamError) -> None:
        """Take down why the request was not served: refused (the caller's or a limit's doing) or failed."""
        self.outcome = "refused" if error.status < 500 else "failed"
        self.status = error.status
        self.error_type = error.kind
        self.error_code = error.code

    def close(self) -> None:
        """Stop the clock and every step that is still open; nothing is added from here on.

        The monotonic origin is forgotten: it means nothing in another process.
        """
        origin_ns = self.origin_ns
        self.duration_ns = clock.monotonic_ns() - origin_ns
        waited_ns: int | None = None
        for step in self.steps:
            step.start_ns -= origin_ns
            if step.duration_ns < 0:
                step.duration_ns = self.duration_ns - step.start_ns
            if step.name == QUEUE:
                waited_ns = (waited_ns or 0) + step.duration_ns
        if self.queue_wait_ns is None:  # it waited for a connection, or ended while it waited
            self.queue_wait_ns = waited_ns
        self.origin_ns = 0


def record_json(record: Record) -> dict[str, object]:
    """A closed record with all its fields, steps by name, for people and pages."""
    fields: dict[str, object] = {name: getattr(record, name) for name in record.__struct_fields__}
    del fields["origin_ns"]
    fields["steps"] = [
        {"name": step.name, "start_ns": step.start_ns, "duration_ns": step.duration_ns}
        for step in record.steps
    ]
    return fields


def record_from_json(body: bytes) -> Record:
    """The record that `record_json` was made of; fields that are not known here are left out."""
    fields: dict[str, object] = msgspec.json.decode(body)
    steps = fields.get("steps")
    assert isinstance(steps, list)
    fields["steps"] = [[step["name"], step["start_ns"], step["duration_ns"]] for step in steps]
    return msgspec.convert(fields, Record)


def open_record(*, route: str, request_id: str = "") -> Record:
    """Begin the record of a request that arrives now."""
    return Record(
        id=request_id or new_id(),
        origin_ns=clock.monotonic_ns(),
        arrived_wall_ns=clock.wall_ns(),
        route=route,
    )


class _Random:
    """Random bytes, fetched from the system by the block: a call for each id costs more than the id."""

    __slots__ = ("_block", "_position")

    def __init__(self) -> None:
        self._block = b""
        self._position = 0

    def take(self, count: int) -> bytes:
        """`count` bytes that were never given before."""
        if self._position + count > len(self._block):
            self._block, self._position = os.urandom(4096), 0
        self._position += count
        return self._block[self._position - count : self._position]


_random = _Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.__init__)  # type: ignore[misc]


def new_id() -> str:
    """A request id: sorts by time (ms), unguessable in its last 64 bits. For one thread at a time."""
    return f"req_{clock.wall_ns() // 1_000_000:011x}{_random.take(8).hex()}"
