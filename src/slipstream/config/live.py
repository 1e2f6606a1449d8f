"""The register of live servers: one file a server, locked by its supervisor for as long as it lives.

The lock is the truth, not the process id: the system frees it however the supervisor ends, and ids are
used again. A file whose lock is free belongs to a dead server and is swept by whoever finds it.
It knows how to find a server, not how to talk to it.
"""

import contextlib
import hashlib
import os
import secrets
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from slipstream.config.paths import existing_state_folder, state_folder
from slipstream.config.settings import Settings
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl

FILE_BYTES_MAX = 64 * 1024
_LIVE = "live"
_UNFINISHED_SECONDS = 60
"""Age at which a file that nobody finished writing is swept."""


class LiveServer(Struct, frozen=True):
    """A server that runs on this machine, and how to reach it."""

    pid: int
    """Of the supervisor."""
    url: str
    control: str
    """Path of its Unix control socket; empty = none."""
    token: str
    """What its control plane asks of local callers. Not in `repr`."""
    started_wall_ns: int
    version: str
    settings: str
    """`fingerprint` of the settings it runs with."""

    def __repr__(self) -> str:
        return f"LiveServer(pid={self.pid}, url={self.url!r}, version={self.version!r})"


class Registration:
    """A server's place in the register; held until `close`, or until the process ends.

    The lock is not inherited by programs that are executed, but it is by a bare `fork`.
    """

    def __init__(self, server: LiveServer, path: Path, lock: int) -> None:
        self.server = server
        self.path = path
        self._lock = lock

    def close(self) -> None:
        """Leave the register. Closing twice does nothing."""
        if self._lock >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def fingerprint(settings: Settings) -> str:
    """What makes settings the same for whoever looks for a server: all but how it is served and logged."""
    seen = msgspec.structs.replace(settings, server=type(settings.server)(), log=type(settings.log)())
    return hashlib.sha256(msgspec.json.encode(seen, order="deterministic")).hexdigest()[:32]


def new_token() -> str:
    """A token for local callers: 256 random bits."""
    return secrets.token_urlsafe(32)


def register(settings: Settings, *, url: str, control: str, token: str, version: str) -> Registration:
    """Enter this process as a live server. Raises `ConfigurationError` without a usable state folder."""
    if sys.platform == "win32":
        raise ConfigurationError("Live servers cannot register on this system.")
    server = LiveServer(
        pid=os.getpid(),
        url=url,
        control=control,
        token=token,
        started_wall_ns=clock.wall_ns(),
        version=version,
        settings=fingerprint(settings),
    )
    folder = _folder(settings)
    path = folder / f"{server.pid}-{secrets.token_hex(4)}.json"
    unfinished = path.with_suffix(".new")
    try:
        lock = _entered(unfinished, path, msgspec.json.encode(server))
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: cannot be written ({error.strerror}).",
            hint="Set `state_folder` to a folder that you may write to.",
        ) from None
    return Registration(server, path, lock)


def live_servers(settings: Settings) -> list[LiveServer]:
    """All servers alive in this state folder, the oldest first. Sweeps the dead ones, makes nothing."""
    if sys.platform == "win32":
        return []
    state = existing_state_folder(settings)
    if state is None:
        return []
    folder = state / _LIVE
    found = [server for path in folder.glob("*.json") if (server := _alive(path)) is not None]
    for path in folder.glob("*.new"):
        _sweep_unfinished(path)
    return sorted(found, key=lambda server: (server.started_wall_ns, server.pid))


def find_live(settings: Settings, *, server: str | None = None) -> LiveServer | None:
    """The live server to attach to: the one of the same settings, else the only one; None without any.

    Args:
        settings: whose state folder is searched, and which are compared.
        server: choose by URL or process id.

    Raises `ConfigurationError` that lists them where several fit, or none is the one asked for.
    """
    alive = live_servers(settings)
    if server is not None:
        chosen = [each for each in alive if server.rstrip("/") in {each.url.rstrip("/"), str(each.pid)}]
        if len(chosen) == 1:
            return chosen[0]
        raise ConfigurationError(f"No live server is called {server}.", hint=_listed(alive))
    own = fingerprint(settings)
    same = [each for each in alive if each.settings == own]
    fitting = same or alive
    if len(fitting) > 1:
        which = "of these settings " if same else ""
        raise ConfigurationError(
            f"{len(fitting)} servers {which}are alive; which one is meant?", hint=_listed(fitting)
        )
    return fitting[0] if fitting else None


def _entered(unfinished: Path, path: Path, content: bytes) -> int:
    """Write a file and hold its lock; the descriptor of the lock.

    Locked and whole before it gets its name: no reader ever sees a free lock or half a file.
    """
    lock = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(lock, content)
        unfinished.rename(path)
    except OSError:
        os.close(lock)
        unfinished.unlink(missing_ok=True)
        raise
    return lock


def _listed(servers: list[LiveServer]) -> str:
    if not servers:
        return "None is alive; start one with `slipstream serve`."
    return (
        "Choose with --server (or `server=`), by URL or process id: "
        + ", ".join(f"{each.url} (pid {each.pid})" for each in servers)
        + "."
    )


def _folder(settings: Settings) -> Path:
    folder = state_folder(settings) / _LIVE
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: cannot be made ({error.strerror}).",
            hint="Set `state_folder` to a folder that you may write to.",
        ) from None
    return folder


def _alive(path: Path) -> LiveServer | None:
    """The server of a file whose lock is held; a file whose lock is free is deleted."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None  # it left between listing and opening
    try:
        if _lock_is_free(file):
            path.unlink(missing_ok=True)
            return None
        return msgspec.json.decode(os.read(file, FILE_BYTES_MAX), type=LiveServer)
    except msgspec.MsgspecError:
        return None  # a server of another version, whose words we do not know
    finally:
        os.close(file)


def _sweep_unfinished(path: Path) -> None:
    """Delete what a server left that died while registering."""
    with contextlib.suppress(OSError):
        age_ns = clock.wall_ns() - path.stat().st_mtime_ns
        if age_ns > _UNFINISHED_SECONDS * 1_000_000_000:
            path.unlink(missing_ok=True)


def _lock_is_free(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
