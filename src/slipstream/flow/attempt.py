"""The attempt loop: select an endpoint, open it, wait for its first byte; again until one answers.

It is repeated only while nothing has been passed on: the first byte decides (DESIGN §3).
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from msgspec import Struct

from slipstream.core import clock
from slipstream.core.backoff import backoff_seconds
from slipstream.core.balance import ANY, Ask
from slipstream.core.budget import RetryBudget
from slipstream.core.chat import ChatRequest
from slipstream.core.conversation import conversation_of
from slipstream.core.errors import LimitReached, Unavailable, UpstreamFailed, UpstreamTimeout
from slipstream.core.health import Visit
from slipstream.core.meters import Counters
from slipstream.core.ports import Chunk, Head, Reply
from slipstream.core.record import Record
from slipstream.flow.select import Catalog, Choice, Course, Place, Target
from slipstream.flow.verdict import Again, on_answer, on_error
from slipstream.flow.waiting import Waiters, nobody_is_free
from slipstream.flow.watch import Watch

RETRY_SHARE = 0.1
RETRY_MINIMUM = 10

HERD_SHARE = 0.25
"""Those who wait for the same endpoint come back spread over this share of their wait."""


class Patience(Struct, frozen=True):
    """How long to wait for what, in seconds, and how often to try."""

    attempts: int = 2
    first_token_seconds: float = 60.0
    idle_seconds: float = 30.0
    total_seconds: float = 600.0
    wait_seconds: float = 10.0
    """For an endpoint to come back, where none is free."""
    waiting: int = 1024
    """Most requests that wait so."""
    retry_after_seconds: float = 60.0
    """Longest `Retry-After` that is obeyed."""


class Opened(Struct, frozen=True):
    """A reply whose first chunk has arrived (None: it has no body)."""

    reply: Reply
    body: AsyncIterator[Chunk]
    first: Chunk | None

    @property
    def head(self) -> Head:
        """Status and headers."""
        return self.reply.head


class _Errand(Struct):
    """One request until it is answered: where it may go, where it was, how long it waits."""

    request: ChatRequest
    record: Record
    watch: Watch
    course: Course
    conversation: int | None = None
    attempts: int = 0
    tried: list[Place] = []
    barred: list[Place] = []
    must_pause: bool = False
    wait_until_ns: int = 0

    def visited(self, place: Place, *, is_final: bool) -> None:
        """An attempt at `place` failed; a final one is never repeated there."""
        self.tried.append(place)
        if is_final:
            self.barred.append(place)


class Attempts:
    """Opens requests: the one place that knows how often, how long and where.

    Args:
        catalog: the models; what is learnt of its endpoints is kept there.
        patience: the bounds of one request.
        counters: where failures, retries and waits are counted.
        budget: the bound of all retries together.
    """

    def __init__(
        self, catalog: Catalog, patience: Patience, counters: Counters, *, budget: RetryBudget | None = None
    ) -> None:
        self.patience = patience
        self.waiters = Waiters(patience.waiting)
        self._catalog = catalog
        self._counters = counters
        self._budget = budget or RetryBudget(RETRY_SHARE, RETRY_MINIMUM)

    async def open(self, request: ChatRequest, record: Record, watch: Watch) -> Opened:
        """The first attempt that answers. Raises what the last one raised, or `Unavailable` (503)."""
        with record.step("select"):
            course = self._catalog.course(request.model, request.route)
            errand = _Errand(request, record, watch, course)
            if course.keeps_conversations:
                errand.conversation = conversation_of(request, record.tenant)
            now_ns = clock.monotonic_ns()
            self._budget.asked(now_ns)
            choice = self._choose(errand, now_ns)
        while True:
            if choice is None:
                choice = await self._wait(errand)
            opened = await self._try(choice, errand)
            if opened is not None:
                return opened
            self._counters.count("upstream_retries")
            if errand.must_pause:
                await self._pause(errand)
            with record.step("select"):
                choice = self._choose(errand, clock.monotonic_ns())

    # One attempt.

    async def _try(self, choice: Choice, errand: _Errand) -> Opened | None:
        """Go there. None: it failed, and another attempt is granted."""
        now_ns = clock.monotonic_ns()
        seconds = self._seconds(choice, errand.record, now_ns)
        visit = choice.pick.begin(now_ns, streamed=errand.request.stream)
        errand.attempts += 1
        opened: Opened | None = None
        is_kept = False
        try:
            opened = await self._open(choice, visit, errand, seconds)
            longest = self.patience.retry_after_seconds
            again = on_answer(visit, opened.head, clock.monotonic_ns(), retry_after_seconds=longest)
            if visit.is_probe:
                self.waiters.wake()
            if again != "no":
                errand.record.note_failure(visit.endpoint.label, str(opened.head.status))
            if again == "no" or not self._goes_on(errand, visit, again):
                is_kept = True
                return opened
        except (UpstreamFailed, Unavailable, LimitReached) as error:
            again = on_error(visit, error, clock.monotonic_ns())
            errand.record.note_failure(visit.endpoint.label, error.code)
            self._counters.count("upstream_errors")
            if isinstance(error, UpstreamTimeout):
                self._counters.count("upstream_timeouts")
            if not self._goes_on(errand, visit, again):
                raise
        else:
            self._counters.count("upstream_errors")
        finally:
            if not is_kept:
                self.leave(visit)
                if opened is not None:
                    await opened.reply.aclose()
        return None

    async def _open(self, choice: Choice, visit: Visit[Target], errand: _Errand, seconds: float) -> Opened:
        record, request, watch = errand.record, errand.request, errand.watch
        record.model = choice.name
        record.upstream = choice.target.model.name
        record.attempts = errand.attempts
        if choice.name not in ("*", request.model):
            request = request.replacing({"model": msgspec.json.encode(choice.name)})
        watch.expect(seconds)
        reply: Reply | None = None
        opened: Opened | None = None
        try:
            with record.step("open"):
                reply = await choice.target.model.open(request, record)
            body = aiter(reply)
            with record.step("first_byte"):
                first = await anext(body, None)
            opened = Opened(_Visiting(reply, visit, record, self), body, first)
        except asyncio.CancelledError:
            if not watch.overdue():
                raise
            raise self._silent(choice, seconds, record) from None
        finally:  # whatever ended it, cancellation too: an answer nobody will read is let go of
            if opened is None and reply is not None:
                await reply.aclose()
        return opened

    def leave(self, visit: Visit[Target]) -> None:
        """A visit is over."""
        visit.leave(clock.monotonic_ns())
        if visit.is_probe:
            self.waiters.wake()

    # Decisions.

    def _choose(self, errand: _Errand, now_ns: int) -> Choice | None:
        """Where to go now. Somebody who could still go elsewhere may be sent where it may fail."""
        course = errand.course
        if course.only is not None:
            return course.choose(now_ns, ANY, tried=errand.tried)
        may_probe = not errand.attempts and self.patience.attempts > 1 and self._budget.has_room(now_ns)
        ask = Ask(errand.request.stream, errand.conversation, may_probe)
        return course.choose(now_ns, ask, tried=errand.tried)

    def _goes_on(self, errand: _Errand, visit: Visit[Target], again: Again) -> bool:
        """After a failure: whether there is a further attempt; it is taken out of the budget then."""
        errand.visited(visit.endpoint, is_final=again == "elsewhere")
        now_ns = clock.monotonic_ns()
        if errand.attempts >= self.patience.attempts or self._left(errand.record) <= 0:
            return False
        errand.must_pause = False
        if self._choose(errand, now_ns) is None:
            errand.tried = list(errand.barred)
            errand.must_pause = again == "anywhere" and self._choose(errand, now_ns) is not None
            if not errand.must_pause and self._wait_until_ns(errand, now_ns) is None:
                return False
        if self._budget.grant(now_ns):
            return True
        self._counters.count("upstream_retries_refused")
        return False

    def _wait_until_ns(self, errand: _Errand, now_ns: int) -> int | None:
        """Until when it makes sense to wait for an endpoint; None where none will be free in time."""
        patience, course = self.patience, errand.course
        until_ns = errand.wait_until_ns or now_ns + int(patience.wait_seconds * 1e9)
        until_ns = min(until_ns, errand.record.origin_ns + int(patience.total_seconds * 1e9))
        if course.is_probed(errand.barred):
            return until_ns
        ready_ns = course.ready_ns(now_ns, errand.barred)
        return until_ns if ready_ns is not None and ready_ns <= until_ns else None

    # Waiting.

    async def _wait(self, errand: _Errand) -> Choice:
        """Somebody who is free, as soon as there is one. Raises `Unavailable` that names each and why not."""
        place = self.waiters.enter()
        if place is None:
            self._counters.count("upstream_waits_refused")
            raise nobody_is_free(errand.course, clock.monotonic_ns(), is_full=True)
        self._counters.count("upstream_waits")
        errand.tried = list(errand.barred)  # who comes back first may be one that was tried
        errand.watch.expect(self._left(errand.record))
        try:
            with errand.record.step("wait"):
                while True:
                    now_ns = clock.monotonic_ns()
                    choice = self._choose(errand, now_ns)
                    if choice is not None:
                        return choice
                    until_ns = self._wait_until_ns(errand, now_ns)
                    if until_ns is None or now_ns >= until_ns:
                        raise nobody_is_free(errand.course, now_ns)
                    errand.wait_until_ns = until_ns
                    ready_ns = errand.course.ready_ns(now_ns, errand.barred)
                    await self.waiters.sleep(place, self._nap(now_ns, ready_ns, until_ns))
        except asyncio.CancelledError:
            if not errand.watch.overdue():
                raise
            raise self._spent() from None
        finally:
            self.waiters.leave(place)

    def _nap(self, now_ns: int, ready_ns: int | None, until_ns: int) -> float:
        """How long to sleep: until somebody is ready, each of many a little later than the one before."""
        if ready_ns is None or ready_ns > until_ns:
            return (until_ns - now_ns) / 1e9
        spread = 1.0 + HERD_SHARE * self._catalog.chance()
        return min((ready_ns - now_ns) * spread + 1e6, until_ns - now_ns) / 1e9

    async def _pause(self, errand: _Errand) -> None:
        """Let the same endpoint be for a moment before it is asked again."""
        left = self._left(errand.record)
        errand.watch.expect(left)
        with errand.record.step("back_off"):
            await asyncio.sleep(min(backoff_seconds(errand.attempts, self._catalog.chance()), left))

    # Time.

    def _seconds(self, choice: Choice, record: Record, now_ns: int) -> float:
        """How long its first byte may take."""
        patience = self.patience
        seconds = patience.total_seconds - (now_ns - record.origin_ns) / 1e9
        if seconds <= 0:
            raise self._spent()
        limit_ns = choice.pick.limit_ns
        if limit_ns:
            seconds = min(seconds, limit_ns / 1e9)
        return min(seconds, patience.first_token_seconds)

    def _left(self, record: Record) -> float:
        return self.patience.total_seconds - (clock.monotonic_ns() - record.origin_ns) / 1e9

    def _silent(self, choice: Choice, seconds: float, record: Record) -> UpstreamTimeout:
        if self._left(record) <= 0.001:  # as the watch's own grace
            return self._spent()
        return UpstreamTimeout(
            f"The model `{choice.name}` sent nothing for {seconds:g} s.",
            hint="The setting models.first_token_seconds bounds this wait.",
        )

    @staticmethod
    def _spent() -> UpstreamTimeout:
        return UpstreamTimeout(
            "The request's whole time is spent.", hint="See models.total_seconds.", code="total_timeout"
        )


class _Visiting:
    """A reply and its visit, which ends with it. What became of the answer stands in the record then."""

    __slots__ = ("_attempts", "_record", "_reply", "_visit", "head")

    def __init__(self, reply: Reply, visit: Visit[Target], record: Record, attempts: Attempts) -> None:
        self.head = reply.head
        self._reply = reply
        self._visit = visit
        self._record = record
        self._attempts = attempts

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return aiter(self._reply)

    async def aclose(self) -> None:
        """End the visit and let go of the reply."""
        if self._record.outcome != "served" and self.head.status < 400 and self._broke():
            self._visit.fail(clock.monotonic_ns(), "broke off inside an answer")
        self._attempts.leave(self._visit)
        await self._reply.aclose()

    def _broke(self) -> bool:
        """Whether it ended by itself: the flight's task is cancelled when its last reader has left."""
        task = asyncio.current_task()
        is_left = task is not None and task.cancelling() > 0
        return not is_left and self._record.since_arrival() < self._attempts.patience.total_seconds * 1e9
