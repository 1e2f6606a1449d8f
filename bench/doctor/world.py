"""The world that the doctor is tried in: the real way on virtual time, upstreams of known behaviour.

What is planted is known here and nowhere else; the doctor gets records, settings and stalls, as on a
live server.
"""

import asyncio
import contextlib
import random
from collections import deque
from dataclasses import dataclass, field

import msgspec

from slipstream import wiring
from slipstream.config.settings import Settings, Simulated, Upstream
from slipstream.core import clock
from slipstream.core.chat import ChatRequest, Route
from slipstream.core.errors import SlipstreamError
from slipstream.core.keys import keyring
from slipstream.core.meters import Counters
from slipstream.core.pool import PoolLimits
from slipstream.core.ports import Reply
from slipstream.core.record import Record, open_record
from slipstream.doctor.evidence import StallSeen
from slipstream.doctor.places import Places
from slipstream.flow import virtual
from slipstream.flow.call import Call
from slipstream.flow.handle import handle
from slipstream.models.local_process import OFF
from slipstream.models.simulated import SimulatedModel

FOREVER_NS = 10**15
STALL_SECONDS = 0.1
BEAT_SECONDS = 0.1
PLACE = "tokenise (app/chat.py:41)"


@dataclass
class Ask:
    at: float
    words: int
    tokens: int
    stream: bool = True
    leaves: float | None = None
    holds: float = 0.0  # seconds for which its handling holds the event loop
    model: str = "m"


@dataclass
class Behind:
    """One upstream as it truly is."""

    name: str
    script: Simulated
    slow_from: float = 1e9  # from here on it plays `slow`
    slow: Simulated | None = None
    refuses_at: int | None = None  # 429 with so many there
    refuses_rate: int | None = None  # 429 after so many in a second
    model: str = "m"


@dataclass
class World:
    asks: list[Ask]
    behind: list[Behind]
    settings: Settings
    cpu: float = 200e-6
    seed: int = 0
    watched: bool = True
    records: list[Record] = field(default_factory=list)
    stalls: list[StallSeen] = field(default_factory=list)


class Member:
    """A simulated upstream behind the pool that the real client would have."""

    def __init__(self, told: Behind, settings: Settings, seed: int) -> None:
        self.name = told.name
        self._told = told
        self._usual = SimulatedModel(told.name, msgspec.structs.replace(told.script, seed=seed))
        slow = msgspec.structs.replace(told.slow, seed=seed) if told.slow else None
        self._slow = SimulatedModel(told.name, slow) if slow else None
        known = settings.models.upstreams.get(told.name)
        self._places = None
        if known is not None:
            wait_ns = int(known.wait_seconds * 1e9)
            self._places = Places(
                PoolLimits(known.connections, known.waiting, wait_ns, FOREVER_NS, FOREVER_NS)
            )
        self._running = 0
        self._lately: deque[int] = deque()

    async def open(self, request: ChatRequest, record: Record) -> Reply:
        place = await self._places.enter(record) if self._places else None
        self._running += 1
        done = False
        try:
            model = self._usual
            if self._slow is not None and clock.monotonic_ns() / 1e9 - 1.0 >= self._told.slow_from:
                model = self._slow
            if self._refuses():
                request = request.replacing({"simulate": b'"error=429"'})
                await asyncio.sleep(0.01)
            reply = await model.open(request, record)
            done = True
            return Held(reply, lambda: self._left(place))
        finally:
            if not done:
                self._left(place)

    async def aclose(self) -> None:
        pass

    def _left(self, place: object) -> None:
        self._running -= 1
        if self._places is not None:
            self._places.leave(place)

    def _refuses(self) -> bool:
        now = clock.monotonic_ns()
        while self._lately and self._lately[0] <= now - 1_000_000_000:
            self._lately.popleft()
        if self._told.refuses_at is not None and self._running > self._told.refuses_at:
            return True
        if self._told.refuses_rate is not None and len(self._lately) >= self._told.refuses_rate:
            return True
        self._lately.append(now)
        return False


class Held:
    def __init__(self, reply: Reply, left) -> None:
        self.head = reply.head
        self._reply = reply
        self._left = left

    def __aiter__(self):
        return aiter(self._reply)

    async def aclose(self) -> None:
        await self._reply.aclose()
        left, self._left = self._left, lambda: None
        left()


def live(world: World) -> World:
    """Let the world happen; its records and stalls are filled in."""
    world.records, world.stalls = [], []
    virtual.run(_live(world))
    world.records.sort(key=lambda record: record.arrived_wall_ns)
    return world


async def _live(world: World) -> None:
    parts = wiring.bare_parts(
        world.settings, sink=_Sink(world), counters=Counters(),
        keyring=lambda: keyring([], required=False), local_address=lambda: OFF, salt=b"bench",
        chance=random.Random(world.seed).random,
    )  # fmt: skip
    for at, told in enumerate(world.behind):
        model = Member(told, world.settings, world.seed * 100 + at)
        upstream = world.settings.models.upstreams.get(told.name, Upstream(url=""))
        parts.add(told.name, "bench", model, wiring.targets(model, (told.model,), upstream))
    watching = asyncio.ensure_future(_watch(world))
    rng = random.Random(world.seed + 77)
    async with asyncio.TaskGroup() as clients:
        begun = asyncio.get_running_loop().time()
        for ask in world.asks:
            await asyncio.sleep(max(0.0, begun + ask.at - asyncio.get_running_loop().time()))
            clients.create_task(_client(parts, ask, world.cpu * rng.uniform(0.7, 1.5)))
    watching.cancel()


async def _watch(world: World) -> None:
    """The heartbeat of `profiling.stalls`, on virtual time."""
    beat = clock.monotonic_ns()
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        now = clock.monotonic_ns()
        late = (now - beat) / 1e9 - BEAT_SECONDS
        beat = now
        if late > STALL_SECONDS and world.watched:
            world.stalls.append(StallSeen(clock.wall_ns(), late, PLACE))


async def _client(parts: wiring.Parts, ask: Ask, cpu: float) -> None:
    body = msgspec.json.encode(
        {
            "model": ask.model,
            "messages": [{"role": "user", "content": "word " * ask.words}],
            "stream": ask.stream,
            "max_tokens": ask.tokens,
        }
    )
    record = open_record(route="chat/completions")
    virtual.charge(cpu + ask.holds)
    with contextlib.suppress(TimeoutError, SlipstreamError):
        async with asyncio.timeout(ask.leaves):
            async with contextlib.aclosing(handle(Call(Route.CHAT, body), record, parts.way)) as items:
                async for _ in items:
                    pass


class _Sink:
    def __init__(self, world: World) -> None:
        self._world = world

    def take(self, record: Record) -> None:
        record.gateway_cpu_ns = int(self._world.cpu * 1e9)
        self._world.records.append(record)
