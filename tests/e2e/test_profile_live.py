"""Faults planted in a running server are found by name: burner, lock holder and leak, by file and line."""

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from e2e.again import Asking
from e2e.serving import Serving, serving

PLANTED = Path(__file__).with_name("planted_server.py")
SIMULATED = {
    "SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "6",
    "SLIPSTREAM__MODELS__SIMULATED__SIM__TTFT_MS": "20",
    "SLIPSTREAM__MODELS__SIMULATED__SIM__SLOTS": "0",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
    "SLIPSTREAM__SERVER__WORKERS": "1",
}

SHORT = 4
"""Tokens of an answer: the model is not what is looked for."""


def line_of(mark: str) -> int:
    """The number of the line of the planted server that carries a comment."""
    lines = PLANTED.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# the {mark}'s line"))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with planted faults and a simulated model."""
    with serving(tmp_path_factory.mktemp("planted"), program=(str(PLANTED),), **SIMULATED) as server:
        server.ask("Hello")
        yield server


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with planted faults and the embedded model."""
    folder = tmp_path_factory.mktemp("assistant")
    with serving(folder, program=(str(PLANTED),), SLIPSTREAM__SERVER__WORKERS="1") as server:
        server.ask("Hello", max_tokens=SHORT)
        yield server


@pytest.fixture(
    params=[
        pytest.param("planted", marks=pytest.mark.long),
        pytest.param("assistant", marks=[pytest.mark.model, pytest.mark.long]),
    ]
)
def either(request: pytest.FixtureRequest) -> Serving:
    """The one, and the other."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, Serving)
    return server


def run(server: Serving, *arguments: str) -> str:
    """`slipstream profile …` against the server; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "slipstream", "profile", *arguments],
        capture_output=True,
        text=True,
        env=server.environ,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def stalls(server: Serving, function: str, *, kind: str = "loop") -> list[dict[str, object]]:
    """The stalls for which a function of the planted server is blamed, once there is one."""
    deadline = time.monotonic() + 20
    while True:
        found = [
            each
            for each in server.json("/_slipstream/stalls")["stalls"]
            if each["kind"] == kind and each["where"] and each["where"]["function"] == function
        ]
        if found:
            return found
        assert time.monotonic() < deadline, server.json("/_slipstream/stalls")
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("prompt", "function", "line"),
    [
        ("planted burner", "burn_in_python", None),
        ("planted holder", "hold_the_lock", line_of("holder")),
    ],
)
def test_a_stall_is_blamed_on_its_line_and_request(
    either: Serving, prompt: str, function: str, line: int | None
) -> None:
    """Whoever holds the loop up is named, with the request it worked for and those whom it delayed."""
    with Asking(either, "Hello", max_tokens=SHORT), Asking(either, "Hello again", max_tokens=SHORT):
        either.ask(prompt, max_tokens=SHORT)
    worst = max(stalls(either, function), key=lambda each: each["seconds"])

    assert worst["process"] == "worker 0"
    assert worst["where"]["file"] == str(PLANTED)
    if line is not None:
        assert worst["where"]["line"] == line
    assert worst["seconds"] > 0.3
    assert worst["others"] >= 1
    record = either.record(worst["request"])
    read = next(step for step in record["steps"] if step["name"] == "read")
    assert read["duration_ns"] > 0.5e9 * worst["seconds"]
    assert function in run(either, "stalls")
    assert worst["request"] in run(either, "stalls")


def test_a_long_garbage_collection_is_blamed_on_its_line_and_request(planted: Serving) -> None:
    """Python's own collection, which nobody asked for: where it struck, in which request, who waited."""
    with Asking(planted, "Hello"), Asking(planted, "Hello again"):
        planted.ask("planted garbage")
    worst = max(stalls(planted, "make_many", kind="gc"), key=lambda each: each["seconds"])

    assert worst["process"] == "worker 0"
    assert (worst["where"]["file"], worst["where"]["line"]) == (str(PLANTED), line_of("collector"))
    assert worst["seconds"] >= 0.02
    assert worst["others"] in {1, 2}
    read = next(step for step in planted.record(worst["request"])["steps"] if step["name"] == "read")
    assert read["duration_ns"] > worst["seconds"] * 1e9
    place = f"make_many (e2e/planted_server.py:{line_of('collector')})"
    told = [line for line in run(planted, "stalls").splitlines() if worst["request"] in line]
    assert any(f"a garbage collection at {place} held the process for " in line for line in told)


