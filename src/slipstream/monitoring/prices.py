"""What a request costs: prices from a dated snapshot, overrides from the settings. Unknown is None, never 0.

A price belongs to a provider and a model: the provider is known by the host of the upstream's address, so
a server of your own has no price unless the settings name one. The snapshot says where each came from.
"""

import datetime as dt
import importlib.resources
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from slipstream.config.settings import ModelPrice, Settings
from slipstream.core.record import Record

SNAPSHOT = "prices-2026-11.json"
PER_TOKENS = 1_000_000
"""Prices are US dollars for this many tokens."""

_DATED = re.compile(r"(-\d{8}|-\d{4}-\d{2}-\d{2}|-latest)$")
_DAY_NS = 86_400 * 1_000_000_000
_EPOCH = dt.date(1970, 1, 1)


class Above(Struct, frozen=True):
    """The price of a whole request whose prompt is longer than `tokens`."""

    tokens: int
    input: float
    output: float | None = None
    cached: float | None = None


class Price(Struct, frozen=True):
    """US dollars for a million tokens."""

    input: float
    output: float | None = None
    """None: the model has no output to pay for (embeddings)."""
    cached: float | None = None
    """Of prompt tokens that came from the provider's cache; None: as `input`."""
    above: Above | None = None
    until: dt.date | None = None
    """The provider has announced another price from this day on, which the snapshot does not know."""

    def cost(self, record: Record) -> float | None:
        """Dollars for the tokens of a record; None where a number of tokens is not known."""
        prompt, output, cached = record.prompt_tokens, record.output_tokens, record.cached_tokens or 0
        if prompt is None or (output is None and self.output is not None):
            return None
        if self.until is not None and _day(record.arrived_wall_ns) >= self.until:
            return None
        rate: Price | Above = self
        if self.above is not None and prompt > self.above.tokens:
            rate = self.above
        cached = min(cached, prompt)
        cached_rate = rate.input if rate.cached is None else rate.cached
        dollars = (prompt - cached) * rate.input + cached * cached_rate + (output or 0) * (rate.output or 0.0)
        return dollars / PER_TOKENS


class Provider(Struct, frozen=True):
    """A provider's price list."""

    hosts: tuple[str, ...]
    sources: tuple[str, ...]
    models: dict[str, Price]

    def find(self, model: str) -> Price | None:
        """The price of a model by its name, with or without the date of its version."""
        return self.models.get(model) or self.models.get(_DATED.sub("", model))


class Snapshot(Struct, frozen=True):
    """All prices as they were on one day."""

    as_of: dt.date
    currency: str
    per_tokens: int
    made_from: str
    providers: dict[str, Provider]

    def by_host(self, host: str) -> Provider | None:
        """The provider that is reached at `host`."""
        for provider in self.providers.values():
            if any(host == own or host.endswith("." + own) for own in provider.hosts):
                return provider
        return None


@lru_cache(maxsize=1)
def snapshot() -> Snapshot:
    """The prices that this version ships with."""
    file = importlib.resources.files("slipstream.monitoring") / "data" / SNAPSHOT
    return msgspec.json.decode(file.read_bytes(), type=Snapshot)


class PriceBook:
    """Prices of the models behind the upstreams of one Slipstream. Reads the snapshot when first needed.

    Args:
        hosts: host name of each upstream, by the upstream's name.
        overrides: prices of the settings, by model or `upstream/model`; they win.
    """

    def __init__(self, hosts: Mapping[str, str], overrides: Mapping[str, Price]) -> None:
        self._hosts = hosts
        self._overrides = overrides
        self._known: dict[tuple[str, str], Price | None] = {}

    def price(self, upstream: str, model: str) -> Price | None:
        """The price of a model at an upstream; None where it is not known."""
        key = upstream, model
        if key not in self._known:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[key] = self._find(upstream, model)
        return self._known[key]

    def cost(self, record: Record) -> float | None:
        """Dollars that a record's request cost, as far as its tokens and their price are known."""
        if not record.upstream:
            return None  # it went to no model
        price = self.price(record.upstream, record.model)
        return price.cost(record) if price is not None else None

    def _find(self, upstream: str, model: str) -> Price | None:
        named = self._overrides.get(f"{upstream}/{model}") or self._overrides.get(model)
        host = self._hosts.get(upstream)
        if named is not None or host is None:
            return named
        provider = snapshot().by_host(host)
        return provider.find(model) if provider is not None else None


KNOWN_MAX = 1024
"""Prices that are remembered: the names of models come from callers."""


def is_hosted(url: str) -> bool:
    """Whether an upstream's address is that of a provider whose prices are known."""
    return snapshot().by_host(urlsplit(url).hostname or "") is not None


def price_book(settings: Settings) -> PriceBook:
    """The prices for the upstreams that the settings name."""
    hosts = {name: urlsplit(each.url).hostname or "" for name, each in settings.models.upstreams.items()}
    overrides = {name: _price(each) for name, each in settings.monitoring.prices.items()}
    return PriceBook(hosts, overrides)


def _price(given: ModelPrice) -> Price:
    return Price(given.input, given.output or None, given.cached if given.cached >= 0 else None)


def _day(wall_ns: int) -> dt.date:
    return _EPOCH + dt.timedelta(days=wall_ns // _DAY_NS)
