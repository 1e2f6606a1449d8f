"""A way with several simulated upstreams on virtual time, and a crowd that asks them."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from slipstream.config.settings import Simulated
from slipstream.core import clock
from slipstream.core.budget import RetryBudget
from slipstream.core.chat import ChatRequest, Route
from slipstream.core.errors import SlipstreamError
from slipstream.core.keys import keyring
from slipstream.core.meters import Counters
from slipstream.core.ports import Head, Reply
from slipstream.core.record import Record, open_record
from slipstream.flow.admit import Admit
from slipstream.flow.attempt import Attempts, Patience
from slipstream.flow.call import Call
from slipstream.flow.flight import Flights
from slipstream.flow.handle import Way, handle
from slipstream.flow.select import Catalog, Target
from slipstream.models.simulated import SimulatedModel

NORMAL = Simulated(ttft_ms=200, itl_ms=10, spread=0.2, seed=1)


class Upstream:
    """A simulated model that plays one script of settings after the other, and counts what reaches it."""

    def __init__(self, name: str, *acts: tuple[float, Simulated], simulate: str = "") -> None:
        self.name = name
        self.arrivals: list[float] = []
        self.simulate = simulate
        """A script for every request (see docs/simulator.md); may be changed as time passes."""
        self._acts = [(since, SimulatedModel(name, script)) for since, script in (acts or ((0.0, NORMAL),))]

    async def open(self, request: ChatRequest, record: Record) -> Reply:
        now = seconds()
        self.arrivals.append(now)
        model = [model for since, model in self._acts if now >= since][-1]
        if self.simulate:
            request = request.replacing({"simulate": msgspec.json.encode(self.simulate)})
        return await model.open(request, record)

    async def aclose(self) -> None:
        """Nothing to close."""

    @property
    def running(self) -> int:
        return sum(model.slots.running for _, model in self._acts)

    def arrived(self, since: float, until: float) -> int:
        return sum(since <= at < until for at in self.arrivals)


def seconds() -> float:
    """Seconds since the virtual loop began."""
    return clock.monotonic_ns() / 1e9 - 1.0


class Answer(msgspec.Struct):
    """What one client saw."""

    at: float
    status: int = 0
    took: float = 0.0
    text: bytes = b""
    code: str = ""
    message: str = ""
    retry_after: float | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    is_left: bool = False

    @property
    def is_served(self) -> bool:
        return self.status == 200 and not self.code and not self.is_left


class Rig:
    """A way over upstreams by the names of models they serve, its records, and ways to ask it."""

    def __init__(
        self,
        serving: Mapping[str, Sequence[Upstream]],
        *,
        patience: Patience | None = None,
        fallbacks: Mapping[str, Sequence[str]] | None = None,
        share: float = 0.1,
        minimum: int = 10,
        target: Callable[[Upstream, str], Target] = lambda upstream, name: Target(upstream, name),
        seed: int = 1,
    ) -> None:
        self.records: list[Record] = []
        self.counters = Counters()
        patience = patience or Patience()
        self.catalog = Catalog(fallbacks=fallbacks, chance=random.Random(seed).random)
        offered: dict[str, list[Target]] = {}
        for name, upstreams in serving.items():
            for upstream in upstreams:
                offered.setdefault(upstream.name, []).append(target(upstream, name))
        for owner, targets in offered.items():
            self.catalog.offer(owner, targets)
        self.attempts = Attempts(self.catalog, patience, self.counters, budget=RetryBudget(share, minimum))
        flights = Flights(self.attempts, patience, self.counters, backlog_bytes=256 * 1024)
        self.way = Way(Admit(lambda: keyring([], required=False)), flights, self, b"salt")

    def take(self, record: Record) -> None:
        self.records.append(record)

    async def ask(
        self,
        model: str = "m",
        *,
        messages: Sequence[Mapping[str, str]] = ({"role": "user", "content": "hello"},),
        stream: bool = True,
        tokens: int = 5,
        leave_after: float | None = None,
    ) -> Answer:
        """One request, read to its end or left."""
        body = {"model": model, "messages": messages, "stream": stream, "max_tokens": tokens}
        record = open_record(route="chat/completions")
        answer = Answer(seconds())
        try:
            async with asyncio.timeout(leave_after):
                call = Call(Route.CHAT, msgspec.json.encode(body))
                async with contextlib.aclosing(handle(call, record, self.way)) as items:
                    async for item in items:
                        if isinstance(item, Head):
                            answer.status, answer.headers = item.status, item.headers
                        else:
                            answer.text += b"".join(item.events)
        except TimeoutError:
            answer.is_left = True
        except SlipstreamError as error:
            answer.status, answer.code, answer.message = error.status, error.code, error.message
            answer.retry_after = error.retry_after_seconds
        answer.took = seconds() - answer.at
        return answer

    async def crowd(self, rate: float, until: float, *, seed: int = 1, **options: object) -> list[Answer]:
        """Poisson arrivals of `rate` a second until the virtual time `until`, each read to its end."""
        rng = random.Random(seed)
        asked: list[asyncio.Task[Answer]] = []
        while seconds() < until:
            asked.append(asyncio.ensure_future(self.ask(**options)))  # type: ignore[arg-type]
            await asyncio.sleep(rng.expovariate(rate))
        return list(await asyncio.gather(*asked))

    def nothing_is_left(self) -> bool:
        """No visit, no probe, nobody waiting."""
        places = [place for peers in self.catalog._by_name.values() for place in peers.endpoints]
        return (
            all(not place.visits and place.breaker.probe is None for place in places)
            and not self.attempts.waiters
        )


def p95(answers: Sequence[Answer]) -> float:
    """95th percentile of the whole time."""
    ordered = sorted(answer.took for answer in answers)
    return ordered[int(len(ordered) * 0.95)]
