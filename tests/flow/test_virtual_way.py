"""The real way of a request, without sockets, on virtual time."""

import asyncio
import contextlib
import random
import statistics
from collections import Counter

import msgspec
import pytest

from slipstream.config.settings import Simulated
from slipstream.core.chat import Route
from slipstream.core.errors import SlipstreamError
from slipstream.core.keys import keyring
from slipstream.core.meters import Counters
from slipstream.core.ports import Head
from slipstream.core.record import Record, open_record
from slipstream.flow import virtual
from slipstream.flow.admit import Admit
from slipstream.flow.attempt import Attempts, Patience
from slipstream.flow.call import Call
from slipstream.flow.flight import Flights
from slipstream.flow.handle import Way, handle
from slipstream.flow.select import Catalog, Target
from slipstream.models.simulated import SimulatedModel

SLOTS = 8
SCRIPT = Simulated(
    ttft_ms=200, ttft_ms_per_1k_tokens=50, itl_ms=20, spread=0.3, slots=SLOTS, error_rate=0.02, seed=7
)


class Sink:
    """Keeps closed records, as the store would."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def take(self, record: Record) -> None:
        self.records.append(record)


def build(script: Simulated, sink: Sink, patience: Patience | None = None) -> tuple[Way, SimulatedModel]:
    patience = patience or Patience(
        attempts=2, first_token_seconds=3600, idle_seconds=60, total_seconds=36000
    )
    counters = Counters()
    model = SimulatedModel("sim", script)
    catalog = Catalog(default="sim")
    catalog.offer("sim", [Target(model, "sim")])
    flights = Flights(Attempts(catalog, patience, counters), patience, counters, backlog_bytes=256 * 1024)
    return Way(Admit(lambda: keyring([], required=False)), flights, sink, b"salt"), model


def body(rng: random.Random) -> bytes:
    text = "word " * rng.randint(1, 400)
    request = {
        "model": "sim",
        "messages": [{"role": "user", "content": text}],
        "stream": rng.random() < 0.7,
        "max_tokens": rng.randint(1, 30),
    }
    return msgspec.json.encode(request)


async def ask(way: Way, payload: bytes, patience_seconds: float | None) -> str:
    """One client: reads its answer to the end, or leaves after `patience_seconds`."""
    record = open_record(route="chat/completions")
    text = b""
    try:
        async with asyncio.timeout(patience_seconds):
            async with contextlib.aclosing(handle(Call(Route.CHAT, payload), record, way)) as items:
                async for item in items:
                    if not isinstance(item, Head):
                        text += b"".join(item.events)
    except TimeoutError:
        return "left"
    except SlipstreamError:
        return "failed"
    return "served" if text else "empty"


async def crowd(count: int, seed: int) -> tuple[list[str], Sink, SimulatedModel]:
    """`count` clients at Poisson arrivals, near the model's capacity; every tenth is impatient."""
    rng = random.Random(seed)
    sink = Sink()
    way, model = build(SCRIPT, sink)
    clients = []
    for index in range(count):
        impatient = rng.uniform(0.01, 2.0) if index % 10 == 0 else None
        clients.append(asyncio.ensure_future(ask(way, body(rng), impatient)))
        await asyncio.sleep(rng.expovariate(9.0))
    outcomes = await asyncio.gather(*clients)
    await asyncio.sleep(1)
    return outcomes, sink, model


def test_five_thousand_requests_leave_nothing_behind() -> None:
    """5,000 requests: every one is recorded once, as what its client saw, and no task or slot is left."""

    async def main() -> None:
        outcomes, sink, model = await crowd(5000, seed=1)
        assert len(sink.records) == 5000
        assert len({record.id for record in sink.records}) == 5000
        seen, recorded = Counter(outcomes), Counter(record.outcome for record in sink.records)
        assert recorded["served"] + recorded["failed"] >= seen["served"]
        assert recorded["aborted"] == pytest.approx(seen["left"], abs=5)  # left after its last byte: served
        assert recorded["failed"] > 0  # two attempts at a 2 % error rate: some fail twice
        assert seen["left"] > 100
        assert model.slots.running == 0
        assert model.slots.waiting == 0
        assert len(asyncio.all_tasks()) == 1

    virtual.run(main())


def test_the_same_seed_gives_the_same_history() -> None:
    """Determinism: two runs agree in every recorded time."""

    def history() -> list[tuple[str, int | None, int, int | None]]:
        async def main() -> list[tuple[str, int | None, int, int | None]]:
            _, sink, _ = await crowd(300, seed=3)
            return [(r.outcome, r.first_token_ns, r.duration_ns, r.output_tokens) for r in sink.records]

        return virtual.run(main())

    assert history() == history()


def test_what_is_recorded_is_what_the_model_does() -> None:
    """An idle model with a median of 200 ms to the first token is recorded with it."""

    async def main() -> list[Record]:
        sink = Sink()
        script = Simulated(ttft_ms=200, itl_ms=20, spread=0.2, seed=5)
        way, _ = build(script, sink)
        rng = random.Random(1)
        for _ in range(300):
            await ask(way, body(rng), None)
        return sink.records

    streamed = [record for record in virtual.run(main()) if record.stream]
    first = statistics.median(r.first_token_ns / 1e6 for r in streamed if r.first_token_ns)
    gaps = statistics.median(r.chunk_gap_mean_ns / 1e6 for r in streamed if r.chunk_gap_mean_ns)
    assert first == pytest.approx(200, rel=0.08)
    assert gaps == pytest.approx(20, rel=0.08)


def test_steps_fill_the_time_of_a_request() -> None:
    """The recorded steps of a served request add up to its duration: nothing is hidden between them."""

    async def main() -> list[Record]:
        sink = Sink()
        way, _ = build(Simulated(ttft_ms=100, itl_ms=10), sink)
        rng = random.Random(2)
        for _ in range(20):
            await ask(way, body(rng), None)
        return sink.records

    for record in virtual.run(main()):
        assert sum(step.duration_ns for step in record.steps) == record.duration_ns


def test_a_silent_model_is_given_up() -> None:
    """No first token in time is a typed timeout, recorded as failed, and frees the model."""

    async def main() -> None:
        sink = Sink()
        patience = Patience(attempts=2, first_token_seconds=5, idle_seconds=5, total_seconds=60)
        way, model = build(Simulated(ttft_ms=60_000), sink, patience)
        assert await ask(way, body(random.Random(1)), None) == "failed"
        (record,) = sink.records
        assert (record.outcome, record.error_code, record.status) == ("failed", "upstream_timeout", 504)
        await asyncio.sleep(0)
        assert model.slots.running == 0

    virtual.run(main())
