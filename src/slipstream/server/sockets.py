"""The sockets a server listens on: the public one, and the supervisor's Unix socket.

Nothing is served here.
"""

import contextlib
import errno
import ipaddress
import resource
import socket
from pathlib import Path

from msgspec import Struct

from slipstream.core.errors import ConfigurationError

_BACKLOG = 2048
_DESCRIPTORS = 65_536
_UNIX_PATH_MAX = 100  # the kernel's bound is 108 bytes on Linux and 104 on BSD, its NUL included


class Address(Struct, frozen=True):
    """Where to listen, as the system takes it."""

    host: str
    port: int
    family: socket.AddressFamily
    numeric: tuple[str | int | bytes, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self._ip.is_loopback

    def url(self, port: int) -> str:
        """Where a person on this machine finds it; a wildcard address is reached by loopback."""
        host = "127.0.0.1" if self._ip.is_unspecified else self.host
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def _ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        return ipaddress.ip_address(str(self.numeric[0]).partition("%")[0])


def resolve(host: str, port: int) -> Address:
    """The address that `host` means here. Raises `ConfigurationError` for none."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(
            f"The address {host!r} is not known: {error.strerror}.", hint="Set another one with --host."
        ) from None
    family, _, _, _, numeric = found[0]
    return Address(host.strip("[]"), port, family, numeric)


def bind_public(address: Address) -> socket.socket:
    """A listening TCP socket. Raises `ConfigurationError` that says who is in the way and what to do."""
    listener = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address.numeric)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _explained(error, address.host, address.port) from None
    return listener


def allow_descriptors() -> None:
    """Let this process and its children open as many descriptors as they may; many systems begin at 1,024.

    Each connection takes one. Where the bound bites all the same, new connections are closed unanswered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bind_unix(path: Path) -> socket.socket:
    """A listening Unix socket that only this user may open; one left over by a dead server is replaced.

    Its folder must be ours alone (0700): between `bind` and `chmod` the folder is what protects it.
    """
    if len(bytes(path)) > _UNIX_PATH_MAX:
        raise ConfigurationError(
            f"The path of the control socket is too long for the system: {path}.",
            hint="Set a shorter `state_folder`.",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"The control socket {path} cannot be made: {error.strerror}.",
            hint="Set `state_folder` to a folder that you may write to.",
        ) from None
    return listener


def _explained(error: OSError, host: str, port: int) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        holder = _holder(port)
        return ConfigurationError(
            f"Port {port} on {host} is in use{f' by {holder}' if holder else ''}.",
            hint="End it, or take another port: `slipstream serve --port 8081` or `make run PORT=8081`.",
            code="port_in_use",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigurationError(
            f"Port {port} may not be opened by this user.", hint="Take one above 1023 with --port."
        )
    return ConfigurationError(
        f"{host}:{port} cannot be listened on: {error.strerror}.",
        hint="Set an address of this machine with --host.",
    )


def _holder(port: int) -> str:
    """Name and pid of who listens on `port`, as far as the system tells this user; empty otherwise."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {process.pid})"
    return ""
