"""An alert on a model's response time fires, is delivered to a mail server and a webhook, clears, is on record."""

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.serving import Serving, serving
from monitoring.webhook import Hook, webhook
from net.mail_server import Mailbox, mail_server

WAIT_SECONDS = 60.0
SETTINGS = """
{models}

[alerts]
wait_seconds = 0
interval_seconds = 0

[alerts.receivers.hook]
kind = "webhook"
url = "{hook}"

[alerts.receivers.people]
kind = "mail"
to = ["ops@example.org"]

[alerts.routes]
critical = ["hook", "people"]

[alerts.rules."Slow answers"]
condition = "p95(response_time, {window}s) > 10 ms min count 3"
severity = "critical"

[mail]
host = "127.0.0.1"
port = {mail}
tls = "none"
sender = "slipstream@example.org"
"""


def call(server: Serving, method: str, path: str, body: object = None) -> Any:
    """An admin request that must succeed."""
    status, answer = asked(server, method, path, body)
    assert status == 200, (status, answer)
    return answer


def asked(server: Serving, method: str, path: str, body: object = None) -> tuple[int, Any]:
    request = urllib.request.Request(
        server.url + path,
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"authorization": f"Bearer {server.token}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            said = response.read()
            is_json = response.headers["content-type"] == "application/json"
            return response.status, json.loads(said) if is_json else said.decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def ask(server: Serving, model: str = "slow") -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "Say hi"}], "max_tokens": 2}
    call(server, "POST", "/v1/chat/completions", body)


def until(holds: Callable[[], Any], *, meanwhile: Callable[[], object] = lambda: time.sleep(0.1)) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, "this did not happen in time"
        meanwhile()
    return found


SLOW = "[models.simulated.slow]\nttft_ms = 40.0"


@contextlib.contextmanager
def told(folder: Path, models: str = SLOW, window: int = 5) -> Iterator[tuple[Serving, Hook, Mailbox]]:
    """A server with a rule on its response time, a webhook and a mail server."""
    with webhook() as hook, mail_server() as box:
        settings = SETTINGS.format(models=models, window=window, hook=hook.url, mail=box.port)
        (folder / "slipstream.toml").write_text(settings, encoding="utf-8")
        with serving(folder) as server:
            yield server, hook, box


def alerts_of(hook: Hook) -> list[tuple[str, str]]:
    return [
        (alert["labels"]["alertname"], alert["status"])
        for _, _, body in hook.got
        for alert in json.loads(body)["alerts"]
    ]


def fires_and_clears(server: Serving, hook: Hook, box: Mailbox, model: str, window: int = 5) -> None:
    until(lambda: hook.got and box.mails, meanwhile=lambda: ask(server, model))
    firing = server.json("/_slipstream/alerts")["rules"][0]
    until(lambda: len(hook.got) > 1 and len(box.mails) > 1)
    events = server.json("/_slipstream/alerts/history")["data"]

    assert (firing["name"], firing["phase"], firing["owner"]) == ("Slow answers", "firing", "settings")
    assert firing["expanded"] == f"p95 of response_time over {window} s > 10 ms, min count 3"
    assert alerts_of(hook)[:2] == [("Slow answers", "firing"), ("Slow answers", "resolved")]
    assert box.mails[0]["Subject"].startswith("[critical] Slow answers (")
    assert box.mails[1]["Subject"] == "[resolved] Slow answers"
    assert [(event["name"], event["phase"]) for event in events[-2:]] == [
        ("Slow answers", "resolved"),
        ("Slow answers", "firing"),
    ]


@pytest.mark.long
def test_slow_model_is_told_and_cleared(tmp_path: Path) -> None:
    """The whole way with real servers at the other ends; afterwards all of it is in the history."""
    with told(tmp_path) as (server, hook, box):
        fires_and_clears(server, hook, box, "slow")
        sent = server.json("/_slipstream/alerts/messages?state=sent")["data"]

    assert {message["receiver"] for message in sent} == {"hook", "people"}


@pytest.mark.long
def test_history_outlives_the_server(tmp_path: Path) -> None:
    """After a restart the history is there, and a mark says when the server began and what changed."""
    with told(tmp_path) as (server, hook, _):
        until(lambda: hook.got, meanwhile=lambda: ask(server))
        call(server, "POST", "/_slipstream/marks", {"text": "deploy 42", "kind": "deploy", "author": "me"})
    with told(tmp_path, SLOW.replace("40.0", "1.0")) as (server, _, _):
        events = server.json("/_slipstream/alerts/history")["data"]
        marks = server.json("/_slipstream/marks")["data"]

    assert [event["phase"] for event in events][-1] == "firing"
    assert [(mark["kind"], mark["text"][:9]) for mark in marks] == [
        ("note", "started: "),
        ("deploy", "deploy 42"),
        ("config", "started: "),
    ]


