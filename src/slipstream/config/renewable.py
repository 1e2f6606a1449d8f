"""Which settings a server takes while it serves; all others wait for its next start."""

import msgspec

from slipstream.config.names import Path
from slipstream.config.settings import Settings

LOCAL_ORDERS = ("slots", "context_tokens", "threads", "prompt_cache_mib")
"""What the embedded model's process is told once: other values mean another process."""

_LOCAL = (
    *LOCAL_ORDERS,
    "system_prompt",
    "temperature",
    "repeat_penalty",
    "output_tokens",
    "start_seconds",
    "waiting",
)
_MODELS = (
    "upstreams",
    "attempts",
    "wait_seconds",
    "retry_after_seconds",
    "first_token_seconds",
    "idle_seconds",
    "total_seconds",
)
LIVE: tuple[Path, ...] = (
    *(("models", name) for name in _MODELS),
    *(("models", "local", name) for name in _LOCAL),
)
"""What a serving server takes, each with all below it."""


def is_live(path: Path) -> bool:
    """Whether a serving server takes this setting."""
    return any(path[: len(live)] == live for live in LIVE)


def merged(old: Settings, new: Settings) -> Settings:
    """The old settings with all of the new that a serving server takes."""
    local = msgspec.structs.replace(
        old.models.local, **{name: getattr(new.models.local, name) for name in _LOCAL}
    )
    models = msgspec.structs.replace(
        old.models, local=local, **{name: getattr(new.models, name) for name in _MODELS}
    )
    return msgspec.structs.replace(old, models=models)


def has_other_orders(old: Settings, new: Settings) -> bool:
    """Whether the embedded model needs another process for the new settings."""
    before, after = old.models.local, new.models.local
    return any(getattr(before, name) != getattr(after, name) for name in LOCAL_ORDERS)
