"""Sends mail through the server of the settings: SMTP, in a thread, never in a request's way.

Encryption that is asked for is required: a server that does not offer STARTTLS gets no mail.
It knows nothing of what the mail says.
"""

import asyncio
import contextlib
import os
import smtplib
import ssl
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from slipstream.config.alerting import Mail
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, SlipstreamError
from slipstream.net.tls import client_context

RECIPIENTS_MAX = 100
SUBJECT_LENGTH_MAX = 200
_LATER = range(400, 500)
"""Replies of a server that may say yes another time (RFC 5321 §4.2.1)."""

_LOGIN_HINT = "Check `mail.username` and the password."


class MailFailed(SlipstreamError):
    """A mail was not taken; the message holds the server's own words.

    `is_final` says whether sending it again cannot help. `refused` are the recipients that were refused;
    `left` are those of them to whom it is to be sent again, if to anybody. Others have it.
    """

    status = 502
    kind = "upstream_error"
    code = "mail_failed"

    def __init__(
        self,
        message: str,
        *,
        is_final: bool,
        hint: str = "",
        refused: tuple[str, ...] = (),
        left: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.is_final = is_final
        self.refused = refused
        self.left = left or refused


def written(sender: str, recipients: Sequence[str], subject: str, text: str) -> EmailMessage:
    """A plain mail with its headers; an HTML body and attachments may be added to it.

    Raises `ConfigurationError` for an address that is none. Line breaks in the subject become blanks.
    """
    mail = EmailMessage()
    for address in (sender, *recipients):
        _require_address(address)
    if not 1 <= len(recipients) <= RECIPIENTS_MAX:
        raise ConfigurationError(f"A mail has 1 to {RECIPIENTS_MAX} recipients.")
    now = datetime.fromtimestamp(clock.wall_ns() / 1e9, UTC)
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = " ".join("".join(c if c.isprintable() else " " for c in subject).split())[
        :SUBJECT_LENGTH_MAX
    ]
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = make_msgid(domain=Address(addr_spec=sender).domain or "localhost")
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies
    mail.set_content(text)
    return mail


async def send(settings: Mail, mail: EmailMessage) -> None:
    """Hand a mail to the server, in a thread. Raises `MailFailed` and `ConfigurationError`.

    Every step has its time limit. A call that is cancelled leaves its thread to end by those; neither the
    event loop nor the interpreter waits for it at their end.
    """
    loop = asyncio.get_running_loop()
    sent: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        failure: SlipstreamError | None = MailFailed(
            "The mail could not be sent; see the log.", is_final=True
        )
        try:
            send_now(settings, mail)
            failure = None
        except SlipstreamError as error:
            failure = error
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended; nobody wants to know
                loop.call_soon_threadsafe(_settle, sent, failure)

    threading.Thread(target=run, name="slipstream-mail", daemon=True).start()
    await sent


def _settle(sent: "asyncio.Future[None]", failure: SlipstreamError | None) -> None:
    if sent.done():
        return
    if failure is None:
        sent.set_result(None)
    else:
        sent.set_exception(failure)


def send_now(settings: Mail, mail: EmailMessage) -> None:
    """The same in this thread."""
    password = _password(settings)
    try:
        with _connected(settings) as server:
            if settings.username:
                server.login(settings.username, password)
            refused = server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as error:
        raise _refused(error.recipients) from None
    except smtplib.SMTPResponseException as error:  # its own words, without the class's name
        said = _words(error.smtp_error)
        raise MailFailed(
            f"The mail server said {error.smtp_code} {said}",
            is_final=error.smtp_code not in _LATER,
            hint="Check `mail.username` and the password."
            if isinstance(error, smtplib.SMTPAuthenticationError)
            else "",
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise MailFailed(
            f"The mail server's certificate is not trusted: {error.verify_message}.",
            is_final=False,
            hint="`mail.ca_file` names the authority to trust.",
        ) from None
    except (smtplib.SMTPException, MessageError, UnicodeError) as error:
        raise MailFailed(
            f"The mail could not be sent: {error}.", is_final=False, hint=_hint(settings)
        ) from None
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise MailFailed(
            f"The mail server {where} cannot be reached: {error.strerror or error}.", is_final=False
        ) from None
    if refused:
        raise _refused(refused)


def _connected(settings: Mail) -> smtplib.SMTP:
    if not settings.host:
        raise ConfigurationError(
            "There is no mail server.", hint='Write it in the settings: [mail] host = "…", sender = "…"'
        )
    context = client_context(settings.ca_file) if settings.tls != "none" else None
    if context is not None:
        context.set_alpn_protocols([])
    if settings.tls == "tls":
        return smtplib.SMTP_SSL(settings.host, settings.port, timeout=settings.seconds, context=context)
    server = smtplib.SMTP(settings.host, settings.port, timeout=settings.seconds)
    with contextlib.ExitStack() as undo:
        undo.callback(server.close)
        if context is not None:
            server.starttls(context=context)
        undo.pop_all()
    return server


def _password(settings: Mail) -> str:
    if not settings.username:
        return ""
    password = os.environ.get(settings.password_env, "") if settings.password_env else ""
    if not password:
        raise ConfigurationError(
            f"The password of the mail user {settings.username!r} is not there.",
            hint="`mail.password_env` names the environment variable that holds it.",
        )
    return password


def _refused(recipients: dict[str, tuple[int, bytes]]) -> MailFailed:
    """Of those who were refused, the ones that may be taken another time decide: a greylist, a full box."""
    later = tuple(name for name, (code, _) in recipients.items() if code in _LATER)
    code, words = next(iter(recipients.values()))
    return MailFailed(
        f"The mail server refused {', '.join(recipients)}: {code} {_words(words)}",
        is_final=not later,
        refused=tuple(recipients),
        left=later,
    )


def _words(said: bytes | str) -> str:
    return _printable(said.decode("utf-8", "replace") if isinstance(said, bytes) else said)[:500]


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)


def _hint(settings: Mail) -> str:
    if settings.tls == "starttls":
        return "If the server offers no STARTTLS: set `mail.tls` to `tls` or, in the clear, to `none`."
    return ""


def _require_address(address: str) -> None:
    try:
        valid = bool(Address(addr_spec=address).domain) and address.isascii()
    except (ValueError, IndexError, MessageError):
        valid = False
    if not valid:
        raise ConfigurationError(
            f"{address!r} is not an e-mail address.", hint="Write it like name@example.org."
        )
