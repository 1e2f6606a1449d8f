"""Who may call: when a key is asked for, sessions of pages, and a key file that cannot be read."""

import contextlib
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.config.settings import Keys
from slipstream.core.errors import ConfigurationError, NotAllowed
from slipstream.core.keys import Keyring, keyring
from slipstream.server.access import Access, check_address, key_required
from slipstream.server.sessions import SESSIONS_MAX, TOKENS_MAX, Sessions
from slipstream.store.keys import KeyStore

SESSION_SECONDS = 5.0

RULES = st.sampled_from(["auto", "always", "never"])


def ring(access: Access) -> Keyring:
    """What a worker makes of the message."""
    message = access.message()
    return keyring(message.entries, required=message.required)


@given(RULES, st.booleans())
def test_off_loopback_a_key_is_always_required(rule: str, has_keys: bool) -> None:
    """No setting opens a public address to callers without a key."""
    assert key_required(rule, has_keys=has_keys, loopback=False)


def test_on_loopback_the_rule_decides() -> None:
    """`auto` asks for a key as soon as one exists."""
    asked = {
        (rule, has_keys): key_required(rule, has_keys=has_keys, loopback=True)
        for rule in ("auto", "always", "never")
        for has_keys in (False, True)
    }

    assert {case for case, required in asked.items() if required} == {
        ("auto", True),
        ("always", True),
        ("always", False),
    }


def test_public_address_without_a_key_is_refused() -> None:
    """The hint says how to make one."""
    check_address("192.0.2.1", has_keys=True, loopback=False)
    check_address("127.0.0.1", has_keys=False, loopback=True)
    with pytest.raises(ConfigurationError, match="there is no key yet") as refusal:
        check_address("192.0.2.1", has_keys=False, loopback=False)

    assert "slipstream keys create" in refusal.value.hint


def test_revoking_the_last_key_does_not_open_the_doors(tmp_path: Path) -> None:
    """Keys come and go while the server runs; once there was one, `auto` goes on asking."""
    store = KeyStore(tmp_path / "keys.db")
    access = Access(store, Keys(required="auto"), loopback=True, own_secret="own")
    assert ring(access).whose("").id == "local"

    entry, secret = store.create("ci")
    access.read()
    assert ring(access).whose(secret) == entry
    store.revoke("ci")
    access.read()
    with pytest.raises(NotAllowed):
        ring(access).whose(secret)
    with pytest.raises(NotAllowed):
        ring(access).whose("")
    store.close()


def test_nor_does_a_restart_after_it(tmp_path: Path) -> None:
    """That a key was ever made is kept: whoever wants open doors again says so in the settings."""
    with contextlib.closing(KeyStore(tmp_path / "keys.db")) as store:
        store.create("laptop")
        store.revoke("laptop")
        access = Access(store, Keys(required="auto"), loopback=True, own_secret="own")

        assert not access.has_keys
        assert access.required


def test_whoever_may_read_the_registration_may_call(tmp_path: Path) -> None:
    """The token of the live register is a key of its own, with or without other keys."""
    store = KeyStore(tmp_path / "keys.db")
    access = Access(store, Keys(required="always"), loopback=True, own_secret="own")

    assert ring(access).whose("own").role == "admin"
    store.close()


def test_known_keys_stand_while_the_store_cannot_be_read(tmp_path: Path) -> None:
    """A key file that is gone is shown as a failure; nobody is let in or locked out because of it."""
    store = KeyStore(tmp_path / "keys.db")
    entry, secret = store.create("ci")
    access = Access(store, Keys(required="auto"), loopback=True, own_secret="own")
    (tmp_path / "keys.db").rename(tmp_path / "elsewhere.db")

    access.read()

    assert access.failure
    assert ring(access).whose(secret) == entry
    shutil.copy(tmp_path / "elsewhere.db", tmp_path / "keys.db")
    access.read()
    assert not access.failure
    store.close()


def test_token_opens_one_session() -> None:
    """A one-time link works once; the session it opens is an admin's and ends."""
    sessions = Sessions(SESSION_SECONDS)
    token = sessions.issue(0)

    cookie = sessions.login(token, now_ns=0)

    assert cookie is not None
    assert sessions.login(token, now_ns=0) is None
    assert sessions.login("", now_ns=0) is None
    assert keyring(sessions.entries(1), required=True).whose(cookie).role == "admin"
    assert sessions.entries(int(SESSION_SECONDS * 1e9)) == ()


def test_tokens_and_sessions_are_bounded() -> None:
    """The newest count: an old one makes room."""
    sessions = Sessions(SESSION_SECONDS)
    tokens = [sessions.issue(0) for _ in range(TOKENS_MAX + 1)]
    assert sessions.login(tokens[0], now_ns=0) is None
    assert sessions.login(tokens[1], now_ns=0) is not None

    cookies = [sessions.login(sessions.issue(0), now_ns=0) or "" for _ in range(SESSIONS_MAX + 1)]
    known = keyring(sessions.entries(0), required=True)
    assert len(known.entries) == SESSIONS_MAX
    assert known.whose(cookies[-1]).id.startswith("page-")
    with pytest.raises(NotAllowed):
        known.whose(cookies[0])
