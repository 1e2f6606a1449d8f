"""What receivers are sent of a notification: Alertmanager's JSON, Slack's blocks, the text of a mail.

Names and conditions are the user's own words; each format has them escaped its way.
"""

import hashlib
import hmac
from datetime import UTC, datetime

import msgspec

from slipstream.core.alert_groups import Alert, Notification

SHOWN_MAX = 50
"""Most alerts in one message; the others are counted."""
SLACK_SHOWN_MAX = 20
SIGNATURE_HEADER = b"x-slipstream-signature"
_NEVER = "0001-01-01T00:00:00Z"
_SIGNS = {"info": "ℹ️", "warning": "⚠️", "critical": "🔥"}  # noqa: RUF001


def subject(notification: Notification) -> str:
    """One line: `[critical] High Response Time (6.2 s)`, `[resolved] …`, `[warning] 3 alerts: …`."""
    alerts = notification.firing or notification.resolved
    what: str = notification.severity if notification.firing else "resolved"
    if notification.reason == "test":
        what = f"test, {what}"
    names = ", ".join(alert.name for alert in alerts[:5])
    if len(alerts) > 1:
        return f"[{what}] {len(alerts)} alerts: {names}"
    value = f" ({alerts[0].value})" if notification.firing and alerts[0].value else ""
    return f"[{what}] {names}{value}"


def alertmanager(notification: Notification, url: str) -> bytes:
    """The webhook body of Prometheus Alertmanager, version 4, so that its receivers take ours.

    `url` is where the server is reached, for links back.
    """
    alerts = (*notification.firing, *notification.resolved)
    common = {"severity": notification.severity, "job": "slipstream"}
    if len({alert.name for alert in alerts}) == 1:
        common["alertname"] = alerts[0].name
    return msgspec.json.encode(
        {
            "version": "4",
            "groupKey": f'{{}}:{{severity="{notification.severity}"}}',
            "truncatedAlerts": max(0, len(alerts) - SHOWN_MAX),
            "status": notification.status,
            "receiver": notification.receiver,
            "groupLabels": {"severity": notification.severity},
            "commonLabels": common,
            "commonAnnotations": {},
            "externalURL": url,
            "alerts": [_alertmanager_alert(alert, url) for alert in alerts[:SHOWN_MAX]],
        }
    )


def _alertmanager_alert(alert: Alert, url: str) -> dict[str, object]:
    return {
        "status": "resolved" if alert.ended_wall_ns else "firing",
        "labels": {
            "alertname": alert.name,
            "severity": alert.severity,
            "owner": alert.owner,
            "job": "slipstream",
        },
        "annotations": {"summary": _line(alert), "condition": alert.condition, "value": alert.value},
        "startsAt": _when(alert.started_wall_ns),
        "endsAt": _when(alert.ended_wall_ns) if alert.ended_wall_ns else _NEVER,
        "generatorURL": page(url, alert) if url else "",
        "fingerprint": alert.fingerprint,
    }


def page(url: str, alert: Alert) -> str:
    """The dashboard at the time of an alert: from 15 min before it began to 5 min after its end."""
    began = alert.started_wall_ns // 1_000_000_000
    ended = alert.ended_wall_ns // 1_000_000_000 or began
    return f"{url}/dashboard?from={began - 900}&to={ended + 300}"


def signature(secret: str, body: bytes, unix_seconds: int) -> bytes:
    """The value of `x-slipstream-signature`: `t=SECONDS,v1=HEX`.

    HEX is the HMAC-SHA256 of `SECONDS.BODY`; whoever checks it also refuses old times, so that a message
    that was overheard cannot be sent again.
    """
    digest = hmac.new(secret.encode(), b"%d." % unix_seconds + body, hashlib.sha256).hexdigest()
    return b"t=%d,v1=%b" % (unix_seconds, digest.encode())


def slack(notification: Notification, url: str) -> bytes:
    """The body of a Slack incoming webhook, in blocks; `text` stands in where those are not shown."""
    sign = _SIGNS[notification.severity] if notification.firing else "✅"
    alerts = (*notification.firing, *notification.resolved)
    blocks: list[dict[str, object]] = [
        {"type": "header", "text": {"type": "plain_text", "text": f"{sign} {subject(notification)}"[:150]}}
    ]
    blocks += [
        {"type": "section", "text": {"type": "mrkdwn", "text": _slack_alert(alert)[:3000]}}
        for alert in alerts[:SLACK_SHOWN_MAX]
    ]
    if len(alerts) > SLACK_SHOWN_MAX:
        blocks.append(_slack_note(f"and {len(alerts) - SLACK_SHOWN_MAX} more"))
    if url:
        blocks.append(_slack_note(f"<{_slack_escaped(page(url, alerts[0]))}|Dashboard>"))
    return msgspec.json.encode({"text": _slack_escaped(subject(notification)), "blocks": blocks})


def _slack_alert(alert: Alert) -> str:
    state = (
        f"over after {_lasted(alert)}" if alert.ended_wall_ns else f"since {_clock(alert.started_wall_ns)}"
    )
    value = f", now {_slack_escaped(alert.value)}" if alert.value and not alert.ended_wall_ns else ""
    return f"*{_slack_escaped(alert.name)}*{value}, {state}\n{_slack_escaped(alert.condition)}"


def _slack_note(text: str) -> dict[str, object]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}


def _slack_escaped(text: str) -> str:
    """As Slack asks: these three and no others."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def mail_text(notification: Notification, url: str) -> str:
    """The plain text of a mail; it stands alone."""
    parts = []
    for title, alerts in (("Firing", notification.firing), ("Resolved", notification.resolved)):
        if alerts:
            parts.append(f"{title}:\n\n" + "\n\n".join(_mail_alert(alert) for alert in alerts[:SHOWN_MAX]))
            if len(alerts) > SHOWN_MAX:
                parts.append(f"and {len(alerts) - SHOWN_MAX} more")
    if notification.reason == "repeated":
        parts.append("You were told of this before; it has not ended.")
    if notification.reason == "test":
        parts.append("This is a test. Nothing is wrong.")
    if url:
        parts.append(page(url, (*notification.firing, *notification.resolved)[0]))
    return "\n\n".join(parts) + "\n"


def _mail_alert(alert: Alert) -> str:
    lines = [f"  {alert.name} ({alert.severity})", f"  {alert.condition}"]
    if alert.ended_wall_ns:
        lines.append(f"  over at {_clock(alert.ended_wall_ns)}, after {_lasted(alert)}")
    else:
        value = f"; now {alert.value}" if alert.value else ""
        lines.append(f"  since {_clock(alert.started_wall_ns)}{value}")
    return "\n".join(lines)


def _line(alert: Alert) -> str:
    now = f" (now {alert.value})" if alert.value and not alert.ended_wall_ns else ""
    return f"{alert.name}: {alert.condition}{now}"


def _when(wall_ns: int) -> str:
    return (
        datetime.fromtimestamp(wall_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _clock(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _lasted(alert: Alert) -> str:
    seconds = max(0, (alert.ended_wall_ns - alert.started_wall_ns) // 1_000_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{seconds} s"]
    return " ".join(part for part in parts if part)
