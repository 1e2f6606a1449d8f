"""The sockets a server listens on: bound where asked, private, and clear about what is in the way."""

import os
import socket
import stat
from pathlib import Path

import pytest

from slipstream.core.errors import ConfigurationError
from slipstream.server.sockets import bind_public, bind_unix, resolve


def test_free_port_is_listened_on() -> None:
    """Port 0 picks one, and connections are taken before anybody serves: they wait, nobody is refused."""
    with bind_public(resolve("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()):
            pass
        assert not listener.getblocking()


def test_port_in_use_names_who_holds_it() -> None:
    """The message holds the port and the process, the hint another port."""
    with bind_public(resolve("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigurationError) as refusal:
            bind_public(resolve("127.0.0.1", port))

    assert refusal.value.code == "port_in_use"
    assert f"Port {port} on 127.0.0.1 is in use" in refusal.value.message
    assert f"(pid {os.getpid()})" in refusal.value.message
    assert "--port" in refusal.value.hint
    assert "PORT=" in refusal.value.hint


@pytest.mark.parametrize(
    ("host", "loopback", "url"),
    [
        ("127.0.0.1", True, "http://127.0.0.1:80"),
        ("localhost", True, "http://localhost:80"),
        ("::1", True, "http://[::1]:80"),
        ("[::1]", True, "http://[::1]:80"),
        ("0.0.0.0", False, "http://127.0.0.1:80"),
        ("192.0.2.1", False, "http://192.0.2.1:80"),
    ],
)
def test_address_knows_who_can_reach_it(host: str, loopback: bool, url: str) -> None:
    """Loopback is asked of the address, not of its spelling, and the URL can be opened on this machine."""
    address = resolve(host, 0)

    assert address.is_loopback is loopback
    assert address.url(80) == url


def test_address_of_another_machine_is_refused() -> None:
    """An address that is not of this machine cannot be listened on, and the message says so."""
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1:0 cannot be listened on") as refusal:
        bind_public(resolve("192.0.2.1", 0))

    assert "--host" in refusal.value.hint


def test_control_socket_is_private_and_replaces_a_dead_one(tmp_path: Path) -> None:
    """Only its owner may open it; what a killed server left at its path is in nobody's way."""
    path = tmp_path / "control.sock"
    bind_unix(path).close()
    assert path.exists()

    with bind_unix(path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_control_path_that_is_too_long_is_explained(tmp_path: Path) -> None:
    """The system's bound on the path of a Unix socket is met by a message, not by an OSError."""
    with pytest.raises(ConfigurationError, match="too long") as refusal:
        bind_unix(tmp_path / ("x" * 120))

    assert "state_folder" in refusal.value.hint
