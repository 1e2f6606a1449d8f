"""A real server's processes: killed, told to end, told twice. No orphan, and what was committed stays."""

import contextlib
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from e2e.serving import Serving, serving
from server.asking import (
    all_gone,
    ask,
    ask_once,
    committed,
    committed_if_up,
    connect,
    everything_stored,
    leftovers,
    may_ask,
    read_rest,
    refuses,
    state,
    stored,
    try_once,
    worker_pid,
    workers,
)
from server.waiting import wait_for
from slipstream.config.live import live_servers
from slipstream.store.keys import KeyStore

FAST = {"SLIPSTREAM__MODELS__SIMULATED__SIM__SEED": "1", "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off"}
SLOW = {**FAST, "SLIPSTREAM__MODELS__SIMULATED__SIM__ITL_MS": "20"}


def test_killed_worker_is_replaced_and_nobody_is_refused(tmp_path: Path) -> None:
    """kill -9 of the only worker: its slot serves again, and whoever connects meanwhile just waits."""
    with serving(tmp_path, **FAST) as server:
        first = worker_pid(server)
        asked = {ask_once(server) for _ in range(10)}
        wait_for(lambda: asked <= committed(server))
        os.kill(first, signal.SIGKILL)
        asked |= {ask_once(server) for _ in range(10)}

        worker = server.json("/_slipstream/status")["workers"][0]
        assert worker["pid"] != first
        assert worker["restarts"] == 1
        wait_for(lambda: asked <= committed(server))
        assert server.json("/_slipstream/status")["counters"]["worker_restarts"] == 1


def test_killed_supervisor_takes_all_down_and_the_next_one_starts_clean(tmp_path: Path) -> None:
    """kill -9 of the supervisor: no orphan, the store whole with what it had committed, no stale register."""
    with serving(tmp_path, "--workers", "2", **FAST) as server:
        asked = {ask_once(server) for _ in range(20)}
        wait_for(lambda: asked <= committed(server))
        processes = server.processes()
        assert len(processes) == 3
        server.process.kill()
        wait_for(lambda: all_gone(processes))

        assert asked <= stored(server)
        assert live_servers(state(server)) == []
    with serving(tmp_path, **FAST) as again:
        assert ask_once(again)
        assert asked <= committed(again)


def test_sigterm_lets_running_answers_finish(tmp_path: Path) -> None:
    """A stream under way ends whole, new connections are refused, the records are kept, the exit is 0."""
    with serving(tmp_path, **SLOW) as server:
        connection = connect(server)
        response = ask(connection, tokens=60, stream=True)
        assert response.read(1)
        processes = server.processes()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(server))
        rest = response.read()
        connection.close()

        assert rest.endswith(b"data: [DONE]\n\n")
        assert server.process.wait(60) == 0
        assert all_gone(processes)
        assert leftovers(server) == []
        assert response.headers["x-request-id"] in stored(server)


def test_second_sigterm_ends_at_once(tmp_path: Path) -> None:
    """An answer that would take minutes is cut with an error event; the exit is still 0, its record kept."""
    with serving(tmp_path, **SLOW) as server:
        connection = connect(server)
        response = ask(connection, tokens=100_000, stream=True)
        assert response.read(1)
        server.process.send_signal(signal.SIGINT)
        wait_for(lambda: refuses(server))
        server.process.send_signal(signal.SIGTERM)
        rest = read_rest(response)
        connection.close()

        assert server.process.wait(60) == 0
        assert b"[DONE]" not in rest
        assert b'"error"' in rest
        assert leftovers(server) == []
        assert response.headers["x-request-id"] in stored(server)


def test_drain_has_an_end(tmp_path: Path) -> None:
    """What runs longer than `drain_seconds` is cut with an error event."""
    with serving(tmp_path, **SLOW, SLIPSTREAM__SERVER__DRAIN_SECONDS="0.2") as server:
        connection = connect(server)
        response = ask(connection, tokens=100_000, stream=True)
        assert response.read(1)
        server.process.send_signal(signal.SIGTERM)
        rest = read_rest(response)
        connection.close()

        assert server.process.wait(60) == 0
        assert b'"error"' in rest


def test_worker_that_is_told_to_end_is_followed_while_it_drains(tmp_path: Path) -> None:
    """SIGTERM to a worker alone: its stream ends whole while its successor serves."""
    with serving(tmp_path, **SLOW) as server:
        connection = connect(server)
        response = ask(connection, tokens=100, stream=True)
        assert response.read(1)
        first = worker_pid(server)
        os.kill(first, signal.SIGTERM)
        wait_for(lambda: worker_pid(server) not in {None, first})

        assert ask_once(server)
        assert response.read().endswith(b"data: [DONE]\n\n")
        connection.close()
        assert server.json("/_slipstream/status")["counters"]["worker_restarts"] == 0


