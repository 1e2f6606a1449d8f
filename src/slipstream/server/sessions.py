"""Who is logged in to the pages: one-time tokens that become sessions. Held in memory, by digest only.

A session is a `KeyEntry` whose secret is the value of its cookie, so that whoever checks keys checks it too.
"""

import secrets

import msgspec

from slipstream.core.keys import KeyEntry, digest

TOKENS_MAX = 16
SESSIONS_MAX = 64
TOKEN_SECONDS = 24 * 3600.0


class _Session(msgspec.Struct, frozen=True):
    entry: KeyEntry
    ends_ns: int


class Sessions:
    """Tokens that were issued and sessions that run; beyond their bounds the oldest makes room."""

    def __init__(self, session_seconds: float) -> None:
        self._session_ns = int(session_seconds * 1e9)
        self._tokens: dict[bytes, int] = {}
        self._running: dict[bytes, _Session] = {}

    def issue(self, now_ns: int) -> str:
        """A token that opens one session within a day. Shown to the person at the terminal."""
        token = secrets.token_urlsafe(32)
        _bounded(self._tokens, TOKENS_MAX - 1)
        self._tokens[digest(token)] = now_ns + int(TOKEN_SECONDS * 1e9)
        return token

    def login(self, token: str, now_ns: int) -> str | None:
        """Spend a token; the new session's cookie value, or None if the token is not known or was spent."""
        presented = digest(token)
        if self._tokens.pop(presented, 0) <= now_ns:
            return None
        cookie = secrets.token_urlsafe(32)
        key = digest(cookie)
        entry = KeyEntry(id=f"page-{key.hex()[:8]}", digest=key, tenant="local", role="admin")
        _bounded(self._running, SESSIONS_MAX - 1)
        self._running[key] = _Session(entry, now_ns + self._session_ns)
        return cookie

    def entries(self, now_ns: int) -> tuple[KeyEntry, ...]:
        """The sessions that are valid now, as keys. Forgets the others."""
        self._running = {key: one for key, one in self._running.items() if one.ends_ns > now_ns}
        return tuple(one.entry for one in self._running.values())


def _bounded(entries: dict[bytes, int] | dict[bytes, _Session], most: int) -> None:
    while len(entries) > most:
        del entries[next(iter(entries))]
