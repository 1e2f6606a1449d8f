"""`slipstream alerts` and `slipstream mark` beside a live server, as they are used by hand and in scripts."""

import json
import os
import pty
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.serving import Serving, serving

SETTINGS = """
[models.simulated.sim]
output_tokens = 2

[alerts.rules."Any requests"]
condition = "rate(requests, 1h) >= 0"
severity = "info"

[alerts.rules."Slow"]
condition = "response_time > 5000"

[alerts]
wait_seconds = 0

[alerts.receivers.nobody]
kind = "webhook"
url = "http://127.0.0.1:9/hook"

[alerts.routes]
info = ["nobody"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with two rules, one of which fires once anybody asks."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "slipstream.toml").write_text(SETTINGS, encoding="utf-8")
    with serving(folder) as running:
        ask(running)
        yield running


def ask(server: Serving) -> None:
    body = json.dumps({"model": "sim", "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = urllib.request.Request(
        server.url + "/v1/chat/completions",
        body,
        {"authorization": f"Bearer {server.token}", "content-type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()


def run(server: Serving, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "slipstream", *arguments],
        env=server.environ, cwd=server.folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def said(server: Serving, *arguments: str) -> str:
    done = run(server, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_list(server: Serving) -> None:
    """Without a terminal a line a rule with tabs, those that fire first; as JSON all that is known."""
    for _ in range(100):
        lines = [line.split("\t") for line in said(server, "alerts", "list").splitlines()]
        if lines[0][0] == "firing":
            break
    rules = json.loads(said(server, "alerts", "list", "--json"))["rules"]

    assert [line[1:3] for line in lines] == [["Any requests", "info"], ["Slow", "warning"]]
    assert [line[0] for line in lines] == ["firing", "no data"]
    assert lines[1][4] == "p95 of response_time over 1 min > 5 s"
    assert [rule["phase"] for rule in rules] == ["firing", "inactive"]
    assert "firing\tAny requests" in said(server, "alerts", "list", "--history")
    assert {line[5] for line in lines} == {"settings"}


def test_messages_that_wait(server: Serving) -> None:
    """What could not be delivered is listed with the reason, while it is tried again."""
    for _ in range(100):
        shown = said(server, "alerts", "list", "--messages")
        if "No connection" in shown:
            break
    waiting = shown.splitlines()[0].split("\t")
    told = json.loads(said(server, "alerts", "list", "--messages", "--json"))["data"]

    assert (waiting[0], waiting[3], waiting[5]) == ("waiting", "nobody", told[0]["subject"])
    assert "No connection to 127.0.0.1:9" in waiting[6]


def test_list_on_a_terminal(server: Serving) -> None:
    """On a terminal it is a table with headings."""
    reader, writer = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "slipstream", "alerts", "list"],
        env={**server.environ, "COLUMNS": "200"}, cwd=server.folder, stdout=writer, timeout=60, check=True,
    )  # fmt: skip
    os.close(writer)
    shown = os.read(reader, 100_000).decode()
    os.close(reader)

    assert "condition" in shown
    assert "Any requests" in shown


def test_try_a_condition(server: Serving) -> None:
    """It is shown with its defaults, and with what it says now."""
    shown = said(server, "alerts", "test", "response_time > 5000").splitlines()

    assert shown == ["p95 of response_time over 1 min > 5 s", "There is no data to say so now."]
    assert "It fires now: " in said(server, "alerts", "test", "last(memory_bytes) > 1 KB")


def test_mistake_is_pointed_at(server: Serving) -> None:
    """The caret stands below the character, and the status tells a script."""
    done = run(server, "alerts", "test", "response_tme > 5000")
    lines = done.stderr.splitlines()

    assert done.returncode == 1
    assert "There is no metric `response_tme`." in lines[0]
    assert lines[2].index("^") == lines[1].index("response_tme")
    assert "`response_time`" in done.stderr


@pytest.mark.long
def test_backtest(server: Serving) -> None:
    """The past is replayed in a sentence, and with other `for`."""
    shown = ["", "There was no data"]
    for _ in range(100):  # a second that has not ended is no past yet
        if not shown[1].startswith("There was no data"):
            break
        shown = said(server, "alerts", "backtest", "in_flight > 1000000", "--last", "10m").splitlines()

    assert shown[:2] == ["last of in_flight > 1000000", "It would never have fired."]
    assert "  for 1 min: 0 (0 s in all)" in shown


def test_silence(server: Serving) -> None:
    """A silence is shown in the list until it is ended."""
    done = run(server, "alerts", "silence", "Any*", "--for", "2h", "--comment", "load test")
    silence = done.stderr.rsplit("--end ", 1)[1].strip()

    listed = run(server, "alerts", "list")
    assert "firing, silenced\tAny requests" in listed.stdout
    assert f"Any*: load test (slipstream alerts silence --end {silence})" in listed.stderr
    said(server, "alerts", "silence", "--end", silence)
    assert "silenced" not in said(server, "alerts", "list")
    assert run(server, "alerts", "silence", "--end", silence).returncode == 1


def test_export(server: Serving) -> None:
    """The rules go to standard output as a Prometheus rule file."""
    assert '- alert: "Slow"' in said(server, "alerts", "export")


def test_mark(server: Serving) -> None:
    """A mark is kept with who set it."""
    said(server, "mark", "chat 2.4 is out")
    mark = server.json("/_slipstream/marks")["data"][-1]

    assert (mark["text"], mark["kind"]) == ("chat 2.4 is out", "deploy")


@pytest.mark.parametrize(
    "arguments",
    [
        ["alerts", "test"],
        ["alerts", "test", "in_flight > 1", "--receiver", "x"],
        ["alerts", "silence"],
        ["alerts", "silence", "x", "--for", "2 parsecs"],
        ["alerts", "backtest", "in_flight > 1", "--last", "5"],
        ["alerts", "list", "--history", "--messages"],
    ],
)
def test_misuse(server: Serving, arguments: list[str]) -> None:
    """What makes no sense is told as misuse."""
    assert run(server, *arguments).returncode == 2


def test_without_a_server(tmp_path: Path) -> None:
    """A condition is still explained; everything else says that no server is live."""
    environ = {**os.environ, "SLIPSTREAM__STATE_FOLDER": str(tmp_path / "state")}
    alone = Serving(None, tmp_path, "", "", tmp_path, environ)
    explained = run(alone, "alerts", "test", "response_time > 5000")
    listed = run(alone, "alerts", "list")

    assert (explained.returncode, explained.stdout) == (0, "p95 of response_time over 1 min > 5 s\n")
    assert (listed.returncode, "No server is live" in listed.stderr) == (1, True)