def test_key_is_accepted_and_refused_while_the_server_runs(tmp_path: Path) -> None:
    """A key made or revoked elsewhere is heard of without a restart."""
    with serving(tmp_path, **FAST) as server:
        assert server.get("/v1/models")[0] == 200
        store = KeyStore(tmp_path / "data" / "keys.db")
        _, secret = store.create("ci")
        wait_for(lambda: not may_ask(server, ""))
        assert may_ask(server, secret)
        store.revoke("ci")
        wait_for(lambda: not may_ask(server, secret))
        assert not may_ask(server, "")
        store.close()


def test_pages_are_opened_once_by_the_printed_link(tmp_path: Path) -> None:
    """Where keys exist the start prints a link that logs one browser in; a second use is refused."""
    (tmp_path / "data").mkdir(mode=0o700)
    store = KeyStore(tmp_path / "data" / "keys.db")
    store.create("ci")
    store.close()
    with serving(tmp_path, **FAST) as server:
        wait_for(lambda: '"login":"' in server.log.read_text())
        link = server.log.read_text().partition('"login":"')[2].partition('"')[0]
        connection = connect(server)
        connection.request("GET", link.removeprefix(server.url))
        response = connection.getresponse()
        response.read()
        cookie = response.headers["set-cookie"]
        assert response.status == 303
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie

        connection.request("GET", "/_slipstream/status", headers={"cookie": cookie.split(";")[0]})
        assert connection.getresponse().read().startswith(b'{"version"')
        connection.close()
        assert server.get(link.removeprefix(server.url))[0] == 401
        assert server.get("/_slipstream/status")[0] == 401


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_no_descriptors_left_is_survived(tmp_path: Path) -> None:
    """More connections than a worker has descriptors for: it lives, and serves again when they are gone."""
    with serving(tmp_path, **FAST) as server:
        pid = worker_pid(server)
        psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE, (40, 40))
        host, port = server.url.removeprefix("http://").split(":")
        connections = [socket.create_connection((host, int(port))) for _ in range(100)]
        for each in connections:
            each.close()
        wait_for(lambda: try_once(server))

        assert worker_pid(server) == pid


@pytest.mark.model
def test_killed_supervisor_takes_the_embedded_model_down(tmp_path: Path) -> None:
    """The model's process ends with its supervisor, loading or loaded."""
    with serving(tmp_path, ready=False) as server:
        wait_for(lambda: len(server.processes()) == 3)
        processes = server.processes()
        server.process.kill()
        wait_for(lambda: all_gone(processes))
    with serving(tmp_path) as server:
        processes = server.processes()
        assert len(processes) == 3
        server.process.kill()
        wait_for(lambda: all_gone(processes))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "0.0.0.0"), "there is no key yet"),
        (("--port", "{taken}"), "is in use by"),
        (("--upstream", "nonsense"), "--upstream"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """A start that cannot succeed ends at once with a message and a hint, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = [argument.format(taken=taken.getsockname()[1]) for argument in arguments]
        with pytest.raises(AssertionError) as ended, serving(tmp_path, *flags, **FAST):
            pass

    assert said in str(ended.value)
    assert "Traceback" not in (tmp_path / "serve.log").read_text()


@pytest.fixture
def load() -> Iterator[Callable[[Serving], None]]:
    """Starts clients that ask until the server is gone."""
    threads: list[threading.Thread] = []

    def start(server: Serving) -> None:
        def client() -> None:
            while server.process.returncode is None:
                try_once(server)

        threads.extend(threading.Thread(target=client) for _ in range(4))
        for thread in threads[-4:]:
            thread.start()

    yield start
    for thread in threads:
        thread.join()


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_killed_at_random_points_under_load(tmp_path: Path, load: Callable[[Serving], None]) -> None:
    """kill -9 of the supervisor 200 times under load: what it had committed is there, the store is whole."""
    dice = random.Random(7)
    for round_number in range(200):
        folder = tmp_path / str(round_number)
        folder.mkdir()
        with serving(folder, **FAST) as server:
            load(server)
            processes = server.processes()
            threading.Event().wait(dice.uniform(0.0, 0.4))
            acknowledged = committed(server)
            server.process.kill()
            server.process.wait()
            wait_for(lambda processes=processes: all_gone(processes))
            assert acknowledged <= everything_stored(server)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_workers_killed_at_random_points_under_load(tmp_path: Path, load: Callable[[Serving], None]) -> None:
    """kill -9 of a worker 100 times under load: its slot comes back each time, nothing committed is lost."""
    dice = random.Random(8)
    with serving(tmp_path, "--workers", "2", **FAST) as server:
        load(server)
        seen: set[str] = set()
        for _ in range(100):
            threading.Event().wait(dice.uniform(0.0, 0.2))
            wait_for(lambda: any(worker["state"] == "ready" for worker in workers(server)))
            seen |= committed_if_up(server)
            pid = dice.choice(workers(server))["pid"]
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        wait_for(lambda: {worker["state"] for worker in workers(server)} == {"ready"})
        assert len(server.processes()) == 3
        server.process.kill()
        server.process.wait()
        assert seen
        assert seen <= everything_stored(server)
