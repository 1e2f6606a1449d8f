"""Who may call: the keys of the store and the sessions of the pages, as the workers are told.

It reads the store and does not know how or when the workers hear of it.
"""

import logging
from collections.abc import Sequence
from typing import Literal

from slipstream.config.settings import Keys
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, SlipstreamError
from slipstream.core.keys import KeyEntry, digest
from slipstream.server import messages
from slipstream.server.sessions import Sessions
from slipstream.store.keys import KeyStore

_log = logging.getLogger(__name__)


def key_required(rule: Literal["auto", "always", "never"], *, has_keys: bool, loopback: bool) -> bool:
    """Whether a request must present a key. Off loopback it always must."""
    return not loopback or rule == "always" or (rule == "auto" and has_keys)


def check_address(host: str, *, has_keys: bool, loopback: bool) -> None:
    """Raise `ConfigurationError` for an address that others can reach while there is no key."""
    if not loopback and not has_keys:
        raise ConfigurationError(
            f"{host} can be reached from other machines, and there is no key yet.",
            hint="Make one with `slipstream keys create NAME`, or listen on 127.0.0.1.",
            code="public_without_key",
        )


class Access:
    """The keys and sessions that are valid now. While the store cannot be read, the last known keys stand.

    Args:
        store: the keys that were made.
        settings: the section `keys`.
        loopback: whether only this machine can reach the server.
        own_secret: the key of whoever may read the server's registration, the user it runs as.
    """

    def __init__(self, store: KeyStore, settings: Keys, *, loopback: bool, own_secret: str) -> None:
        self.sessions = Sessions(settings.session_seconds)
        self.failure = ""
        """Why the store could not be read, empty if it could."""
        self._own = KeyEntry(id="local", digest=digest(own_secret), tenant="local", role="admin")
        self._store = store
        self._rule = settings.required
        self._loopback = loopback
        self._version = store.version()
        self._keys: Sequence[KeyEntry] = tuple(store.active())
        # Once a key was made, revoking the last one must not open the doors, after a restart neither.
        self._had_keys = bool(store.list())

    @property
    def has_keys(self) -> bool:
        """Whether a valid key exists."""
        return bool(self._keys)

    @property
    def required(self) -> bool:
        """Whether a request must present a key."""
        return key_required(self._rule, has_keys=self._had_keys, loopback=self._loopback)

    def read(self) -> None:
        """Read the keys again if they changed; may block for a moment."""
        try:
            version = self._store.version()
            if version != self._version:
                self._keys, self._version = tuple(self._store.active()), version
                self._had_keys = self._had_keys or bool(self._keys)
        except SlipstreamError as error:
            if not self.failure:
                _log.error("the keys cannot be read, those known go on being valid: %s", error)
            self.failure = str(error)
        else:
            self.failure = ""

    def message(self) -> messages.Keys:
        """What a worker is told."""
        entries = (self._own, *self._keys, *self.sessions.entries(clock.monotonic_ns()))
        return messages.Keys(entries=entries, required=self.required)

    def login(self, token: str) -> str | None:
        """Spend a one-time token; the new session's cookie value, or None."""
        return self.sessions.login(token, clock.monotonic_ns())
