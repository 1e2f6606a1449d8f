"""A real SMTP server on loopback for tests: keeps what it was given, can ask for a login and refuse people."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class Mailbox:
    """What has arrived, and who is refused with which words."""

    port: int = 0
    refusals: dict[str, str] = field(default_factory=dict)
    at_data: str = ""
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 (aiosmtpd's name)
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.at_data:
            return self.at_data
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.recipients.append(envelope.rcpt_tos)
        return "250 taken"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"right", handled=False)


class _Listening(Controller):
    """Takes a port that is free, and is there when it says so."""

    def __init__(self, mailbox: Mailbox, listener: socket.socket, **options: object) -> None:
        self._listener = listener
        super().__init__(mailbox, hostname="127.0.0.1", port=mailbox.port, **options)

    def _create_server(self):
        return self.loop.create_server(self._factory_invoker, sock=self._listener, ssl=self.ssl_context)


@contextlib.contextmanager
def mail_server(
    *, tls: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None, login: bool = False
) -> Iterator[Mailbox]:
    """A mail server in a thread, on a free port of loopback."""
    mailbox = Mailbox()
    listener = socket.create_server(("127.0.0.1", 0))
    mailbox.port = listener.getsockname()[1]
    options: dict[str, object] = {}
    if login:
        options = {
            "authenticator": mailbox.authenticate,
            "auth_required": True,
            "auth_require_tls": starttls is not None,
        }
    controller = _Listening(
        mailbox,
        listener,
        ssl_context=tls,
        tls_context=starttls,
        require_starttls=starttls is not None,
        **options,
    )
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()
        listener.close()
