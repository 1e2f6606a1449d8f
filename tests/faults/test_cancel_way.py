"""The way of a request, left at every turn of its loop (docs/faults.md, row C1), on virtual time."""

import asyncio
import contextlib

import msgspec
import pytest

from faults.raw import PROMPT
from faults.turns import VirtualTurns
from slipstream.config.settings import Settings
from slipstream.core.chat import Route, parse
from slipstream.core.errors import SlipstreamError
from slipstream.core.keys import keyring
from slipstream.core.meters import Counters
from slipstream.core.record import Record, open_record
from slipstream.flow import virtual
from slipstream.flow.call import Call
from slipstream.flow.flight import Reader
from slipstream.flow.handle import handle
from slipstream.models.local_process import OFF
from slipstream.models.simulated import SimulatedModel
from slipstream.wiring import Parts, build_parts

TURNS_MAX = 2000
"""No scenario here takes as many turns of the loop; if one did, the test would not have ended at the end."""

WAYS = {
    "streamed": ({"stream": True}, {"ttft_ms": 50, "itl_ms": 5}, {}),
    "whole": ({"stream": False}, {"ttft_ms": 50, "itl_ms": 5}, {}),
    "without a pause": ({"stream": True}, {}, {}),
    "tried again": ({"stream": True, "simulate": "error=500"}, {}, {}),
    "broken": ({"stream": True, "simulate": "cut@3"}, {"itl_ms": 5}, {}),
    "silent": ({"stream": True, "simulate": "hang@2"}, {"itl_ms": 5}, {"idle_seconds": 1}),
    "never answered": ({"stream": True, "simulate": "hang"}, {"slots": 2}, {"first_token_seconds": 1}),
    "held up by its reader": ({"stream": True, "max_tokens": 40}, {}, {"backlog_bytes": 1024}),
}
"""Fields of the request, the model, further settings."""


class Sink:
    """Keeps the records."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def take(self, record: Record) -> None:
        self.records.append(record)


def build(model: dict[str, object], more: dict[str, object], sink: Sink) -> tuple[Parts, SimulatedModel]:
    simulated = {"sim": {"slots": 1, "output_tokens": 6, **model}}
    off = {"enabled": "off"}
    settings = msgspec.convert(
        {"models": {"simulated": simulated, "embedder": off, "local": off, **more}}, Settings
    )
    free = keyring([], required=False)
    parts = build_parts(
        settings, sink=sink, counters=Counters(), keyring=lambda: free, local_address=lambda: OFF
    )
    (found,) = [each for _, _, each in parts._models]
    assert isinstance(found, SimulatedModel)
    return parts, found


async def read(parts: Parts, fields: dict[str, object]) -> str:
    """One client of the way; takes a turn for each item, as a connection would."""
    body = msgspec.json.encode({"model": "sim", "messages": PROMPT, **fields})
    try:
        async with contextlib.aclosing(
            handle(Call(Route.CHAT, body), open_record(route="chat"), parts.way)
        ) as items:
            async for _ in items:
                await asyncio.sleep(0)
    except SlipstreamError:
        return "failed"
    return "served"


def run_virtual(name: str, at: int) -> bool:
    """One client leaves after `at` turns, another waits behind it. Whether the first had not finished before."""
    fields, model, more = WAYS[name]
    sink = Sink()
    loop = VirtualTurns()

    async def main() -> bool:
        parts, simulated = build(model, more, sink)
        first = asyncio.ensure_future(read(parts, fields))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(read(parts, {"stream": True}))
        loop.turns.arm(at, first.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await first
        has_left = first.cancelled()
        assert await second == "served"
        await asyncio.sleep(0.001)
        assert (simulated.slots.running, simulated.slots.waiting) == (0, 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await parts.aclose()
        return has_left

    with (
        virtual.clock.driven_by(lambda: loop.clock.now_ns),
        asyncio.Runner(loop_factory=lambda: loop) as runner,
    ):
        has_left = runner.run(main())
    assert len({record.id for record in sink.records}) == len(sink.records) == 2
    assert not has_left or sink.records[0].outcome in {"aborted", "served", "failed"}
    return has_left


@pytest.mark.parametrize("name", WAYS)
def test_leaving_at_every_turn(name: str) -> None:
    """The way: wherever its client leaves, its slot is free, its record written once, and the next is served."""
    turns = 1
    while run_virtual(name, turns):
        turns += 1
        assert turns < TURNS_MAX
    print(f"\n{turns} turns")
    assert turns > 5


def run_shared(at: int) -> bool:
    """Two read one answer and the first leaves after `at` turns. Whether it had not finished before."""
    loop, sink = VirtualTurns(), Sink()

    async def main() -> bool:
        parts, simulated = build({"ttft_ms": 50, "itl_ms": 5, "slots": 1}, {}, sink)
        request = parse(Route.CHAT, msgspec.json.encode({"model": "sim", "messages": PROMPT, "stream": True}))
        first = parts.way.flights.board(request, open_record(route="chat"))
        second = first._flight.board()
        leaving, staying = (asyncio.ensure_future(read_all(each)) for each in (first, second))
        loop.turns.arm(at, leaving.cancel)
        text = await staying
        assert text.endswith(b"data: [DONE]\n\n")
        assert text.count(b'"content":"') == 1 + 6  # the role, and every word once
        with contextlib.suppress(asyncio.CancelledError):
            assert await leaving == text
        await asyncio.sleep(0.001)
        assert (simulated.slots.running, simulated.slots.waiting) == (0, 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await parts.aclose()
        return leaving.cancelled()

    with (
        virtual.clock.driven_by(lambda: loop.clock.now_ns),
        asyncio.Runner(loop_factory=lambda: loop) as runner,
    ):
        return runner.run(main())


async def read_all(reader: Reader) -> bytes:
    """What comes; a reader that is cancelled leaves."""
    parts = []
    try:
        await reader.head()
        async for chunk in reader:
            parts += chunk.events
    finally:
        reader.leave()
    return b"".join(parts)


def test_others_go_on_where_one_leaves() -> None:
    """A shared answer: whenever one of its readers leaves, the other gets all of it; then the slot is free."""
    turns = 1
    while run_shared(turns):
        turns += 1
        assert turns < TURNS_MAX
    print(f"\n{turns} turns")
    assert turns > 5


def test_last_reader_ends_a_shared_answer() -> None:
    """A shared answer whose readers have all left is not played on."""

    async def main() -> None:
        parts, simulated = build({"ttft_ms": 50, "itl_ms": 5, "slots": 1}, {}, Sink())
        request = parse(Route.CHAT, msgspec.json.encode({"model": "sim", "messages": PROMPT, "stream": True}))
        first = parts.way.flights.board(request, open_record(route="chat"))
        second = first._flight.board()
        await first.head()
        first.leave()
        await asyncio.sleep(0.001)
        assert simulated.slots.running == 1
        second.leave()
        await asyncio.sleep(0.001)
        assert simulated.slots.running == 0
        await parts.aclose()

    virtual.run(main())
