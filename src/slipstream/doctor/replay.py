"""Recorded traffic again, through the code that serves it, on virtual time, with other settings.

The way, its choices, retries, breakers and waits are the real ones (`flow`, by way of `wiring`); upstreams
are `ReplayedModel`s. It is an open loop: requests come when they came, whatever has become of those before,
so a slow server cannot hide behind callers that wait for it. What the gateway's CPU costs, and what held its
event loop, is charged to the virtual clock.
"""

import asyncio
import contextlib
import random
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from slipstream import wiring
from slipstream.config.settings import Settings, Upstream
from slipstream.core.chat import Route
from slipstream.core.errors import SlipstreamError
from slipstream.core.keys import keyring
from slipstream.core.meters import Counters
from slipstream.core.record import Record, open_record
from slipstream.doctor.replay_model import Asked, ReplayedModel, Served
from slipstream.flow import virtual
from slipstream.flow.call import Call
from slipstream.flow.handle import handle
from slipstream.models.local_process import OFF

Stall = tuple[float, float]
"""When the loop began to be held, in seconds from the first arrival, and for how long."""


class Traffic(Struct, frozen=True):
    """What is replayed.

    Attributes:
        asked: the requests in order of arrival.
        served: every upstream, by name.
        models: the names of models that each of them serves.
        stalls: times at which the event loop was held.
        cpu_seconds: what the gateway itself spends on a request.
    """

    asked: tuple[Asked, ...]
    served: Mapping[str, Served]
    models: Mapping[str, tuple[str, ...]]
    stalls: tuple[Stall, ...] = ()
    cpu_seconds: float = 0.0


class Replayed(Struct, frozen=True):
    """What came of it: the records by the number of the request, and how far it went beyond what is known."""

    records: tuple[Record, ...]
    beyond: float
    """Share of visits that found more requests at an upstream than its model may be asked about."""


class _Sink:
    """Keeps the records, each at its request's place."""

    def __init__(self) -> None:
        self.by_id: dict[str, Record] = {}

    def take(self, record: Record) -> None:
        """Keep it."""
        self.by_id[record.id] = record


def replay(traffic: Traffic, settings: Settings, *, seed: int = 0) -> Replayed:
    """Serve `traffic` under `settings`. The same seed gives the same history."""
    found: list[Replayed] = []

    async def play() -> None:  # a result of its own would be written out by `repr` where signals are set back
        found.append(await _replay(traffic, settings, seed))

    virtual.run(play())
    return found[0]


async def _replay(traffic: Traffic, settings: Settings, seed: int) -> Replayed:
    sink = _Sink()
    parts = wiring.bare_parts(
        settings,
        sink=sink,
        counters=Counters(),
        keyring=lambda: keyring([], required=False),
        local_address=lambda: OFF,
        salt=b"replay",
        chance=random.Random(seed).random,  # noqa: S311 (no secret)
    )
    models = []
    for name, served in traffic.served.items():
        model = ReplayedModel(name, served, traffic.asked, seed)
        models.append(model)
        upstream = settings.models.upstreams.get(name, Upstream(url=""))
        parts.add(name, "replayed", model, wiring.targets(model, traffic.models[name], upstream))
    stalling = asyncio.ensure_future(_stall(traffic.stalls))
    try:
        async with asyncio.TaskGroup() as clients:
            begun = asyncio.get_running_loop().time()
            for number, asked in enumerate(traffic.asked):
                late = begun + asked.at - asyncio.get_running_loop().time()
                await asyncio.sleep(max(0.0, late))
                clients.create_task(_ask(parts, asked, number, traffic.cpu_seconds))
    finally:
        stalling.cancel()
    visits = sum(model.visits for model in models)
    records = tuple(sink.by_id[_name(number)] for number in range(len(traffic.asked)))
    return Replayed(records, sum(model.beyond for model in models) / max(1, visits))


async def _stall(stalls: Sequence[Stall]) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for at, seconds in stalls:
        await asyncio.sleep(max(0.0, begun + at - loop.time()))
        virtual.charge(seconds)


async def _ask(parts: wiring.Parts, asked: Asked, number: int, cpu_seconds: float) -> None:
    """One client, who reads its answer to the end or leaves when it once left."""
    body = {"model": asked.model, "messages": [], "stream": asked.stream, "user": str(number)}
    record = open_record(route=Route.CHAT.value, request_id=_name(number))
    virtual.charge(cpu_seconds + asked.busy)
    call = Call(Route.CHAT, msgspec.json.encode(body))
    with contextlib.suppress(TimeoutError, SlipstreamError):
        if asked.stays is None:
            await _read(call, record, parts)
            return
        async with asyncio.timeout(asked.stays):
            await _read(call, record, parts)


async def _read(call: Call, record: Record, parts: wiring.Parts) -> None:
    async with contextlib.aclosing(handle(call, record, parts.way)) as items:
        async for _ in items:
            pass


def _name(number: int) -> str:
    return f"replayed-{number}"