@pytest.mark.long
def test_receiver_that_is_down_hears_later(tmp_path: Path) -> None:
    """A webhook that fails is tried again; one that refuses becomes a dead letter that can be sent anew."""
    with told(tmp_path) as (server, hook, _):
        hook.answers = [503]
        until(lambda: len(hook.got) > 1, meanwhile=lambda: ask(server))
        assert [json.loads(body)["status"] for _, _, body in hook.got[:2]] == ["firing", "firing"]
        assert hook.got[0][1]["x-slipstream-delivery"] == hook.got[1][1]["x-slipstream-delivery"]

        hook.answers = [410]
        dead = until(lambda: server.json("/_slipstream/alerts/messages")["data"])
        assert (dead[0]["error"], dead[0]["receiver"]) == ("Answered 410: ok", "hook")
        before = len(hook.got)
        call(server, "POST", f"/_slipstream/alerts/messages/{dead[0]['id']}/send")
        until(lambda: len(hook.got) > before)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with a slow model and no receivers."""
    folder = tmp_path_factory.mktemp("alerts")
    with serving(folder, SLIPSTREAM__MODELS__SIMULATED__SLOW__TTFT_MS="20") as running:
        yield running


def test_rule_from_outside(server: Serving) -> None:
    """A rule is set, shown back, changed under its name, silenced and deleted."""
    rule = {"owner": "script", "name": "High", "condition": "response_time > 5000", "severity": "warning"}
    view = call(server, "POST", "/_slipstream/alerts/rules", rule)
    call(server, "POST", "/_slipstream/alerts/rules", {**rule, "severity": "critical"})
    silence = call(
        server, "POST", "/_slipstream/alerts/silences", {"name": "Hi*", "seconds": 60, "author": "me"}
    )
    shown = server.json("/_slipstream/alerts")

    assert view["expanded"] == "p95 of response_time over 1 min > 5 s"
    assert [(each["name"], each["severity"], each["silenced"]) for each in shown["rules"]] == [
        ("High", "critical", True)
    ]
    assert shown["silences"][0]["id"] == silence["id"]
    call(server, "DELETE", f"/_slipstream/alerts/silences/{silence['id']}")
    call(server, "DELETE", "/_slipstream/alerts/rules?owner=script&name=High")
    assert server.json("/_slipstream/alerts")["rules"] == []


def test_condition_is_tried(server: Serving) -> None:
    """A condition says what it means and what it says now; on the past it says how often it would have fired."""
    for _ in range(3):
        ask(server)
    body = {"condition": "max(response_time) > 1 ms"}
    until(lambda: call(server, "POST", "/_slipstream/alerts/test", body)["fires"])

    def tried() -> Any:
        return call(server, "POST", "/_slipstream/alerts/backtest", {**body, "start": -600})

    until(lambda: tried()["fired"])  # the second that has not ended is no past yet
    found = tried()

    assert found["expanded"] == "max of response_time over 1 min > 1 ms"
    assert (found["fired"], found["verdict"]) == (1, "It would have fired once.")


def test_export(server: Serving) -> None:
    """The rules leave as a Prometheus rule file."""
    rule = {"owner": "script", "name": "Busy", "condition": "in_flight > 100 for 2m"}
    call(server, "POST", "/_slipstream/alerts/rules", rule)

    assert '- alert: "Busy"' in call(server, "GET", "/_slipstream/alerts/export")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "alerts/rules", {"owner": "a", "name": "b", "condition": "nope > 1"}, 400, "There is no metric"),
        ("POST", "alerts/rules", {"owner": "settings", "name": "b", "condition": "in_flight > 1"}, 400, "settings"),
        ("POST", "alerts/rules", {"owner": "a", "name": "b\n", "condition": "in_flight > 1"}, 400, "printable"),
        ("POST", "alerts/rules", {"owner": "a", "name": "b"}, 400, "condition"),
        ("POST", "alerts/rules", [1], 400, "cannot be understood"),
        ("DELETE", "alerts/rules?owner=a&name=none", None, 404, "There is no rule"),
        ("POST", "alerts/test", {}, 400, "either"),
        ("POST", "alerts/test", {"receiver": "nobody"}, 404, "There is no receiver"),
        ("POST", "alerts/backtest", {"condition": "in_flight > 1", "start": 9e8}, 400, "400 days"),
        ("POST", "alerts/silences", {"name": "*", "seconds": 0}, 400, "90 days"),
        ("DELETE", "alerts/silences/none", None, 404, "There is no silence"),
        ("GET", "alerts/history?limit=x", None, 400, "whole number"),
        ("GET", "alerts/messages?state=lost", None, 400, "`state`"),
        ("POST", "alerts/messages/none/send", None, 404, "There is no dead message"),
        ("POST", "marks", {"text": ""}, 400, "printable"),
        ("GET", "marks?from=nan", None, 400, "`from`"),
        ("PUT", "marks", {"text": "x"}, 405, "does not exist"),
    ],
)  # fmt: skip
def test_what_is_asked_amiss(
    server: Serving, method: str, path: str, body: object, status: int, said: str
) -> None:
    """A mistake is a clear refusal, and the server goes on."""
    found, answer = asked(server, method, f"/_slipstream/{path}", body)

    assert (found, said in answer["error"]["message"]) == (status, True), answer
    assert server.get("/readyz")[0] == 200


def test_form_of_another_site_is_refused(server: Serving) -> None:
    """A body that a plain form can send changes nothing."""
    request = urllib.request.Request(
        f"{server.url}/_slipstream/marks",
        data=b'{"text": "x"}',
        headers={"authorization": f"Bearer {server.token}", "content-type": "text/plain"},
    )
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=30)
    with raised.value as error:
        assert error.code == 415


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[alerts.rules.a]\ncondition = "response_tme > 5"', "There is no metric `response_tme`"),
        ('[alerts.routes]\ncritical = ["nobody"]', "names a receiver 'nobody'"),
    ],
)
def test_mistake_in_the_settings_ends_the_start(tmp_path: Path, toml: str, said: str) -> None:
    """A rule that cannot be understood is refused when the server starts."""
    (tmp_path / "slipstream.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(AssertionError, match=said), serving(tmp_path):
        pass


@pytest.mark.model
@pytest.mark.long
def test_embedded_model_is_told_and_cleared(tmp_path: Path) -> None:
    """The same with the embedded model: its response time is above 10 ms, until nobody asks."""
    with told(tmp_path, models="", window=20) as (server, hook, box):
        fires_and_clears(server, hook, box, "smollm2-135m-instruct", window=20)
