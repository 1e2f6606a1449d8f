"""Settings of the embedded model while the server serves: it follows, and nobody's request pays for it."""

import contextlib
import signal
import threading
import time
import urllib.request
from pathlib import Path

import msgspec
import psutil
import pytest

from e2e.local_server import (
    Users,
    children,
    decoding,
    in_force,
    most_at_once,
    records,
    reload,
    until,
    with_local,
)
from e2e.serving import Serving
from slipstream.core.errors import SlipstreamError
from slipstream.server.renewal import Renewed

pytestmark = pytest.mark.model

SLOTS = "models.local.slots"
FOREVER = {"2": -100}
"""The end token is banned: it decodes until it is stopped."""


class Reloading:
    """A reload under way in a thread, and what came of it."""

    def __init__(self, server: Serving, **local: object) -> None:
        self.renewed: Renewed | None = None
        self.error: str = ""
        self._thread = threading.Thread(target=self._reload, args=(server, local))
        self._thread.start()

    def _reload(self, server: Serving, local: dict[str, object]) -> None:
        try:
            self.renewed = reload(server, **local)
        except SlipstreamError as error:
            self.error = str(error)

    def done(self) -> "Reloading":
        self._thread.join(90)
        assert not self._thread.is_alive()
        return self


def second_child(server: Serving, first: psutil.Process) -> psutil.Process:
    """The process that loads beside the one that serves."""
    until(lambda: any(each.pid != first.pid for each in children(server)))
    return next(each for each in children(server) if each.pid != first.pid)


def ready(server: Serving) -> bool:
    with contextlib.suppress(OSError):
        return server.get("/readyz")[0] == 200
    return False


class Endless:
    """A streamed answer that does not end by itself."""

    def __init__(self, server: Serving) -> None:
        body = {
            "messages": [{"role": "user", "content": "Count."}],
            "stream": True, "max_tokens": 480, "logit_bias": FOREVER,
        }  # fmt: skip
        self._answer = urllib.request.urlopen(
            urllib.request.Request(
                f"{server.url}/v1/chat/completions",
                msgspec.json.encode(body),
                {"content-type": "application/json"},
            ),
            timeout=90,
        )
        self.said = self._answer.readline()

    def rest(self) -> bytes:
        with self._answer:
            self.said += self._answer.read()
        return self.said


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_slots_follow_and_no_request_fails(tmp_path: Path, workers: int) -> None:
    """1, 2, 1, 2, 1 slots under four users: as many answers are decoded at once, each is whole."""
    stretches: list[tuple[int, int, int]] = []
    with with_local(tmp_path, "--workers", str(workers), slots=1) as server:
        with Users(server, 4, max_tokens=8) as users:
            users.more(4)
            for slots in (2, 1, 2, 1):
                assert reload(server, slots=slots).taken == (SLOTS,)
                begun = time.time_ns()
                users.more(10)
                stretches.append((slots, begun, time.time_ns()))
        until(lambda: len(children(server)) == 1)
        kept = records(server)
        assert in_force(server).settings.models.local.slots == 1
        assert server.get("/readyz")[0] == 200

    assert users.failures == []
    assert {record["outcome"] for record in kept} == {"served"}
    for slots, begun, ended in stretches:
        spans = [decoding(each) for each in kept if begun < int(str(each["arrived_wall_ns"])) < ended]
        # Each worker queues for itself, and llama.cpp for both: as many are decoded as it has slots.
        assert most_at_once(spans) == slots, (slots, len(spans))


def test_what_does_not_fit_or_start_is_refused_and_the_old_serves_on(tmp_path: Path) -> None:
    """More context than there is memory, and less time to start than it takes: the answer says so."""
    with with_local(tmp_path, slots=1) as server:
        (before,) = children(server)
        far_too_long = reload(server, slots=1, context_tokens=2_000_000_000)
        too_soon = reload(server, slots=2, start_seconds=0.01, output_tokens=77)
        server.ask("Still there?", max_tokens=4)
        kept = in_force(server).settings.models.local
        until(lambda: len(children(server)) == 1)
        assert children(server) == [before]
        assert reload(server, slots=1).why == ""
        words_only = reload(server, slots=1, output_tokens=77)
        assert children(server) == [before]

    assert (far_too_long.taken, far_too_long.refused) == ((), ("models.local.context_tokens",))
    assert "MiB" in far_too_long.why
    assert too_soon.refused == ("models.local.output_tokens", SLOTS, "models.local.start_seconds")
    assert "not ready within 0.01 s" in too_soon.why
    assert (kept.slots, kept.context_tokens, kept.output_tokens) == (1, 512, 1024)
    assert words_only.taken == ("models.local.output_tokens",)


