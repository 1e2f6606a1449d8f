"""Messages reach a real webhook and a real mail server; what fails says whether trying again helps."""

import asyncio
import json

import pytest

from monitoring.webhook import webhook
from net.mail_server import mail_server
from slipstream.config.alerting import Receiver, Routes
from slipstream.config.settings import Alerts, Mail
from slipstream.core.alert_groups import Alert, Notification
from slipstream.core.errors import ConfigurationError
from slipstream.core.outbox import Message
from slipstream.monitoring.alerts.delivery import Delivery, DeliveryFailed, check
from slipstream.monitoring.alerts.evaluator import message_of
from slipstream.monitoring.alerts.payloads import signature

FIRES = Alert("f1", "me", "High", "critical", "c", "6 s", 1_700_000_000_000_000_000)
NOTIFICATION = Notification("ops", "critical", (FIRES,), ())
MAIL = Mail(host="127.0.0.1", tls="none", sender="slipstream@example.org")


def deliver(receiver: Receiver, *, mail: Mail = MAIL, seconds: float = 5.0) -> Message:
    message = message_of(NOTIFICATION, 1)
    settings = Alerts(receivers={"ops": receiver}, delivery_seconds=seconds)
    asyncio.run(Delivery(settings, mail, "http://here").send(message))
    return message


def test_webhook_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body arrives with its signature and the message's id; a query in the URL is kept."""
    monkeypatch.setenv("HOOK_KEY", "secret")
    with webhook() as hook:
        message = deliver(Receiver(kind="webhook", url=hook.url + "?team=a", secret_env="HOOK_KEY"))

    ((path, headers, body),) = hook.got
    assert path == "/hook?team=a"
    assert json.loads(body)["alerts"][0]["labels"]["alertname"] == "High"
    assert (headers["content-type"], headers["x-slipstream-delivery"]) == ("application/json", message.id)
    seconds = int(headers["x-slipstream-signature"].removeprefix("t=").partition(",")[0])
    assert headers["x-slipstream-signature"].encode() == signature("secret", body, seconds)


def test_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slack gets blocks, at a URL that only the environment knows."""
    with webhook() as hook:
        monkeypatch.setenv("SLACK_URL", hook.url)
        deliver(Receiver(kind="slack", url_env="SLACK_URL"))

    assert json.loads(hook.got[0][2])["blocks"][0]["type"] == "header"


def test_mail() -> None:
    """Mail goes to all addresses of the receiver, with the subject of the alert."""
    with mail_server() as box:
        to = ("a@example.org", "b@example.org")
        deliver(
            Receiver(kind="mail", to=to),
            mail=Mail(host="127.0.0.1", port=box.port, tls="none", sender="slipstream@example.org"),
        )

    assert box.recipients == [list(to)]
    assert box.mails[0]["Subject"] == "[critical] High (6 s)"


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(400, True), (401, True), (404, True), (410, True), (301, True), (408, False), (429, False), (500, False), (503, False)],
)  # fmt: skip
def test_answers(status: int, is_final: bool) -> None:
    """A refusal is final, a trouble of theirs is not; both say what was answered."""
    with webhook() as hook:
        hook.answers, hook.said = [status], b"no\x00pe"
        with pytest.raises(DeliveryFailed, match=f"Answered {status}: no pe") as raised:
            deliver(Receiver(kind="webhook", url=hook.url))

    assert raised.value.is_final is is_final


def test_long_answer_is_not_read() -> None:
    """A receiver that says yes at great length has said yes."""
    with webhook() as hook:
        hook.said = b"x" * 100_000
        deliver(Receiver(kind="webhook", url=hook.url))

    assert len(hook.got) == 1


def test_nobody_there_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is not final, and the error does not show a URL that is a secret."""
    monkeypatch.setenv("SLACK_URL", "http://127.0.0.1:1/services/T0/SECRET")
    with pytest.raises(DeliveryFailed) as raised:
        deliver(Receiver(kind="slack", url_env="SLACK_URL"))

    assert not raised.value.is_final
    assert "SECRET" not in str(raised.value)


def test_silence_times_out() -> None:
    """A receiver that takes a connection and says nothing costs the time of the settings."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other side gives up
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = Alerts(
            receivers={"ops": Receiver(kind="webhook", url=f"http://127.0.0.1:{port}/")}, delivery_seconds=0.1
        )
        async with server:
            try:
                await Delivery(settings, MAIL).send(message_of(NOTIFICATION, 1))
            finally:
                await asyncio.sleep(0.05)

    with pytest.raises(DeliveryFailed, match=r"No answer within 0\.1 s") as raised:
        asyncio.run(main())
    assert not raised.value.is_final


def test_receiver_that_left_the_settings() -> None:
    """Its messages are dead letters."""
    with pytest.raises(DeliveryFailed, match="no receiver 'ops' any more") as raised:
        asyncio.run(Delivery(Alerts(), MAIL).send(message_of(NOTIFICATION, 1)))

    assert raised.value.is_final


@pytest.mark.parametrize(
    ("receiver", "said"),
    [
        (Receiver(kind="webhook"), "has no URL"),
        (Receiver(kind="slack", url_env="NOT_SET"), "NOT_SET is not set"),
        (Receiver(kind="webhook", url="ftp://x/"), "not one of http or https"),
        (Receiver(kind="webhook", url="http://user:pw@x/"), "without a user name"),
        (Receiver(kind="webhook", url="http://[bad/"), "not one of http or https"),
        (Receiver(kind="webhook", url="http://x:99999/"), "not one of http or https"),
        (Receiver(kind="webhook", url="http://169.254.169.254/latest"), "link-local"),
        (Receiver(kind="webhook", url="http://[fe80::1]/"), "link-local"),
        (Receiver(kind="webhook", url="http://x/", secret_env="NOT_SET"), "NOT_SET is not set"),
        (Receiver(kind="mail"), "has no addresses"),
        (Receiver(kind="mail", to=("nobody",)), "not an e-mail address"),
    ],
)
def test_useless_receiver_is_refused_at_the_start(receiver: Receiver, said: str) -> None:
    """What cannot work is said when the server starts, not when something breaks."""
    with pytest.raises(ConfigurationError, match=said):
        check(Alerts(receivers={"ops": receiver}), MAIL)


@pytest.mark.parametrize(
    "url", ["chat.example.org", "http://[bad", "https://x/ y", "https://x/|a>", "ftp://x"]
)
def test_page_that_is_none_is_refused(url: str) -> None:
    """The address that messages link to is one that a browser can open."""
    with pytest.raises(ConfigurationError, match=r"`alerts\.url`"):
        check(Alerts(url=url), MAIL)


def test_route_to_nobody_is_refused() -> None:
    """A route names receivers that exist; mail needs a server."""
    with pytest.raises(ConfigurationError, match=r"\[alerts\.receivers\.gone\]"):
        check(Alerts(routes=Routes(critical=("gone",))), MAIL)
    with pytest.raises(ConfigurationError, match="there is no mail server"):
        check(Alerts(receivers={"ops": Receiver(kind="mail", to=("a@example.org",))}), Mail())
