"""The first stage: who is calling, and may they. Limits join here in a later version."""

from collections.abc import Callable

from slipstream.core.keys import Keyring
from slipstream.core.record import Record


class Admit:
    """Checks the caller's key against the keyring of the moment (`keyring` is asked each time)."""

    __slots__ = ("_keyring",)

    def __init__(self, keyring: Callable[[], Keyring]) -> None:
        self._keyring = keyring

    def __call__(self, secret: str, record: Record) -> None:
        """Let the caller in and note who it is, or raise `NotAllowed`."""
        entry = self._keyring().whose(secret)
        record.key_id = entry.id
        record.tenant = entry.tenant