def test_a_burner_is_named_by_the_cpu_profile(either: Serving, tmp_path: Path) -> None:
    """`slipstream profile cpu` puts the planted line first, in the worker and not in the supervisor."""
    flame, stacks = tmp_path / "cpu.json", tmp_path / "cpu.txt"
    with Asking(either, "planted burner", max_tokens=SHORT):
        told = run(either, "cpu", "--seconds", "2", "--speedscope", str(flame), "--collapsed", str(stacks))
    first = told.splitlines()[2]

    assert first.startswith("burn_in_python  ")
    assert "  e2e/planted_server.py:" in first
    assert float(first.split()[-2].rstrip("%")) > 50
    assert f"planted_server.py:{line_of('burner')}" in told
    assert any(
        row.startswith("worker 0;") and "burn_in_python" in row for row in stacks.read_text().splitlines()
    )
    assert "supervisor (pid " in told
    frames = msgspec.json.decode(flame.read_bytes())["shared"]["frames"]
    assert {"burn_in_python", "worker 0"} <= {frame["name"] for frame in frames}


def test_samples_carry_the_request_that_ran(either: Serving) -> None:
    """The tag of the burner's samples is the id of a recorded request."""
    with Asking(either, "planted burner", max_tokens=SHORT):
        told = msgspec.json.decode(run(either, "cpu", "--seconds", "1", "--json"))
    worker = next(each for each in told["processes"] if each["process"] == "worker 0")["cpu"]
    tags = {
        tag
        for tag, stack in zip(worker["tags"], worker["stacks"], strict=True)
        if any(worker["frames"][at]["function"] == "burn_in_python" for at in stack)
    }

    assert tags
    model = "sim" if SIMULATED.keys() <= either.environ.keys() else "smollm2-135m-instruct"
    assert all(either.record(tag)["model"] == model for tag in tags if tag)
    assert any(tags)


def test_a_holder_is_named_by_the_cpu_profile(either: Serving) -> None:
    """A call into C during which nobody could look weighs its whole time, at its own line."""
    with Asking(either, "planted holder", max_tokens=SHORT):
        told = run(either, "cpu", "--seconds", "3")

    first = told.splitlines()[2]
    assert first.startswith("hold_the_lock  ")
    assert "  e2e/planted_server.py:" in first
    assert f"planted_server.py:{line_of('holder')}" in told


def test_a_leak_is_named_by_the_memory_profile(either: Serving) -> None:
    """The line that keeps what nobody asks for grows most, and is the leak suspect, with the way to it."""
    with Asking(either, "planted leak", max_tokens=SHORT):
        told = run(either, "memory", "--seconds", "4")
    worker, supervisor = told[told.index("worker 0") :].split("supervisor (pid ")
    place = f"planted_server.py:{line_of('leak')}"
    grown = [line for line in worker.splitlines() if "B in " in line]
    suspects = [line for line in told.splitlines() if line.startswith("leak suspect: ")]

    assert grown[0].endswith(place)
    assert suspects[0].startswith(f"leak suspect: e2e/{place}, ")
    assert "      faulty (e2e/planted_server.py:" in worker
    assert place not in supervisor
    for process in (worker, supervisor):
        assert "allocations by memray" in process
        assert "times slower" in process


