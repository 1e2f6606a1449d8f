"""Mail reaches a real SMTP server, over each kind of connection, and failures say what the server said."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from net.mail_server import mail_server
from slipstream.config.settings import Mail
from slipstream.core.errors import ConfigurationError
from slipstream.net.mail import MailFailed, send, send_now, written

OPEN = {"host": "127.0.0.1", "tls": "none", "sender": "slipstream@example.org", "seconds": 5.0}


def a_mail(*to: str, subject: str = "Fires"):
    return written("slipstream@example.org", to or ("ops@example.org",), subject, "It is slow.\n")


def test_mail_arrives() -> None:
    """From, To, subject, text and an id of its own arrive as they were written."""
    with mail_server() as box:
        asyncio.run(
            send(Mail(port=box.port, **OPEN), a_mail("a@example.org", "b@example.org", subject="Fires: ü"))
        )

    (mail,) = box.mails
    assert (mail["From"], mail["To"]) == ("slipstream@example.org", "a@example.org, b@example.org")
    assert (mail["Subject"], mail.get_content()) == ("Fires: ü", "It is slow.\r\n")
    assert mail["Message-ID"].endswith("@example.org>")
    assert box.recipients == [["a@example.org", "b@example.org"]]


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, str]:
    """An authority of this test and its PEM file."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return ca, str(tmp_path / "ca.pem")


def server_context(ca: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name).configure_cert(context)
    return context


def test_starttls_with_login(monkeypatch: pytest.MonkeyPatch, authority: tuple[trustme.CA, str]) -> None:
    """With starttls the password goes over the encrypted connection."""
    ca, file = authority
    monkeypatch.setenv("MAIL_PASSWORD", "right")
    with mail_server(starttls=server_context(ca), login=True) as box:
        settings = Mail(
            port=box.port,
            **{**OPEN, "tls": "starttls"},
            ca_file=file,
            username="me",
            password_env="MAIL_PASSWORD",
        )
        send_now(settings, a_mail())

    assert (len(box.mails), box.logins) == (1, [(b"me", b"right")])


def test_tls_from_the_start(authority: tuple[trustme.CA, str]) -> None:
    """With tls the connection is encrypted from its first byte."""
    ca, file = authority
    with mail_server(tls=server_context(ca)) as box:
        send_now(Mail(port=box.port, **{**OPEN, "tls": "tls"}, ca_file=file), a_mail())

    assert len(box.mails) == 1


def test_unknown_authority_gets_no_mail(authority: tuple[trustme.CA, str]) -> None:
    """A certificate that nobody vouches for is refused, with the setting that would help."""
    with (
        mail_server(starttls=server_context(trustme.CA())) as box,
        pytest.raises(MailFailed, match=r"is not trusted.*mail\.ca_file"),
    ):
        send_now(Mail(port=box.port, **{**OPEN, "tls": "starttls"}, ca_file=authority[1]), a_mail())

    assert box.mails == []


def test_missing_starttls_is_not_survived() -> None:
    """A server without STARTTLS gets nothing in the clear."""
    with mail_server() as box, pytest.raises(MailFailed, match=r"STARTTLS.*mail\.tls"):
        send_now(Mail(port=box.port, **{**OPEN, "tls": "starttls"}), a_mail())

    assert box.mails == []


def test_wrong_password_is_final(monkeypatch: pytest.MonkeyPatch, authority: tuple[trustme.CA, str]) -> None:
    """A login that is refused is told in the server's words, and not tried again."""
    ca, file = authority
    monkeypatch.setenv("MAIL_PASSWORD", "wrong")
    with mail_server(starttls=server_context(ca), login=True) as box:
        settings = Mail(
            port=box.port,
            **{**OPEN, "tls": "starttls"},
            ca_file=file,
            username="me",
            password_env="MAIL_PASSWORD",
        )
        with pytest.raises(MailFailed, match=r"said 535.*mail\.username") as raised:
            send_now(settings, a_mail())

    assert raised.value.is_final


def test_missing_password() -> None:
    """A user without a password is a mistake of the settings."""
    with pytest.raises(ConfigurationError, match=r"mail\.password_env"):
        send_now(Mail(port=1, **OPEN, username="me", password_env="NOT_THERE"), a_mail())


@pytest.mark.parametrize(("reply", "is_final"), [("550 no such person", True), ("451 greylisted", False)])
def test_refused_recipient(reply: str, is_final: bool) -> None:
    """Words with 5 are final, words with 4 may change."""
    with mail_server() as box:
        box.refusals["ops@example.org"] = reply
        with pytest.raises(MailFailed, match=reply) as raised:
            send_now(Mail(port=box.port, **OPEN), a_mail())

    assert (raised.value.is_final, raised.value.refused) == (is_final, ("ops@example.org",))


@pytest.mark.parametrize(
    ("replies", "is_final", "left"),
    [
        ({"b@example.org": "451 greylisted"}, False, ("b@example.org",)),
        ({"b@example.org": "550 no such person"}, True, ("b@example.org",)),
        (
            {"b@example.org": "550 no such person", "c@example.org": "452 full"},
            False,
            ("c@example.org",),
        ),
    ],
)
def test_some_are_refused(replies: dict[str, str], *, is_final: bool, left: tuple[str, ...]) -> None:
    """The others have it; it is to be sent again to those who may take it another time, and to nobody else."""
    with mail_server() as box:
        box.refusals.update(replies)
        with pytest.raises(MailFailed, match=r"b@example\.org") as raised:
            send_now(Mail(port=box.port, **OPEN), a_mail("a@example.org", "b@example.org", "c@example.org"))

    assert "a@example.org" in box.recipients[0]
    assert (raised.value.is_final, raised.value.left) == (is_final, left)
    assert raised.value.refused == tuple(replies)


@pytest.mark.parametrize(("reply", "is_final"), [("554 too ugly", True), ("452 disk full", False)])
def test_refused_text(reply: str, is_final: bool) -> None:
    """The same for what the server says of the mail itself."""
    with mail_server() as box:
        box.at_data = reply
        with pytest.raises(MailFailed, match=reply) as raised:
            send_now(Mail(port=box.port, **OPEN), a_mail())

    assert raised.value.is_final is is_final


def test_nobody_listens() -> None:
    """No connection is told with the address, and tried again."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(MailFailed, match=f"127.0.0.1:{port} cannot be reached") as raised:
        send_now(Mail(port=port, **OPEN), a_mail())

    assert not raised.value.is_final


def test_silent_server_times_out() -> None:
    """A server that says nothing holds the thread for the time of the settings."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(MailFailed, match="timed out"):
        send_now(Mail(port=silent.getsockname()[1], **{**OPEN, "seconds": 0.1}), a_mail())


@pytest.mark.parametrize(
    "address", ["", "ops", "a@b@c", "a b@example.org", "a@example.org\nBcc: x@y.z", "ö@x.y"]
)
def test_address_is_checked(address: str) -> None:
    """What is no address, or would add a header, is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match="is not an e-mail address"):
        a_mail(address)


def test_subject_is_one_line() -> None:
    """A line break in a subject adds no header."""
    mail = a_mail(subject="High\r\nBcc: x@y.z\x00 time" + "x" * 300)

    assert mail["Subject"].startswith("High Bcc: x@y.z time")
    assert len(mail["Subject"]) == 200
    assert mail["Bcc"] is None


def test_no_mail_server() -> None:
    """Without a host the error holds the lines to write."""
    with pytest.raises(ConfigurationError, match=r"\[mail\] host"):
        send_now(Mail(), a_mail())
