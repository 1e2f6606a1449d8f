"""What a conversation begins with: the part of its requests that stays the same from turn to turn. Pure."""

import hashlib
import json

from slipstream.core.chat import ChatRequest, Route

PREFIX_BYTES = 32 * 1024
"""No more of the messages is read: a conversation grows at its end, so its first bytes stay as they are."""

MESSAGES_MAX = 4
_ENOUGH_BYTES = 1024
_SCAN = json.JSONDecoder().raw_decode


def conversation_of(request: ChatRequest, tenant: str) -> int | None:
    """A number that all requests of one conversation share; None for what is none (embeddings).

    It is a hash of the tenant, the system prompt and the first user message, byte for byte, and the same in
    every process. Two conversations that begin alike share it, and the prompt cache with it.
    """
    raw = request.fields.get("messages" if request.route is Route.CHAT else "prompt")
    if raw is None:
        return None
    head = bytes(memoryview(raw)[:PREFIX_BYTES])
    head = head[: _opening(head)] if request.route is Route.CHAT else head[:_ENOUGH_BYTES]
    hashed = hashlib.blake2b(tenant.encode(), digest_size=8, key=request.model.encode()[:64])
    hashed.update(head)
    return int.from_bytes(hashed.digest(), "little")


def _opening(head: bytes) -> int:
    """Where the first user message ends in an array of messages; all of it where that is not seen."""
    text = head.decode("latin-1")  # a byte a character: positions stay, and nothing is read but the roles
    place = 1
    for _ in range(MESSAGES_MAX):
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        try:
            message, place = _SCAN(text, place)
        except (ValueError, RecursionError):
            break
        if not isinstance(message, dict) or message.get("role") == "user":
            return place
    return len(text)
