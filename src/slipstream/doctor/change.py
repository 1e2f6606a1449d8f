"""Settings with one of them changed, and the value of one, both by name. Pure."""

import msgspec

from slipstream.config import names
from slipstream.config.settings import Settings
from slipstream.config.sources import FlagSource


def changed(settings: Settings, setting: str, value: str) -> Settings:
    """The same settings but for one, given as on the command line. Raises `ConfigurationError`."""
    tree: dict[str, object] = msgspec.to_builtins(settings)
    for given in FlagSource(setting, value).given():
        if isinstance(given.value, dict):
            continue  # an entry of a table is opened; it is there
        *above, last = given.path
        inner = tree
        for part in above:
            below = inner.setdefault(part, {})
            assert isinstance(below, dict)
            inner = below
        inner[last] = given.value
    return msgspec.convert(tree, Settings)


def value_of(settings: Settings, setting: str) -> object:
    """What a setting is now. Raises `KeyError` for one that is not there."""
    inner: object = msgspec.to_builtins(settings)
    for part in names.read(setting):
        assert isinstance(inner, dict)
        inner = inner[part]
    return inner
