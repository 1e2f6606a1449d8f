"""Whether the library that load tests count with is installed; everything else here imports it freely."""

import importlib.util

from slipstream.core.errors import MissingExtra


def require_numpy() -> None:
    """Raises `MissingExtra` with the line to type where numpy is not installed."""
    if importlib.util.find_spec("numpy") is None:
        raise MissingExtra("numpy, which load tests count with,", "testing")
