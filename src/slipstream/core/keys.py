"""Keys as data: what is known of one, and who a presented secret belongs to. Secrets are never held."""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from slipstream.core.errors import NotAllowed

PREFIX = "sk-slip-"
"""Every key of ours begins so, that it is recognised in a log or a repository."""


class KeyEntry(Struct, frozen=True):
    """One key as it is stored: by digest. `id` is short, public and safe to show."""

    id: str
    digest: bytes
    """SHA-256 of the whole secret."""
    tenant: str = "default"
    role: Literal["user", "admin"] = "user"


LOCAL = KeyEntry(id="local", digest=b"", tenant="local", role="admin")
"""Who calls where no key is asked for: somebody on this machine."""


def digest(secret: str) -> bytes:
    """What is stored of a secret. The secrets are 256 random bits, so one SHA-256 is enough."""
    return hashlib.sha256(secret.encode()).digest()


class Keyring(Struct, frozen=True):
    """All keys that are valid now. Replaced whole when one is made or revoked."""

    entries: dict[bytes, KeyEntry]
    required: bool

    def whose(self, secret: str) -> KeyEntry:
        """The entry a presented secret belongs to.

        Raises `NotAllowed` for a wrong secret and for none where keys are required; elsewhere it is `LOCAL`.
        """
        if secret:
            found = self.entries.get(presented := digest(secret))
            if found is not None and hmac.compare_digest(found.digest, presented):
                return found
            if self.required:
                raise NotAllowed(
                    "The API key is not known here, or was revoked.",
                    hint="See `slipstream keys list`, or make one with `slipstream keys create NAME`.",
                )
        if self.required:
            raise NotAllowed(
                "This server asks for an API key.",
                hint="Send `Authorization: Bearer KEY`; make one with `slipstream keys create NAME`.",
                code="missing_api_key",
            )
        return LOCAL


def keyring(entries: Iterable[KeyEntry], *, required: bool) -> Keyring:
    """A keyring of `entries`."""
    return Keyring({entry.digest: entry for entry in entries}, required)
