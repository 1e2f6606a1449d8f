"""The API keys that were made and revoked, by digest. A secret is shown once, when it is made.

A key file that is damaged or gone is an error, never a reason to begin an empty one: where no key
exists, a server on loopback asks for none.
"""

import secrets
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from slipstream.core import clock
from slipstream.core.errors import BadRequest, StoreFailed
from slipstream.core.keys import PREFIX, KeyEntry, digest
from slipstream.store import migrations
from slipstream.store.sqlite import Database, Manner
from slipstream.store.values import DAMAGED, Value

SCHEMA = migrations.load("keys", application_id=0x536C4B79)  # "SlKy"
NAME_MAX = 64
"""Most characters of a key's name and of a tenant."""
ACTIVE_MAX = 10_000
"""Most keys that may be active at a time; all of them are held in memory by every worker."""

Role = Literal["user", "admin"]
_ID_PREFIX = "key_"
_SELECT = "SELECT id, name, tenant, role, created_wall_ns, revoked_wall_ns FROM keys"


class StoredKey(Struct, frozen=True):
    """What may be shown of a key."""

    id: str
    name: str
    tenant: str
    role: Role
    created_wall_ns: int
    revoked_wall_ns: int | None
    """None while the key is active."""


_Entries = list[KeyEntry]  # inside the class, `list` is its method


class KeyStore:
    """The key file. Safe to use from several threads and beside other processes.

    Opening it creates it if there is none. Every method raises `StoreFailed`; opening also
    `ConfigurationError`, for a newer or a foreign file.
    """

    def __init__(self, path: Path) -> None:
        manner = Manner(journal="delete", synchronous="FULL", when_damaged="refuse", when_gone="refuse")
        self._database = Database(path, SCHEMA, manner)
        self._own_changes = 0

    def create(self, name: str, *, tenant: str = "default", role: Role = "user") -> tuple[KeyEntry, str]:
        """Make a key: its entry, and the secret, which cannot be had again.

        The secret is `PREFIX` and 256 random bits. Raises `BadRequest` for a name that is unfit or
        already an active key's, and where there are `ACTIVE_MAX` keys.
        """
        _require_fit(name, "name")
        _require_fit(tenant, "tenant")
        secret = PREFIX + secrets.token_urlsafe(32)
        entry = KeyEntry(_ID_PREFIX + secrets.token_hex(6), digest(secret), tenant, role)
        database = self._current()
        with database.transaction():
            if database.number("SELECT count(*) FROM keys WHERE revoked_wall_ns IS NULL") >= ACTIVE_MAX:
                raise BadRequest(
                    f"There are {ACTIVE_MAX:,} active keys already.",
                    hint="Revoke some.",
                    code="too_many_keys",
                )
            if database.rows("SELECT 1 FROM keys WHERE name = ? AND revoked_wall_ns IS NULL", (name,)):
                raise BadRequest(
                    f"There is an active key named {name!r} already.",
                    hint="Choose another name, or revoke that key.",
                    code="key_exists",
                    param="name",
                )
            database.rows(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, NULL)",
                (entry.id, name, entry.digest, tenant, role, clock.wall_ns()),
            )
        self._own_changes += 1
        return entry, secret

    def list(self) -> list[StoredKey]:
        """Every key there ever was, oldest first."""
        return [_stored(row) for row in self._current().rows(_SELECT + " ORDER BY created_wall_ns, id")]

    def revoke(self, id_or_name: str) -> StoredKey:
        """Make a key worthless. One that is revoked already stays as it is.

        Raises `BadRequest` if there is no key of this id and no active one of this name.
        """
        database = self._current()
        with database.transaction():
            found = database.rows(
                _SELECT + " WHERE id = ?1 OR (name = ?1 AND revoked_wall_ns IS NULL)", (id_or_name,)
            )
            if not found:
                raise BadRequest(
                    f"There is no active key {id_or_name!r}.",
                    hint="List them with `slipstream keys list`.",
                    code="key_not_found",
                    status=404,
                )
            key = _stored(found[0])
            if key.revoked_wall_ns is None:
                key = msgspec.structs.replace(key, revoked_wall_ns=clock.wall_ns())
                database.rows(
                    "UPDATE keys SET revoked_wall_ns = ? WHERE id = ?", (key.revoked_wall_ns, key.id)
                )
        self._own_changes += 1
        return key

    def active(self) -> _Entries:
        """The keys that are valid now."""
        rows = self._current().rows("SELECT id, digest, tenant, role FROM keys WHERE revoked_wall_ns IS NULL")
        try:
            return [msgspec.convert(row, _Entry).entry() for row in rows]
        except msgspec.ValidationError as error:
            raise StoreFailed(f"{self._database.path}: {error}.", code=DAMAGED) from error

    def version(self) -> int:
        """A number that differs whenever the keys may have changed; costs microseconds, for a poll.

        Raises `StoreFailed` if the file is gone: whoever polls keeps the keys that it has.
        """
        return (self._current().number("PRAGMA data_version") << 32) + self._own_changes

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _current(self) -> Database:
        if self._database.refresh():  # a backup was put back, say: its versions begin anew
            self._own_changes += 1
        return self._database


class _Entry(Struct, array_like=True):
    """A row of `active`, as it is checked."""

    id: str
    digest: bytes
    tenant: str
    role: Role

    def entry(self) -> KeyEntry:
        return KeyEntry(self.id, self.digest, self.tenant, self.role)


def _stored(row: tuple[Value, ...]) -> StoredKey:
    try:
        return msgspec.convert(dict(zip(StoredKey.__struct_fields__, row, strict=True)), StoredKey)
    except msgspec.ValidationError as error:
        raise StoreFailed(f"The key {row[0]!r} cannot be read: {error}.", code=DAMAGED) from error


def _require_fit(text: str, what: str) -> None:
    """Printable, of a bounded length, not blank at either end, and not to be taken for an id."""
    if not text or len(text) > NAME_MAX or not text.isprintable() or text != text.strip():
        raise BadRequest(
            f"A {what} has 1 to {NAME_MAX} printable characters and no blank at either end.",
            code="unfit_name",
            param=what,
        )
    if text.startswith(_ID_PREFIX):
        raise BadRequest(f"A {what} must not begin with `{_ID_PREFIX}`.", code="unfit_name", param=what)
