"""A SQLite database of ours: opened right, kept open, and set aside and begun anew when it is damaged.

It knows no table. Its file is never touched but through SQLite while a connection is open: closing a
second descriptor would drop the first one's locks (POSIX advisory locks belong to the process).
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import apsw
from msgspec import Struct

from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, StoreFailed
from slipstream.store import migrations
from slipstream.store.migrations import Schema
from slipstream.store.values import BROKEN, BUSY, DAMAGED, FULL, ROW_REFUSED, UNWRITABLE, Value

_LEAST_SQLITE = (3, 51, 3)  # older ones can corrupt a WAL database that two connections write
_BUSY_MS = 5_000
_WAL_BYTES = 16 * 1024 * 1024
_SET_ASIDE_MAX = 3
_GUARD_TRIES, _GUARD_PAUSE_SECONDS = 200, 0.05
_SIDE_FILES = ("", "-wal", "-shm", "-journal")
_log = logging.getLogger(__name__)


class Manner(Struct, frozen=True, kw_only=True):
    """How a database is to be kept.

    Attributes:
        journal: WAL lets readers and the writer work at the same time; with DELETE everything is in the one
            file, so that a backup of it may be put back at any time.
        synchronous: NORMAL survives kill -9, FULL a power cut as well.
        when_damaged: begin a new file beside the damaged one, or refuse to go on.
        when_gone: what to do if a file that was open has been deleted.
    """

    journal: Literal["wal", "delete"] = "wal"
    synchronous: Literal["NORMAL", "FULL"] = "NORMAL"
    when_damaged: Literal["set aside", "refuse"] = "set aside"
    when_gone: Literal["begin anew", "refuse"] = "begin anew"


class Database:
    """One connection to one file, safe to use from several threads (they take turns).

    Opening creates the file (0600, its folder 0700 where that is new), brings an older schema up to
    date and sets a damaged file aside where `manner` says so: `quarantined` holds where to.
    Raises `StoreFailed` (its `code` is one of this module's constants) and, for a file of a newer
    Slipstream or of somebody else, `ConfigurationError`.
    """

    def __init__(self, path: Path, schema: Schema, manner: Manner) -> None:
        refuse_old(apsw.sqlite_lib_version())
        self.quarantined: tuple[Path, ...] = ()
        self._given_path = path
        self._schema = schema
        self._manner = manner
        self._lock = threading.RLock()
        self._is_open = False
        self._open(may_create=True)

    @property
    def path(self) -> Path:
        """The file, links resolved."""
        return self._path

    def rows(self, sql: str, bindings: Sequence[Value] = ()) -> list[tuple[Value, ...]]:
        """Run one statement and fetch all its rows, so that no read transaction stays open."""
        with self._lock, _translated(self._path):
            found: list[tuple[Value, ...]] = self._connection.execute(sql, bindings).fetchall()
            return found

    def number(self, sql: str, bindings: Sequence[Value] = ()) -> int:
        """The single whole number that a statement yields."""
        value = self.rows(sql, bindings)[0][0]
        assert isinstance(value, int), sql
        return value

    def run_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> int:
        """Run one statement for each of `rows`; how many rows of the database it changed."""
        with self._lock, _translated(self._path):
            before = self._connection.total_changes()
            try:
                self._connection.executemany(sql, rows)
            except TypeError as error:  # a value of a kind that no column holds
                raise StoreFailed(f"{self._path}: {error}.", code=ROW_REFUSED) from error
            changed: int = self._connection.total_changes() - before
            return changed

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; waits for the write lock before anything else."""
        with self._lock, _translated(self._path), migrations.transaction(self._connection):
            yield

    def refresh(self) -> bool:
        """Reopen if the file at the path is not the one that is open any more; whether it was so."""
        with self._lock:
            if self._is_open and not self._has_moved():
                return False
            self.reopen()
            return True

    def reopen(self) -> None:
        """Close and open again: after an I/O error nothing that a connection believes can be trusted."""
        with self._lock:
            self.close()
            with _guard(self._path), _translated(self._path):
                if self._has_moved() and _identity(_beside(self._path, "-wal")) == self._wal_identity:
                    _remove_wal(self._path)  # it is the former file's, and would be replayed into this one
            self._open(may_create=self._manner.when_gone == "begin anew")

    def set_aside(self) -> None:
        """Give up a file that turned out damaged while in use, and begin a new one."""
        with self._lock:
            self.close()
            with _guard(self._path), _translated(self._path):
                if not self._has_moved():
                    self._quarantine()
            self._open(may_create=True)

    def close(self) -> None:
        """Let go of the file; closing twice is harmless. Nothing else may be called but `reopen`."""
        with self._lock, _translated(self._path):
            self._is_open = False
            self._connection.close()

    def _open(self, *, may_create: bool) -> None:
        with _translated(self._given_path):
            self._path = self._given_path.expanduser().resolve()
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _guard(self._path), _translated(self._path):
            if not self._path.exists():
                if not may_create:
                    raise StoreFailed(f"{self._path} has been deleted.", code=BROKEN)
                _create(self._path, self._schema, self._manner)
            try:
                self._connection = self._connect()
            except StoreFailed as error:
                if error.code != DAMAGED or self._manner.when_damaged == "refuse":
                    raise
                self._quarantine()
                _create(self._path, self._schema, self._manner)
                self._connection = self._connect()
            self._is_open = True
            self._identity = _identity(self._path)
            self._wal_identity = _identity(_beside(self._path, "-wal"))

    def _connect(self) -> apsw.Connection:
        if self._path.stat().st_size == 0:
            raise _damaged(self._path, "it is empty")
        with _translated(self._path), ExitStack() as undo:
            connection = _connection(self._path)
            undo.callback(connection.close)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # what is refused is not written to
            migrations.refuse_foreign(connection, self._schema)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            _configure(connection, self._manner)
            migrations.upgrade(connection, self._schema)
            if not migrations.is_whole(connection, self._schema):
                raise _damaged(self._path, "tables are missing")
            undo.pop_all()
        return connection

    def _has_moved(self) -> bool:
        with _translated(self._path):
            return _identity(self._path) != self._identity

    def _quarantine(self) -> None:
        aside = set_aside(self._path)
        self.quarantined += (aside,)
        _log.error("%s is damaged: it was set aside as %s and a new one begun", self._path, aside.name)


def refuse_old(version: str) -> None:
    """Raise `ConfigurationError` for a SQLite older than 3.51.3."""
    if tuple(map(int, version.split("."))) < _LEAST_SQLITE:
        raise ConfigurationError(
            f"SQLite {version} can corrupt a database that two connections write to.",
            hint='Install a newer one with: pip install --upgrade "apsw>=3.51.3"',
        )


def set_aside(path: Path) -> Path:
    """Rename a database and what SQLite keeps beside it to NAME.corrupt-TIME; its new path.

    The newest three such files are kept, so that a disk that damages files does not fill up with them.
    """
    stamp = datetime.fromtimestamp(clock.wall_ns() // 1_000_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.corrupt-{stamp}-{count}")
    for suffix in reversed(_SIDE_FILES):  # the database last: until then the next start tries again
        if (source := _beside(path, suffix)).exists():
            source.rename(_beside(aside, suffix))
    earlier = [
        old
        for old in path.parent.glob(f"{path.name}.corrupt-*")
        if not old.name.endswith(_SIDE_FILES[1:]) and old != aside
    ]
    for old in sorted(earlier, key=lambda file: file.stat().st_mtime_ns)[: 1 - _SET_ASIDE_MAX]:
        _log.warning("%s is removed: newer damaged files were set aside since", old)
        _remove(old)
    return aside


def _create(path: Path, schema: Schema, manner: Manner) -> None:
    """Build a database aside and move it to its place: at no moment is there half a one at `path`."""
    new = path.with_name(f"{path.name}.new")
    _remove(new)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = _connection(new)
    try:
        migrations.begin(connection, schema)
        if connection.pragma("journal_mode", manner.journal) != manner.journal:
            raise ConfigurationError(
                f"The file system of {path} cannot hold a SQLite database that several processes use.",
                hint="Set `data_folder` to a folder on a local disk.",
            )
    finally:
        connection.close()
    _remove(path)  # a WAL whose database is gone would be replayed into the new one
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _connection(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(_BUSY_MS)
    return connection


def _configure(connection: apsw.Connection, manner: Manner) -> None:
    connection.pragma("journal_mode", manner.journal)
    connection.pragma("synchronous", manner.synchronous)
    connection.pragma("foreign_keys", 1)
    connection.pragma("mmap_size", 0)  # a stray write into mapped memory would land in the file
    connection.pragma("journal_size_limit", _WAL_BYTES)
    connection.pragma("trusted_schema", 0)  # a tampered schema may not call functions


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """One process at a time creates, upgrades or sets aside the file at `path`."""
    with _translated(path):
        lock = os.open(_beside(path, ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(_GUARD_TRIES):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_GUARD_PAUSE_SECONDS)
        else:
            raise StoreFailed(f"Another process has been opening {path} for too long.", code=BUSY)
        yield
    finally:
        os.close(lock)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _remove(path: Path) -> None:
    for suffix in _SIDE_FILES:
        _beside(path, suffix).unlink(missing_ok=True)


def _remove_wal(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        _beside(path, suffix).unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file stands at `path`; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


_RESTORE = "Restore it from a backup, or move it away."
_MEANINGS: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    ((apsw.BusyError, apsw.LockedError, apsw.ProtocolError), BUSY, "Another process is writing to it."),
    ((apsw.FullError,), FULL, "Free space on its disk, or lower `record.keep_bytes`."),
    (
        (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError, apsw.AuthError),
        UNWRITABLE,
        "Check that its folder exists and may be written to.",
    ),
    (
        (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, UnicodeDecodeError),
        DAMAGED,
        _RESTORE,
    ),
    ((apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError), ROW_REFUSED, ""),
)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreFailed(f"{path}: {error.strerror or error}.", code=UNWRITABLE) from error
    except (apsw.Error, UnicodeDecodeError) as error:
        for kinds, code, hint in _MEANINGS:
            if isinstance(error, kinds):
                raise StoreFailed(f"{path}: {error}.", code=code, hint=hint) from error
        raise StoreFailed(f"{path}: {error}.", code=BROKEN) from error


def _damaged(path: Path, why: str) -> StoreFailed:
    return StoreFailed(f"{path} is damaged: {why}.", code=DAMAGED, hint=_RESTORE)
