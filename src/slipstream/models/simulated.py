"""A model without weights: scripted, seeded, in memory, on whatever event loop runs (a virtual-time one too).

It waits by `asyncio.sleep` and reads `core.clock` only. What it does when is decided in `simulated_plan`.
"""

import asyncio
from collections.abc import Iterator
from typing import Generic, Self, TypeVar

import msgspec

from slipstream.config.settings import Simulated
from slipstream.core import clock
from slipstream.core.chat import ChatRequest
from slipstream.core.errors import BadRequest, LimitReached, UpstreamFailed
from slipstream.core.ports import Chunk, Head
from slipstream.core.record import QUEUE, Record
from slipstream.models.simulated_plan import Act, Plan, acts, fails, make_plan, plan_error
from slipstream.models.simulated_script import RULES, Script, parse_script, wire_only

WAITING_MAX = 10_000
"""Requests that may wait for a slot; the next one is refused with 429, as a real server's queue would."""

SUFFIX = "#"
"""What follows it in the name of a model is a script: `any-model#cut@3`."""

T = TypeVar("T")


class Slots(Generic[T]):
    """Who is served and who waits, first come first served. Decides only: it wakes nobody.

    Args:
        count: served at the same time; 0 = no bound.
        waiting_max: most that wait.
    """

    def __init__(self, count: int, waiting_max: int = WAITING_MAX) -> None:
        self._count = count
        self._waiting_max = waiting_max
        self._running: dict[T, None] = {}
        self._waiting: dict[T, None] = {}

    @property
    def running(self) -> int:
        """How many hold a slot."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    @property
    def free(self) -> bool:
        """Whether the next one would be served at once."""
        return not self._count or len(self._running) < self._count

    def enter(self, who: T) -> bool:
        """Take a slot, or a place in the queue (False). Raises `LimitReached` when the queue is full."""
        if self.free:
            self._running[who] = None
            return True
        if len(self._waiting) >= self._waiting_max:
            raise LimitReached(
                "The simulated model's queue is full.", code="queue_full", retry_after_seconds=1
            )
        self._waiting[who] = None
        return False

    def leave(self, who: T) -> T | None:
        """Give the slot or the place back, however often; who is served now instead, and has to be told."""
        if who in self._waiting:
            del self._waiting[who]
            return None
        if who not in self._running:
            return None
        del self._running[who]
        if not self._waiting or not self.free:
            return None
        heir = next(iter(self._waiting))
        del self._waiting[heir]
        self._running[heir] = None
        return heir


class Tally:
    """What a simulated model has done so far. Faults are counted when the request that has them begins."""

    __slots__ = ("aborted", "faults", "refused", "requests", "served")

    def __init__(self) -> None:
        self.requests = 0
        self.served = 0
        self.aborted = 0
        self.refused = 0
        self.faults = dict.fromkeys((*RULES, "error_rate"), 0)

    def begin(self, request: ChatRequest, script: Script, settings: Simulated, *, usage: bool) -> Plan:
        """Plan the answer to the next request, and count it with its faults."""
        created = clock.wall_ns() // 1_000_000_000
        plan = make_plan(request, script, settings, index=self.requests, created=created, usage=usage)
        is_error = fails(settings, self.requests)
        self.requests += 1
        if is_error:
            self.faults["error_rate"] += 1
            return plan_error(plan, 500)
        for item in script.items:
            self.faults[item.name] += 1
        return plan


def script_of(request: ChatRequest, header: str = "") -> tuple[ChatRequest, Script | None]:
    """The script of a request, and the request without it; None where it has none.

    The first that is there counts: the header, the field `simulate`, what follows `#` in the model's name.
    Raises `BadRequest`.
    """
    text: str | None = header or None
    field = request.fields.get("simulate")
    if field is not None:
        try:
            named = msgspec.json.decode(field, type=str)
        except msgspec.ValidationError:
            raise BadRequest("`simulate` must be a string.", param="simulate", code="wrong_type") from None
        text = text or named
    model, separator, suffix = request.model.partition(SUFFIX)
    if separator:
        text = text or suffix
        request = request.replacing({"model": msgspec.json.encode(model)})
    return request, None if text is None else parse_script(text)


class SimulatedModel:
    """Answers requests like a model that takes the times of `settings`.

    The script of a request stands in its field `simulate` or after `#` in its model's name. Items that need
    a connection are refused here; `slipstream simulate` plays them. A reply must be closed, as any other.
    """

    def __init__(self, name: str, settings: Simulated) -> None:
        self.tally = Tally()
        self.slots: Slots[_Ticket] = Slots(settings.slots)
        self._name = name
        self._settings = settings

    @property
    def name(self) -> str:
        """What the record calls it."""
        return self._name

    async def open(self, request: ChatRequest, record: Record) -> "SimulatedReply":
        """Wait for a slot and for the first token. The usage event always ends a stream, asked for or not."""
        plan = self._plan(request)
        record.tokens_estimated = True
        ticket = _Ticket()
        reply = SimulatedReply(self, plan, ticket)
        opened = False
        try:
            if not plan.immediate:
                await self._enter(ticket, record)
            await reply.begin()
            opened = True
        finally:
            if not opened:
                await reply.aclose()
        return reply

    async def aclose(self) -> None:
        """Nothing to close."""

    def leave(self, ticket: "_Ticket") -> None:
        """Give back what `ticket` holds and wake who comes next."""
        heir = self.slots.leave(ticket)
        if heir is not None:
            heir.wake()

    def _plan(self, request: ChatRequest) -> Plan:
        request, script = script_of(request)
        script = script or Script()
        wired = wire_only(script)
        if wired is not None:
            message = f"`simulate`: `{wired.name}` needs a connection; `slipstream simulate` plays it."
            raise BadRequest(message, param="simulate", code="bad_script")
        return self.tally.begin(request, script, self._settings, usage=True)

    async def _enter(self, ticket: "_Ticket", record: Record) -> None:
        asked_ns = clock.monotonic_ns()
        if not self.slots.enter(ticket):
            with record.step(QUEUE):
                await ticket.turn()
        record.queue_wait_ns = clock.monotonic_ns() - asked_ns


class SimulatedReply:
    """An answer under way. It iterates over itself, once."""

    def __init__(self, model: SimulatedModel, plan: Plan, ticket: "_Ticket") -> None:
        self.head: Head = plan.head
        self._model = model
        self._ticket = ticket
        self._acts: Iterator[Act] = acts(plan, lambda: model.slots.running)
        self._first: Act | None = None
        self._due_ns = 0
        self._state = "open"

    async def begin(self) -> None:
        """Play up to where the head is known."""
        self._due_ns = clock.monotonic_ns()
        act = await self._next()
        while not (act.events or act.head or act.end):
            act = await self._next()
        self._first = act
        if not (act.events or act.head):
            await self._finish(act)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        while self._state == "open":
            act = self._first or await self._next()
            self._first = None
            if act.events:
                if act.end == "done":
                    self._leave("served")
                elif act.end:  # it comes after them
                    self._first = Act(0, (), act.end)
                return Chunk(act.events, clock.monotonic_ns())
            if act.end:
                await self._finish(act)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Free the slot at once."""
        self._leave("aborted")

    async def _next(self) -> Act:
        act = next(self._acts)
        self._due_ns += act.after_ns
        await asyncio.sleep(max(0, self._due_ns - clock.monotonic_ns()) / 1e9)
        return act

    async def _finish(self, act: Act) -> None:
        if act.end == "hang":
            await asyncio.get_running_loop().create_future()  # until cancelled
        self._leave("served")
        if act.end != "done":
            raise UpstreamFailed("The simulated model broke off, as scripted.", code="upstream_broke")

    def _leave(self, state: str) -> None:
        if self._state != "open":
            return
        self._state = state
        self._acts = iter(())
        tally = self._model.tally
        if state == "served":
            tally.served += 1
        else:
            tally.aborted += 1
        self._model.leave(self._ticket)


class _Ticket:
    """One request's claim on a slot."""

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn: asyncio.Future[None] | None = None

    async def turn(self) -> None:
        """Wait until woken."""
        self._turn = asyncio.get_running_loop().create_future()
        await self._turn

    def wake(self) -> None:
        """The slot is there."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)
