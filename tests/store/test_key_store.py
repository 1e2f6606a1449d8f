"""What the key store promises: a secret is held nowhere, and a bad file never opens the doors."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.core.errors import BadRequest, NotAllowed, StoreFailed
from slipstream.core.keys import PREFIX, digest, keyring
from slipstream.store import sqlite
from slipstream.store.keys import NAME_MAX, KeyStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KeyStore]:
    store = KeyStore(tmp_path / "keys.db")
    yield store
    store.close()


def test_a_key_that_was_made_opens_and_one_that_was_revoked_does_not(store: KeyStore) -> None:
    """From the store through the keyring that the gateway asks."""
    entry, secret = store.create("ci", tenant="team", role="admin")
    assert entry == keyring(store.active(), required=True).whose(secret)
    assert (entry.tenant, entry.role) == ("team", "admin")
    store.revoke("ci")
    with pytest.raises(NotAllowed):
        keyring(store.active(), required=True).whose(secret)


def test_the_secret_is_random_and_nowhere_in_the_files(store: KeyStore, tmp_path: Path) -> None:
    """256 bits after the prefix; only its SHA-256 is kept."""
    made = [store.create(f"key {number}")[1] for number in range(20)]
    assert len(set(made)) == 20
    assert all(secret.startswith(PREFIX) and len(secret) == len(PREFIX) + 43 for secret in made)
    store.close()
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert digest(made[0]) in content
    assert not any(secret.removeprefix(PREFIX).encode() in content for secret in made)


def test_keys_survive_a_restart(store: KeyStore, tmp_path: Path) -> None:
    """They are what they were."""
    entry, _ = store.create("ci")
    store.close()
    again = KeyStore(tmp_path / "keys.db")
    assert [entry] == again.active()
    again.close()


def test_the_list_holds_revoked_keys_and_nothing_secret(store: KeyStore) -> None:
    """So that a record of last month still has a name to its key."""
    first, secret = store.create("a")
    store.create("b", role="admin")
    store.revoke(first.id)
    listed = store.list()
    assert [(key.name, key.revoked_wall_ns is not None) for key in listed] == [("a", True), ("b", False)]
    assert listed[0].revoked_wall_ns >= listed[0].created_wall_ns
    assert secret not in repr(listed)
    assert repr(digest(secret)) not in repr(listed)


def test_names_are_unique_among_active_keys(store: KeyStore) -> None:
    """After revoking, a name is free again."""
    first, _ = store.create("ci")
    with pytest.raises(BadRequest, match="'ci' already"):
        store.create("ci")
    store.revoke("ci")
    second, _ = store.create("ci")
    assert [second.id] == [entry.id for entry in store.active()]
    assert second.id == store.revoke("ci").id != first.id


def test_revoking_again_changes_nothing(store: KeyStore) -> None:
    """The time of the first one stands."""
    entry, _ = store.create("ci")
    assert store.revoke(entry.id) == store.revoke(entry.id) == store.list()[0]


def test_an_unknown_key_cannot_be_revoked(store: KeyStore) -> None:
    """A typing error must not look like success."""
    with pytest.raises(BadRequest, match="no active key 'nobody'"):
        store.revoke("nobody")


@pytest.mark.parametrize(
    "name",
    ["", " ", "a ", " a", "a\nb", "a\x1b[31m", "a\u202eb", "a\0", "x" * (NAME_MAX + 1), "key_0123456789ab"],
)
def test_an_unfit_name_is_refused(store: KeyStore, name: str) -> None:
    """Nothing that plays tricks on a terminal, nothing that looks like an id, nothing without bound."""
    with pytest.raises(BadRequest):
        store.create(name)
    with pytest.raises(BadRequest):
        store.create("fit", tenant=name)
    assert store.list() == []


def test_sql_in_a_name_stays_a_name(store: KeyStore) -> None:
    """Values are bound."""
    store.create("'; DROP TABLE keys; --")
    store.create("Zoë's key 🔑")
    assert len(store.list()) == 2


def test_the_version_changes_with_every_change_of_anyone(store: KeyStore, tmp_path: Path) -> None:
    """One's own, another process's, and a backup that is put back; else it stands still."""
    other = KeyStore(tmp_path / "keys.db")
    seen = [store.version()]
    assert seen[-1] == store.version()
    store.create("a")
    seen.append(store.version())
    other.create("b")
    seen.append(store.version())
    other.revoke("b")
    seen.append(store.version())
    other.close()
    backup = KeyStore(tmp_path / "backup.db")
    backup.create("c")
    backup.close()
    (tmp_path / "backup.db").rename(tmp_path / "keys.db")
    seen.append(store.version())
    assert seen[-1] == store.version()
    assert len(set(seen)) == 5
    assert [key.name for key in store.list()] == ["c"]


@pytest.mark.parametrize("content", [b"", bytes(4096), b"not a database"])
def test_a_damaged_file_is_an_error_and_not_an_empty_store(tmp_path: Path, content: bytes) -> None:
    """An empty one would mean: no key is asked for."""
    path = tmp_path / "keys.db"
    path.write_bytes(content)
    with pytest.raises(StoreFailed) as failure:
        KeyStore(path)
    assert failure.value.code == sqlite.DAMAGED
    assert content == path.read_bytes()


def test_a_file_that_vanishes_is_an_error_and_not_an_empty_store(store: KeyStore, tmp_path: Path) -> None:
    """Whoever polls keeps the keys that it knows."""
    store.create("a")
    (tmp_path / "keys.db").unlink()
    for ask in (store.version, store.active, store.list):
        with pytest.raises(StoreFailed, match="deleted"):
            ask()
    assert not (tmp_path / "keys.db").exists()


def test_a_file_that_vanishes_and_returns_is_heard_again(store: KeyStore, tmp_path: Path) -> None:
    """The very same file back in its place: what is revoked in it from then on is seen."""
    entry, _ = store.create("a")
    path = tmp_path / "keys.db"
    path.rename(tmp_path / "away.db")
    with pytest.raises(StoreFailed, match="deleted"):
        store.active()
    (tmp_path / "away.db").rename(path)
    other = KeyStore(path)
    other.revoke(entry.id)
    other.close()
    assert list(store.active()) == []
