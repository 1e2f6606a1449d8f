"""Takes one message to its receiver: webhook, Slack or mail, each with a time limit.

It tries once; when to try again is `core.outbox`'s to decide. Where a receiver's URL is a secret, no
error and no log shows it.
"""

import asyncio
import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from slipstream.config.alerting import Alerts, Mail, Receiver
from slipstream.core import clock
from slipstream.core.alert_groups import Notification
from slipstream.core.errors import ConfigurationError, SlipstreamError
from slipstream.core.outbox import Message
from slipstream.monitoring.alerts import payloads
from slipstream.net.client import ClientOptions, HttpClient

ALERT = "alert"
"""Kind of the messages that hold a `Notification`."""
_AGAIN = frozenset({408, 425, 429, *range(500, 600)})
_ANSWER_BYTES = 4096
_MAIL_STEPS = 10


class DeliveryFailed(SlipstreamError):
    """A receiver did not take a message.

    `is_final` says whether trying again cannot help, `left` which of its addresses do not have it, where
    others do.
    """

    status = 502
    kind = "upstream_error"
    code = "delivery_failed"

    def __init__(self, message: str, *, is_final: bool, left: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.is_final = is_final
        self.left = left


class Delivery:
    """Delivers to the receivers of the settings.

    Args:
        alerts: receivers and time limit.
        mail_settings: the mail server.
        url: where this server is reached, for links back; empty = no links.
    """

    def __init__(self, alerts: Alerts, mail_settings: Mail, url: str = "") -> None:
        self._alerts = alerts
        self._mail = mail_settings
        self._url = url

    async def send(self, message: Message) -> None:
        """One try. Raises `DeliveryFailed`; cancelled, it leaves nothing open but a mail's own thread."""
        receiver = self._alerts.receivers.get(message.receiver)
        if receiver is None:
            raise DeliveryFailed(f"There is no receiver {message.receiver!r} any more.", is_final=True)
        try:
            notification = msgspec.json.decode(message.payload, type=Notification)
        except msgspec.MsgspecError as error:
            raise DeliveryFailed(f"The message cannot be read: {error}.", is_final=True) from error
        seconds = self._alerts.delivery_seconds
        if receiver.kind == "mail":  # each of its steps has a limit: given up here, it might still arrive
            seconds = _MAIL_STEPS * self._mail.seconds
        try:
            async with asyncio.timeout(seconds):
                await self._deliver(receiver, notification, message)
        except TimeoutError:
            raise DeliveryFailed(f"No answer within {seconds:g} s.", is_final=False) from None
        except (DeliveryFailed, asyncio.CancelledError):
            raise
        except SlipstreamError as error:
            is_final = bool(getattr(error, "is_final", False))
            raise DeliveryFailed(str(error), is_final=is_final, left=getattr(error, "left", ())) from error

    async def _deliver(self, receiver: Receiver, notification: Notification, message: Message) -> None:
        if receiver.kind == "mail":
            from slipstream.net import mail

            letter = mail.written(
                self._mail.sender,
                message.left or receiver.to,
                payloads.subject(notification),
                payloads.mail_text(notification, self._url),
            )
            await mail.send(self._mail, letter)
            return
        make = payloads.slack if receiver.kind == "slack" else payloads.alertmanager
        body = make(notification, self._url)
        headers = [
            (b"content-type", b"application/json"),
            (b"user-agent", b"Slipstream-Alerts/1"),
            (b"x-slipstream-delivery", message.id.encode()),
        ]
        if secret := _secret(receiver):
            signed = payloads.signature(secret, body, clock.wall_ns() // 1_000_000_000)
            headers.append((payloads.SIGNATURE_HEADER, signed))
        await _post(_url(receiver), receiver.ca_file, headers, body)


async def _post(url: str, ca_file: str, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    client = HttpClient(f"{parts.scheme}://{parts.netloc}", ClientOptions(connections=1, ca_file=ca_file))
    try:
        response = await client.request("POST", path, headers, body)
        status = response.status
        try:
            said = await response.read(_ANSWER_BYTES)
        except SlipstreamError:  # an answer that is too long or breaks off: its status counts
            said = b""
        finally:
            response.close()
    finally:
        await client.aclose()
    if not 200 <= status < 300:
        words = "".join(each if each.isprintable() else " " for each in said.decode("utf-8", "replace")[:200])
        raise DeliveryFailed(f"Answered {status}: {words}".rstrip(": "), is_final=status not in _AGAIN)


def check(alerts: Alerts, mail_settings: Mail) -> None:
    """Raise `ConfigurationError` for routes and receivers that cannot work, at the start and not at night."""
    for severity, names in msgspec.structs.asdict(alerts.routes).items():
        for name in names:
            if name not in alerts.receivers:
                raise ConfigurationError(
                    f"`alerts.routes.{severity}` names a receiver {name!r} that does not exist.",
                    hint=f"Write it in the settings: [alerts.receivers.{name}]",
                )
    if alerts.url and not _is_page(alerts.url):
        raise ConfigurationError(
            f"`alerts.url` is no address of a page: {alerts.url!r}.", hint="Such as https://chat.example.org."
        )
    for name, receiver in alerts.receivers.items():
        _check_receiver(f"alerts.receivers.{name}", receiver, mail_settings)


def _check_receiver(where: str, receiver: Receiver, mail_settings: Mail) -> None:
    if receiver.kind == "mail":
        if not receiver.to:
            raise ConfigurationError(f"`{where}` has no addresses.", hint=f'Write: {where}.to = ["…"]')
        if not mail_settings.host or not mail_settings.sender:
            raise ConfigurationError(
                f"`{where}` sends mail, and there is no mail server.",
                hint='Write it in the settings: [mail] host = "…", sender = "…"',
            )
        from slipstream.net import mail

        mail.written(mail_settings.sender, receiver.to, "", "")
        return
    url = receiver.url if not receiver.url_env else _url(receiver)
    if not url:
        raise ConfigurationError(f"`{where}` has no URL.", hint=f"Write {where}.url or {where}.url_env.")
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and not parts.username and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is none
        is_usable = False
    if not is_usable or not parts.hostname:
        raise ConfigurationError(f"The URL of `{where}` is not one of http or https without a user name.")
    if _is_link_local(parts.hostname):
        raise ConfigurationError(
            f"The URL of `{where}` leads to a link-local address.",
            hint="Such addresses hold secrets of clouds.",
        )
    _secret(receiver)


def _url(receiver: Receiver) -> str:
    return _from_environment(receiver.url_env) if receiver.url_env else receiver.url


def _secret(receiver: Receiver) -> str:
    return _from_environment(receiver.secret_env) if receiver.secret_env else ""


def _from_environment(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise ConfigurationError(f"The environment variable {name} is not set.", hint=f"Set {name}.")
    return value


def _is_page(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_plain = url.isascii() and url.isprintable() and not set(url) & set(' <>|"')
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and is_plain


def _is_link_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False


def receivers_of(alerts: Alerts, severity: str) -> tuple[str, ...]:
    """Names of those who are told of a severity."""
    routes: Mapping[str, tuple[str, ...]] = msgspec.structs.asdict(alerts.routes)
    return routes[severity]