def test_kill_9_of_the_new_one_while_it_loads_and_of_the_old_one_while_it_drains(tmp_path: Path) -> None:
    """The first is a refusal; the second fails only what ran there, and nothing is started for it."""
    with with_local(tmp_path, slots=1) as server:
        (first,) = children(server)
        killed = Reloading(server, slots=2)
        second_child(server, first).kill()
        refused = killed.done().renewed
        assert refused is not None
        assert refused.refused == (SLOTS,)
        assert "signal 9" in refused.why
        server.ask("Still there?", max_tokens=4)
        assert children(server) == [first]

        endless = Endless(server)
        assert reload(server, slots=2).taken == (SLOTS,)
        server.ask("Anybody new?", max_tokens=4)
        assert len(children(server)) == 2
        first.kill()
        assert b"local_model_crashed" in endless.rest()
        until(lambda: len(children(server)) == 1)
        server.ask("And now?", max_tokens=4)
        (second,) = children(server)
        assert second.pid != first.pid
        counters = server.json("/_slipstream/status")["counters"]

    assert isinstance(counters, dict)
    assert counters["local_restarts"] == 0


@pytest.mark.long
def test_a_request_under_way_ends_where_it_began(tmp_path: Path) -> None:
    """Its process stays until the answer is whole, however often settings change meanwhile, up to a bound."""
    with with_local(tmp_path, slots=1) as server:
        endless = [Endless(server)]
        for slots in (2, 3):
            assert reload(server, slots=slots).taken == (SLOTS,)
            endless.append(Endless(server))
        assert len(children(server)) == 3
        refused = reload(server, slots=1)
        said = [each.rest() for each in endless]
        until(lambda: len(children(server)) == 1)
        assert reload(server, slots=1).taken == (SLOTS,)

    assert refused.refused == (SLOTS,)
    assert "earlier processes" in refused.why
    assert all(each.endswith(b"data: [DONE]\n\n") for each in said)


@pytest.mark.long
def test_two_reloads_at_once_and_deaths_afterwards(tmp_path: Path) -> None:
    """One follows the other; what dies later, model or worker, begins again with the settings in force."""
    with with_local(tmp_path, slots=1) as server:
        both = [Reloading(server, slots=2), Reloading(server, slots=2)]
        taken = [each.done().renewed for each in both]
        until(lambda: len(children(server)) == 1)
        children(server)[0].kill()
        worker = next(each for each in server.processes() if "server.worker" in " ".join(each.cmdline()))
        worker.kill()
        until(lambda: ready(server) and worker not in server.processes())
        with Users(server, 4, max_tokens=8) as users:
            users.more(4)
            begun = time.time_ns()
            users.more(10)
        kept = records(server)

    assert sorted(each.taken for each in taken if each is not None) == [(), (SLOTS,)]
    spans = [decoding(each) for each in kept if int(str(each["arrived_wall_ns"])) > begun]
    assert most_at_once(spans) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_while_settings_change(tmp_path: Path, number: signal.Signals) -> None:
    """Neither process outlives it, and whoever asked for the settings gets an answer or a broken line."""
    with with_local(tmp_path, slots=1) as server:
        (first,) = children(server)
        under_way = Reloading(server, slots=2)
        second = second_child(server, first)
        server.process.send_signal(number)
        under_way.done()
        status = server.process.wait(60)
        _, alive = psutil.wait_procs([first, second], timeout=60)

    assert alive == []
    if number is signal.SIGTERM:
        assert status == 0
        assert under_way.renewed is not None
        assert under_way.renewed.refused == (SLOTS,)
    with contextlib.suppress(psutil.Error):
        assert under_way.renewed is not None or under_way.error