@pytest.mark.long
def test_tracemalloc_is_for_those_who_ask(planted: Serving) -> None:
    """It finds the same, in every process, and says what it costs."""
    with Asking(planted, "planted leak"):
        told = run(planted, "memory", "--seconds", "2", "--by", "tracemalloc")
    grown = [line for line in told.splitlines() if "B in " in line]

    assert grown[0].endswith(f"planted_server.py:{line_of('leak')}")
    assert told.count("allocations by tracemalloc") == 2
    assert "memray" not in told


@pytest.mark.long
def test_slow_requests_are_explained_by_their_step(planted: Serving, tmp_path: Path) -> None:
    """After one slow request in ten the step with the fault is what makes requests slow; its waterfall shows it."""
    began = time.time()
    for at in range(30):
        planted.ask("planted burner" if at % 10 == 0 else "Hello")
    deadline = time.monotonic() + 20
    while (report := planted.json(f"/_slipstream/steps?from={began}"))["requests"] < 30:
        assert time.monotonic() < deadline, report
        time.sleep(0.1)  # until all of them are written
    slow = max(
        planted.json("/_slipstream/dashboard/requests?limit=30")["data"], key=lambda each: each["duration_ns"]
    )
    chrome, otlp = tmp_path / "chrome.json", tmp_path / "otlp.json"
    told = run(planted, "request", slow["id"], "--chrome", str(chrome), "--otlp", str(otlp))

    assert "█" in next(line for line in told.splitlines() if line.strip().startswith("read"))
    assert "read" in {each["name"] for each in msgspec.json.decode(chrome.read_bytes())["traceEvents"]}
    spans = msgspec.json.decode(otlp.read_bytes())["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert {"read", "relay"} <= {each["name"] for each in spans}
    assert int(spans[0]["startTimeUnixNano"]) == slow["arrived_wall_ns"]
    table = run(planted, "steps", "--minutes", "5")
    assert "Bottleneck: " in table
    assert "\nSlowest (`slipstream profile request ID`): req_" in table
    assert report["slowest"][0]["id"] == slow["id"]
    assert report["bottleneck"] == "read"  # of these alone: whom the burner delayed before waited elsewhere


@pytest.mark.parametrize("what", ["cpu", "memory"])
def test_whoever_leaves_frees_the_profiler(planted: Serving, what: str) -> None:
    """A command that is interrupted leaves nothing running: the next one begins at once, in every process."""
    command = begun(planted, what)
    deadline = time.monotonic() + 60
    pause = 1.0
    while time.sleep(pause) or post(planted, what)[0] != 409:  # until the command's own runs
        assert time.monotonic() < deadline
        pause += 0.5  # it takes so long to start here, and must not come while this one looks
        if command.poll() is not None:
            command = begun(planted, what)
    command.send_signal(signal.SIGINT)
    command.wait(20)
    interrupted = time.monotonic()
    while (answer := post(planted, what))[0] == 409:
        assert time.monotonic() < interrupted + 10, answer
        time.sleep(0.05)

    assert answer[0] == 200, answer
    assert [each["error"] for each in answer[1]["processes"]] == ["", ""]


def begun(server: Serving, what: str) -> subprocess.Popen[bytes]:
    """The command, which looks for longer than anybody waits here."""
    asked = [sys.executable, "-m", "slipstream", "profile", what, "--seconds", "50"]
    return subprocess.Popen(asked, env=server.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def post(server: Serving, what: str) -> tuple[int, dict[str, Any]]:
    """Ask for a short profile; status and answer."""
    request = urllib.request.Request(
        server.url + "/_slipstream/profile",
        msgspec.json.encode({"what": what, "seconds": 0.05}),
        {"content-type": "application/json", "authorization": f"Bearer {server.token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, msgspec.json.decode(response.read())
    except urllib.error.HTTPError as error:
        return error.code, {}


def test_whom_a_burner_held_up_waited_for_the_loop(planted: Serving) -> None:
    """What an upstream took no longer than ever to do is not said to be waiting for it."""
    began = time.time()
    with Asking(planted, "Hello"), Asking(planted, "Hello again"), Asking(planted, "Hello there"):
        for _ in range(4):
            planted.ask("planted burner")
            time.sleep(0.1)
    stalls(planted, "burn_in_python")
    deadline = time.monotonic() + 20
    while True:  # until none more is written
        report = planted.json(f"/_slipstream/steps?from={began}")
        time.sleep(0.5)
        if planted.json(f"/_slipstream/steps?from={began}")["requests"] == report["requests"]:
            break
        assert time.monotonic() < deadline, report
    records = planted.json("/_slipstream/requests?limit=500")["data"]
    taken = [each["duration_ns"] for each in records if each["arrived_wall_ns"] >= began * 1e9]
    usual_ns = sorted(taken)[len(taken) // 2]
    burnt_ns = sum(sorted(taken)[-4:])  # the burners'; of the others, what was beyond the usual was waiting
    beyond_ns = sum(each - usual_ns for each in taken if each > 3 * usual_ns) - burnt_ns

    assert report["requests"] == len(taken)
    assert report["unplaced"] == 0
    assert sum(report["waits"].values()) == pytest.approx(1.0)
    assert report["waits"]["loop"] == pytest.approx(beyond_ns / sum(taken), rel=0.25)


@pytest.mark.long
def test_of_several_workers_it_is_known_who_served(tmp_path: Path) -> None:
    """A stall is told of the requests of its own worker, so each request's is known."""
    began = time.time()
    with (
        serving(tmp_path, "--workers", "2", program=(str(PLANTED),), **SIMULATED) as server,
        Asking(server, "Hello"),
        Asking(server, "Hello again"),
        Asking(server, "Hello there"),
    ):
        deadline = time.monotonic() + 60
        while "loop" not in (report := server.json(f"/_slipstream/steps?from={began}"))["waits"]:
            assert time.monotonic() < deadline, report
            server.ask("planted burner")  # on one of two loops: mostly somebody is on it too

    assert report["unplaced"] == 0
    assert sum(report["waits"].values()) == pytest.approx(1.0)


def test_every_part_has_a_row(planted: Serving) -> None:
    """Resources, event loops, record queue and writer, and the alerts' outbox are in one table."""
    deadline = time.monotonic() + 20
    wanted = {
        "cpu",
        "memory",
        "disk",
        "network",
        "worker 0: event loop",
        "worker 0: record queue",
        "supervisor: event loop",
        "supervisor: record writer",
        "supervisor: alerts outbox",
    }
    while not wanted <= {row["part"] for row in planted.json("/_slipstream/use")["rows"]}:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert "supervisor: record writer" in run(planted, "use")


def test_a_file_that_cannot_be_written_loses_no_profile(planted: Serving, tmp_path: Path) -> None:
    """What was seen is printed all the same; the error says which file, and what to do."""
    missing = tmp_path / "nobody" / "cpu.json"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "slipstream",
            "profile",
            "cpu",
            "--seconds",
            "0.3",
            "--speedscope",
            str(missing),
        ],
        capture_output=True,
        text=True,
        env=planted.environ,
        timeout=60,
    )

    assert done.returncode == 1
    assert "supervisor (pid " in done.stdout
    assert f"{missing} cannot be written" in done.stderr
    assert "Name a file in a folder that you may write to." in done.stderr


def test_a_profile_beyond_the_bound_is_refused(planted: Serving) -> None:
    """The command says what the server says."""
    done = subprocess.run(
        [sys.executable, "-m", "slipstream", "profile", "cpu", "--seconds", "3000"],
        capture_output=True,
        text=True,
        env=planted.environ,
        timeout=60,
    )

    assert done.returncode == 1
    assert "up to 60 seconds" in done.stderr
