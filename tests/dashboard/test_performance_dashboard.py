"""`PerformanceDashboard` in a program without a server: its own numbers, on its own page."""

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from slipstream.core import clock
from slipstream.core.errors import BadRequest, ConfigurationError
from slipstream.dashboard.performance_dashboard import PerformanceDashboard
from slipstream.monitoring.own_process import OWN_PROCESS
from slipstream.monitoring.performance_monitor import PerformanceMonitor


@pytest.fixture
def dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PerformanceDashboard]:
    monkeypatch.setenv("SLIPSTREAM__STATE_FOLDER", str(tmp_path))
    monkeypatch.setenv("SLIPSTREAM__DATA_FOLDER", str(tmp_path))
    OWN_PROCESS._forget()  # as in a program of its own: what other tests have measured is not in it
    made = PerformanceDashboard(owner="test")
    yield made
    made.close()


def get(url: str, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def post(url: str, path: str, body: bytes) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_looks_go_on_whatever_ran_before() -> None:
    """The thread that looks at this process's numbers lives, and time passes for it."""
    OWN_PROCESS.read(lambda readings: None)
    state = OWN_PROCESS._state
    assert state is not None
    frame, deadline = state.readings.frame, time.monotonic() + 10
    while state.readings.frame <= frame:
        threads = [each.name for each in threading.enumerate()]
        assert time.monotonic() < deadline, (
            frame,
            threads,
            clock.monotonic_ns,
            clock.wall_ns,
            vars(state.readings),
        )
        time.sleep(0.1)


def test_page_of_this_process(dashboard: PerformanceDashboard) -> None:
    """Served from a thread: the page, the layout with what was added, and the numbers of this process."""
    dashboard.add_metric("Descriptors", "open_files")
    PerformanceMonitor().measure_response_time(lambda: time.sleep(0.02))
    url = dashboard.serve()
    layout = msgspec.json.decode(get(url, "/_slipstream/dashboard")[1])
    deadline = time.monotonic() + 20
    while (seen := dashboard.snapshot())["response_time"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert urlsplit(url).hostname == "127.0.0.1"
    assert b"<title>Dashboard" in get(url, "/dashboard")[1]
    assert layout["tiles"][-1] == {
        "title": "Descriptors",
        "metric": "open_files",
        "unit": "",
        "owner": "test",
    }
    assert (layout["records"], layout["alerts"]) == (False, False)
    assert seen.source == "process"
    assert seen["response_time"] >= 20.0
    assert seen["Descriptors"] is None or seen["Descriptors"] > 0
    assert dashboard.serve() == url
    assert dashboard.remove_metric("Descriptors")


def test_frames_come_from_the_own_page(dashboard: PerformanceDashboard) -> None:
    """The live stream tells this process's seconds."""
    address = urlsplit(dashboard.serve())
    with socket.create_connection((address.hostname, address.port), timeout=10) as line:
        line.sendall(f"GET /_slipstream/dashboard/live HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        said = b""
        while b"event: frame" not in said:
            said += line.recv(65536)

    assert b"text/event-stream" in said


def test_other_names_are_refused(dashboard: PerformanceDashboard) -> None:
    """A foreign page that has its name resolve to loopback reads nothing; nobody adds from outside."""
    url = dashboard.serve()

    assert get(url, "/_slipstream/dashboard", Host="evil.example")[0] == 400
    assert post(url, "/_slipstream/dashboard/tiles", b'{"title":"x","metric":"cpu_usage"}') == 405


@pytest.mark.parametrize(
    "query",
    ["series", "series?from=2&to=1", "series?from=x&to=1", "series?from=-5&to=1", "series?from=nan&to=5",
     "series?from=1&to=2&points=0", "series?from=1&to=2&points=99999", "series?from=1&to=999999999999",
     "requests?limit=0", "requests?limit=999", "requests?outcome=odd", "requests?min_ms=inf", "requests?from=a"],
)  # fmt: skip
def test_what_is_asked_amiss_is_refused(dashboard: PerformanceDashboard, query: str) -> None:
    """A 400 that says what is wrong, in words."""
    status, body = get(dashboard.serve(), f"/_slipstream/dashboard/{query}")

    assert status == 400
    assert len(msgspec.json.decode(body)["error"]["message"]) > 10


def test_mistakes_are_told(dashboard: PerformanceDashboard) -> None:
    """An unknown metric, a condition that is none, a port that is taken."""
    with pytest.raises(BadRequest):
        dashboard.add_metric("CPU", "cpu_usge", "%")
    with pytest.raises(BadRequest):
        dashboard.add_alert("CPU", "cpu_usage >")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError):
        dashboard.serve(taken.getsockname()[1])


def test_alert_is_watched_here(dashboard: PerformanceDashboard) -> None:
    """What is watched stands in the snapshot."""
    rule = dashboard.add_alert("High CPU Usage", "cpu_usage > 80")

    assert rule.expanded == "avg of cpu_usage over 1 min > 80 %"
    assert [each.name for each in dashboard.snapshot().alerts] == ["High CPU Usage"]


def test_a_replay_beside_it_moves_no_clock_of_its_own(dashboard: PerformanceDashboard) -> None:
    """The doctor replays traffic on virtual time in the same program: its measurements go on in true time."""
    monitor = PerformanceMonitor()
    monitor.measure_response_time(lambda: None)
    with clock.driven_by(lambda: 10**18):
        time.sleep(2.5)  # the thread that looks once a second does so meanwhile
    monitor.measure_response_time(lambda: time.sleep(0.02))
    deadline = time.monotonic() + 60
    while dashboard.snapshot()["response_time"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_who_asks_first_on_virtual_time_stops_no_clock() -> None:
    """A replay that is the first to measure something: looks go on in true time."""
    program = (
        "import time\nfrom slipstream.core import clock\n"
        "from slipstream.monitoring.performance_monitor import PerformanceMonitor\n"
        "monitor = PerformanceMonitor()\n"
        "with clock.driven_by(lambda: 10**18): monitor.measure_response_time(lambda: None)\n"
        "end = time.monotonic() + 30\n"
        "while monitor.get_cpu_usage() is None: assert time.monotonic() < end; time.sleep(0.1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
