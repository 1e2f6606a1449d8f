"""What receivers are sent: the field's formats, escaped, and signed so that it can be checked."""

import hashlib
import hmac
import json

from slipstream.core.alert_groups import Alert, Notification
from slipstream.monitoring.alerts import payloads

FIRES = Alert(
    "f1", "me", "High <Time>", "critical", "p95 of x > 5 s & more", "6 s", 1_700_000_000_123_000_000
)
OVER = Alert("f2", "me", "Other", "critical", "c", "", 1_700_000_000_000_000_000, 1_700_000_065_000_000_000)
BOTH = Notification("ops", "critical", (FIRES,), (OVER,))


def test_alertmanager_format() -> None:
    """The body is Alertmanager's version 4, field by field."""
    body = json.loads(payloads.alertmanager(BOTH, "http://here"))
    fires, over = body.pop("alerts")

    assert body == {
        "version": "4",
        "groupKey": '{}:{severity="critical"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "ops",
        "groupLabels": {"severity": "critical"},
        "commonLabels": {"severity": "critical", "job": "slipstream"},
        "commonAnnotations": {},
        "externalURL": "http://here",
    }
    assert fires["labels"] == {
        "alertname": "High <Time>",
        "severity": "critical",
        "owner": "me",
        "job": "slipstream",
    }
    assert (fires["status"], fires["startsAt"], fires["endsAt"]) == (
        "firing",
        "2023-11-14T22:13:20.123Z",
        "0001-01-01T00:00:00Z",
    )
    assert (over["status"], over["endsAt"], over["fingerprint"]) == (
        "resolved",
        "2023-11-14T22:14:25.000Z",
        "f2",
    )


def test_links_lead_to_the_time_of_the_alert() -> None:
    """The page opens on what was before, and on what was until the end."""
    fires, over = json.loads(payloads.alertmanager(BOTH, "http://here"))["alerts"]
    slack = json.loads(payloads.slack(BOTH, "http://here"))["blocks"][-1]["elements"][0]["text"]

    assert fires["generatorURL"] == "http://here/dashboard?from=1699999100&to=1700000300"
    assert over["generatorURL"] == "http://here/dashboard?from=1699999100&to=1700000365"
    assert slack == "<http://here/dashboard?from=1699999100&amp;to=1700000300|Dashboard>"


def test_many_alerts_are_counted() -> None:
    """Beyond fifty the rest is a number."""
    body = json.loads(payloads.alertmanager(Notification("ops", "critical", (FIRES,) * 60, ()), ""))

    assert (len(body["alerts"]), body["truncatedAlerts"]) == (50, 10)


def test_resolved_group_says_so() -> None:
    """With nothing left that fires, the group is resolved."""
    body = json.loads(payloads.alertmanager(Notification("ops", "critical", (), (OVER,)), ""))

    assert body["status"] == "resolved"


def test_signature_can_be_checked() -> None:
    """HMAC-SHA256 over time and body: another body or another time has another signature."""
    signed = payloads.signature("secret", b"body", 1700000000)
    expected = hmac.new(b"secret", b"1700000000.body", hashlib.sha256).hexdigest()

    assert signed == f"t=1700000000,v1={expected}".encode()
    others = [("secret", b"bodY", 1700000000), ("secret", b"body", 1700000001), ("s", b"body", 1700000000)]
    assert signed not in {payloads.signature(*each) for each in others}


def test_slack_blocks_are_escaped() -> None:
    """A name cannot become markup, and Slack's limits hold."""
    body = json.loads(payloads.slack(BOTH, "http://here"))
    texts = [block["text"]["text"] for block in body["blocks"] if "text" in block]

    assert texts[0].endswith("[critical] High <Time> (6 s)")  # plain text
    assert texts[1] == (
        "*High &lt;Time&gt;*, now 6 s, since 2023-11-14 22:13:20 UTC\np95 of x &gt; 5 s &amp; more"
    )
    assert texts[2] == "*Other*, over after 1 min 5 s\nc"
    many = json.loads(payloads.slack(Notification("ops", "info", (FIRES,) * 60, ()), ""))
    assert len(many["blocks"]) <= 50


def test_mail_stands_alone() -> None:
    """The text says what, since when, how much, and what is over."""
    text = payloads.mail_text(BOTH, "http://here")

    assert "High <Time> (critical)\n  p95 of x > 5 s & more\n  since 2023-11-14 22:13:20 UTC; now 6 s" in text
    assert "over at 2023-11-14 22:14:25 UTC, after 1 min 5 s" in text
    assert "http://here/dashboard?from=1699999100&to=1700000300" in text


def test_subject_line() -> None:
    """One line with severity, name and value; several are counted; a test says that it is one."""
    assert payloads.subject(BOTH) == "[critical] High <Time> (6 s)"
    assert payloads.subject(Notification("o", "critical", (), (OVER,))) == "[resolved] Other"
    assert (
        payloads.subject(Notification("o", "info", (FIRES, OVER), ()))
        == "[info] 2 alerts: High <Time>, Other"
    )
    assert payloads.subject(Notification("o", "info", (FIRES,), (), "test")).startswith("[test, info]")
