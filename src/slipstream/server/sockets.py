"""The sockets a server listens on: the public one, and the supervisor's Unix socket.

Nothing is served here.
"""

import contextlib
import errno
import ipaddress
import socket
from pathlib import Path

from slipstream.core.errors import ConfigurationError

_BACKLOG = 2048
_UNIX_PATH_MAX = 100  # the kernel's bound is 108 bytes on Linux and 104 on BSD, its NUL included


def bind_public(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises `ConfigurationError` that says who is in the way and what to do."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigurationError(
            f"The address {host!r} is not known: {error.strerror}.", hint="Set another one with --host."
        ) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _explained(error, host, port) from None
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(listener.getsockname()[0].split("%")[0]).is_loopback


def url_of(listener: socket.socket, host: str) -> str:
    """Where a person on this machine finds it; a wildcard address is reached by loopback."""
    address, port = listener.getsockname()[:2]
    if ipaddress.ip_address(address.split("%")[0]).is_unspecified:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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
    import psutil  # type: ignore[import-untyped]

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {process.pid})"
    return ""
