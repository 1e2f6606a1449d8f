"""Deadlines for what an upstream does not send (docs/faults.md, row U2), on virtual time: there they are exact."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from msgspec.structs import replace

from flow.upstreams import NORMAL, Rig, Upstream
from slipstream.flow import virtual
from slipstream.flow.attempt import Patience
from slipstream.flow.watch import Watch, Watches

EXACT = replace(NORMAL, spread=0.0)
"""200 ms to the first token, 10 ms between two."""
PATIENCE = Patience(
    attempts=1, first_token_seconds=3.0, idle_seconds=2.0, total_seconds=10.0, wait_seconds=0.0
)
SILENCES = {
    "hang": (3.0, 3.0),
    "early_head,hang@0": (0.2 + 2.0, 0.2 + 2.0),
    "hang@2": (0.21 + 2.0, 0.21 + 2.0),
    "pause=30@1": (0.2 + 2.0, 3.0),
    "itl=1500,tokens=50": (10.0, 3.0),
}
"""Script: when the error of a streamed and of a whole answer is due (a whole one that has not begun is late)."""


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("script", SILENCES)
def test_error_within_a_tenth_of_a_second_and_slot_free(script: str, stream: bool) -> None:
    """U2: the error comes at most 100 ms after the deadline, and 50 ms later the upstream's slot is free."""
    due = SILENCES[script][not stream]

    async def main() -> None:
        upstream = Upstream("a", (0.0, EXACT), simulate=script)
        rig = Rig({"m": [upstream]}, patience=PATIENCE)
        answer = await rig.ask(stream=stream, tokens=50)
        assert answer.code == "upstream_timeout"
        assert due - 0.002 <= answer.took <= due + 0.1
        await asyncio.sleep(0.05)
        assert upstream.running == 0
        assert rig.nothing_is_left()
        (record,) = rig.records
        assert (record.outcome, record.error_code) == ("failed", "upstream_timeout")

    virtual.run(main())


def test_wait_for_a_second_upstream_is_within_the_whole_time() -> None:
    """U2: with another upstream to ask, the first one's silence costs its own deadline once, and no error."""

    async def main() -> None:
        silent, well = Upstream("a", (0.0, EXACT), simulate="hang"), Upstream("b", (0.0, EXACT))
        rig = Rig({"m": [silent, well]}, patience=replace(PATIENCE, attempts=2))
        answers = [await rig.ask() for _ in range(6)]
        assert all(answer.is_served for answer in answers)
        assert 0 < len(silent.arrivals) < 6
        assert max(answer.took for answer in answers) <= 3.0 + 0.24 + 0.1
        assert silent.running == 0

    virtual.run(main())


@pytest.mark.parametrize(
    "make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_deadline_that_has_passed(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """U2: a deadline that is set when it has passed already expires like any other, on both event loops."""

    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        watch = Watch(Watches(asyncio.get_running_loop()), task)
        watch.expect(-1)
        watch.expect(-1)
        await asyncio.wait((task,))
        assert watch.overdue()
        watch.stop()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
