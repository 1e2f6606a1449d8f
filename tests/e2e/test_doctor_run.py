"""The doctor's admin routes on a real server: a run beside its service, cancelled with its change taken back."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import psutil
import pytest

from e2e.doctor_traffic import traffic, two_upstreams
from e2e.serving import Serving, end
from server.waiting import wait_for
from slipstream.doctor.ledger import read

RUN = "/_slipstream/doctor/run"
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with two_upstreams(tmp_path_factory.mktemp("run"), west_itl_ms=60, keys="always") as running:
        traffic(running, 240, 40)
        yield running


def ask(server: Serving, method: str, body: object = None, **headers: str) -> tuple[int, dict[str, object]]:
    given = {"authorization": f"Bearer {server.token}", "content-type": "application/json", **headers}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + RUN, data, given, method=method)
    try:
        with urllib.request.urlopen(request, timeout=90) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def state(server: Serving) -> dict[str, object]:
    return server.json(RUN)


def ended(server: Serving, seconds: float = 120) -> dict[str, object]:
    deadline = time.monotonic() + seconds
    while (found := state(server))["state"] == "running":
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def weight(server: Serving) -> float:
    """In force now."""
    view = server.json("/_slipstream/doctor")
    return view["settings"]["models"]["upstreams"]["west"]["weight"]  # type: ignore[index,no-any-return]


def children(server: Serving) -> list[psutil.Process]:
    def is_doctor(process: psutil.Process) -> bool:
        try:
            return "slipstream.cli.tethered" in process.cmdline()
        except psutil.Error:
            return False

    return [each for each in server.processes() if is_doctor(each)]


def applying(server: Serving, look: Callable[[], bool]) -> psutil.Process:
    """Begin to verify for minutes; the child, once `look` holds."""
    status, found = ask(
        server,
        "POST",
        {"since": "1h", "apply": 1, "verify_seconds": 300, "expect": "models.upstreams.west.weight"},
    )
    assert (status, found["state"]) == (202, "running")
    wait_for(lambda: look() or state(server)["state"] != "running")
    found = state(server)
    assert found["state"] == "running", (found["error"], found["hint"], found["result"])
    (child,) = children(server)
    return child


def test_it_looks_while_the_server_serves(server: Serving) -> None:
    """202, then told by its own words; a second one is refused; admin routes are answered all the while."""
    status, begun = ask(server, "POST", {"since": "1h"})
    assert (status, begun["state"], begun["since"]) == (202, "running", "1h")
    status, refused = ask(server, "POST", {"since": "1h"})
    assert status == 409
    assert "DELETE" in refused["error"]["message"]  # type: ignore[index]
    assert server.json("/_slipstream/status")["workers"]
    found = ended(server)
    assert found["state"] == "done", found
    assert found["result"]["causes"][0]["finding"]["subject"] == "west"  # type: ignore[index]
    assert "judging" in str(found["line"])


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"since": "soon"}, {}, 400),
        ({"since": "1h", "aply": 1}, {}, 400),
        ({"since": "1h"}, {"content-type": "text/plain"}, 415),
        ({"since": "1h", "expect": "x" * 5000}, {}, 413),
        ({"since": "1h"}, {"authorization": "Bearer nobody"}, 401),
        ({"since": "1h"}, {"origin": "http://elsewhere.example"}, 403),
    ],
)
def test_what_must_not_be_asked_is_refused(
    server: Serving, body: object, headers: dict[str, str], status: int
) -> None:
    """In words, with what to do; pages of other sites and strangers get nothing begun."""
    before = state(server)["number"]
    given, refused = ask(server, "POST", body, **headers)

    assert given == status, refused
    assert refused["error"]["message"]  # type: ignore[index]
    assert state(server)["number"] == before


@pytest.mark.long
def test_another_setting_than_expected_is_not_changed(server: Serving) -> None:
    """Causes may have moved since somebody saw them."""
    file = (server.folder / "slipstream.toml").read_text("utf-8")
    for expect in ("models.attempts", "models.upstreams.west.weight=0.5"):
        ask(server, "POST", {"since": "1h", "apply": 1, "verify_seconds": 0, "expect": expect})
        found = ended(server)

        assert found["state"] == "failed"
        assert f"does not advise `{expect}`: it advises `models.upstreams.west.weight=0." in str(
            found["error"]
        )
    assert (server.folder / "slipstream.toml").read_text("utf-8") == file


def test_a_cancelled_fix_is_taken_back(server: Serving) -> None:
    """File and server are as they were, the process is gone, and the ledger has no entry of it."""
    file = server.folder / "slipstream.toml"
    before = file.read_text("utf-8")
    child = applying(server, lambda: weight(server) != 1)
    assert "weight" in file.read_text("utf-8")
    status, found = ask(server, "DELETE")

    assert (status, found["state"]) == (200, "cancelled")
    assert file.read_text("utf-8") == before
    assert weight(server) == 1
    assert not child.is_running()
    assert server.json("/_slipstream/ledger")["entries"] == []
    assert ask(server, "DELETE")[1]["state"] == "cancelled"


def test_a_killed_server_leaves_no_orphan_and_its_settings_as_they_were(server: Serving) -> None:
    """The child feels its lifeline end, takes the change out of the file, and is gone. (The last test: it kills.)"""
    file = server.folder / "slipstream.toml"
    before = file.read_text("utf-8")
    child = applying(server, lambda: "weight" in file.read_text("utf-8"))
    server.process.kill()
    server.process.wait()

    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert file.read_text("utf-8") == before


@pytest.mark.long
def test_an_ended_server_takes_its_doctor_with_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """SIGTERM while a fix is verified: taken back, then all processes are gone, and the ledger tells of none."""
    with two_upstreams(tmp_path_factory.mktemp("ended"), west_itl_ms=60) as running:
        traffic(running, 240, 40)
        file = running.folder / "slipstream.toml"
        before = file.read_text("utf-8")
        child = applying(running, lambda: "weight" in file.read_text("utf-8"))
        status = end(running.process, seconds=60)

        assert status == 0
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        assert file.read_text("utf-8") == before
        assert read(running.folder / "data" / "doctor.db").entries == ()
