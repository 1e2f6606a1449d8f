"""An upstream in a replay: takes requests as the gateway's clients do, and the time that its model draws.

It stands where `OpenAIUpstream` or the embedded model stands, behind the same pool core, on virtual time.
A few chunks make an answer: enough for first token and end, as replays are to be quick.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence

import msgspec
from msgspec import Struct

from slipstream.core import clock
from slipstream.core.chat import ChatRequest
from slipstream.core.errors import UpstreamFailed
from slipstream.core.pool import PoolLimits, Slot
from slipstream.core.ports import Chunk, Head
from slipstream.core.record import Record
from slipstream.doctor.places import Places
from slipstream.doctor.refusals import NEVER, Refusing
from slipstream.doctor.service_model import Drawn, ServiceModel

STRETCH = 1.5
"""Beyond so many times the most that were ever seen at once, the model is not to be trusted."""

PIECE_SECONDS = 5.0
"""Longest silence inside a replayed answer, so that no bound on silence is met that was not met before."""

_TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


class Asked(Struct, frozen=True):
    """One recorded request: when it came (seconds from the first), and what it asked for.

    `stays` is how long its client stayed, where it left before the end; `busy` how long it held the
    event loop (seconds).
    """

    at: float
    model: str
    prompt: float
    output: int
    stream: bool
    stays: float | None = None
    busy: float = 0.0


class Served(Struct, frozen=True):
    """What an upstream is in a replay: its times, how it refuses, and the bounds in front of it."""

    times: ServiceModel
    refusing: Refusing
    limits: PoolLimits


class ReplayedModel:
    """The `Model` of one upstream. `asked` are all requests; a request's `user` is its number.

    Attributes:
        visits: requests that were served or are.
        beyond: those of them that found more there than the model may be asked about.
    """

    def __init__(self, name: str, served: Served, asked: Sequence[Asked], seed: int) -> None:
        self.visits = self.beyond = 0
        self._name = name
        self._served = served
        self._asked = asked
        self._seed = seed
        self._chance = random.Random(f"{seed} {name}")  # noqa: S311 (no secret)
        self._places = Places(served.limits)
        self._running: set[object] = set()
        self._lately: deque[int] = deque(maxlen=4096)

    @property
    def name(self) -> str:
        """What the record calls it."""
        return self._name

    async def open(self, request: ChatRequest, record: Record) -> "ReplayedReply":
        """Wait for a place, then for the first byte."""
        number = int(request.user)
        asked = self._asked[number]
        slot = await self._places.enter(record)
        reply: ReplayedReply | None = None
        is_open = False
        try:
            refused = self._refuses()
            reply = self._refusal(slot) if refused else self._answer(slot, asked, number)
            await asyncio.sleep(self._served.refusing.seconds if refused else reply.drawn.first)
            if refused and not self._served.refusing.status:
                raise UpstreamFailed("The replayed upstream broke off.", code="upstream_broke")
            is_open = True
        finally:
            if not is_open:
                self.leave(slot, reply)
        assert reply is not None
        return reply

    async def aclose(self) -> None:
        """Nothing to close."""

    def leave(self, slot: Slot[object], who: object) -> None:
        """A request is over; who waits longest comes next."""
        self._running.discard(who)
        self._places.leave(slot)

    def _refuses(self) -> bool:
        now_ns = clock.monotonic_ns()
        while self._lately and self._lately[0] <= now_ns - 1_000_000_000:
            self._lately.popleft()
        refusing = self._served.refusing
        return refusing is not NEVER and refusing.refuses(len(self._running), len(self._lately), self._chance)

    def _answer(self, slot: Slot[object], asked: Asked, number: int) -> "ReplayedReply":
        self._lately.append(clock.monotonic_ns())
        together = len(self._running) + 1
        self.visits += 1
        self.beyond += together > STRETCH * self._served.times.together_max + 1
        luck = random.Random(f"{self._seed} {number} {self._name}")  # noqa: S311 (no secret)
        drawn = self._served.times.draw(
            asked.prompt, asked.output, together, streamed=asked.stream, chance=luck
        )
        reply = ReplayedReply(self, slot, asked, drawn)
        self._running.add(reply)
        return reply

    def _refusal(self, slot: Slot[object]) -> "ReplayedReply":
        status = self._served.refusing.status or 502
        return ReplayedReply(self, slot, None, Drawn(0.0, 0.0), status=status)


class ReplayedReply:
    """An answer under way; `asked` is None for a refusal."""

    def __init__(
        self,
        model: ReplayedModel,
        slot: Slot[object],
        asked: Asked | None,
        drawn: Drawn,
        *,
        status: int = 200,
    ) -> None:
        self.drawn = drawn
        self._model = model
        self._slot = slot
        self._asked = asked
        self._is_over = False
        streamed = asked is not None and asked.stream
        self.head = Head(status, b"text/event-stream" if streamed else b"application/json", streamed=streamed)

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._chunks()

    async def aclose(self) -> None:
        """Leave the place to the next."""
        if not self._is_over:
            self._is_over = True
            self._model.leave(self._slot, self)

    async def _chunks(self) -> AsyncIterator[Chunk]:
        asked = self._asked
        if asked is None:
            yield Chunk((b'{"error":{"message":"refused"}}',), clock.monotonic_ns())
            return
        usage = {"prompt_tokens": int(asked.prompt), "completion_tokens": asked.output}
        if not asked.stream:
            body = msgspec.json.encode({"choices": [{"finish_reason": "stop"}], "usage": usage})
            yield Chunk((body,), clock.monotonic_ns())
            return
        yield Chunk((_TOKEN,), clock.monotonic_ns())
        pieces = int(max(1, -(-self.drawn.rest // PIECE_SECONDS)))
        for piece in range(pieces):
            if piece:
                yield Chunk((_TOKEN,), clock.monotonic_ns())
            await asyncio.sleep(self.drawn.rest / pieces)
        last = msgspec.json.encode({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage})
        yield Chunk((b"data: %b\n\n" % last, b"data: [DONE]\n\n"), clock.monotonic_ns())
