"""Prices: a known one to the cent, an unknown one is None."""

import datetime as dt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from slipstream.config.settings import ModelPrice, Models, Monitoring, Settings, Upstream
from slipstream.core.record import Record
from slipstream.monitoring.prices import Above, Price, PriceBook, is_hosted, price_book, snapshot

NOVEMBER_NS = 1_795_608_000 * 1_000_000_000


def record(**fields: object) -> Record:
    return Record(arrived_wall_ns=NOVEMBER_NS, upstream="openai", **fields)


def book(overrides: dict[str, Price] | None = None, host: str = "api.openai.com") -> PriceBook:
    return PriceBook({"openai": host}, overrides or {})


def test_cost_of_known_tokens() -> None:
    """Uncached, cached and output tokens each at their own price."""
    asked = record(model="gpt-4o", prompt_tokens=1_000_000, cached_tokens=400_000, output_tokens=100_000)

    assert book().cost(asked) == pytest.approx(0.6 * 2.5 + 0.4 * 1.25 + 0.1 * 10)


def test_dated_name_is_the_same_model() -> None:
    """A name with the date of its version has the price of the model, unless it has one of its own."""
    assert book().price("openai", "gpt-4o-2024-08-06") == book().price("openai", "gpt-4o")


@pytest.mark.parametrize(
    ("upstream", "model", "host"),
    [
        pytest.param("openai", "a-model-of-mine", "api.openai.com", id="unknown model"),
        pytest.param("openai", "gpt-4o", "127.0.0.1", id="a server of one's own"),
        pytest.param("openai", "gpt-4o", "evilapi.openai.com.example", id="a host that only looks alike"),
        pytest.param("sim", "gpt-4o", "api.openai.com", id="no upstream of the settings"),
    ],
)
def test_unknown_price_is_none(upstream: str, model: str, host: str) -> None:
    """What no price is known of costs None, not 0."""
    prices = book(host=host)
    asked = Record(upstream=upstream, model=model, prompt_tokens=10, output_tokens=10)

    assert prices.price(upstream, model) is None
    assert prices.cost(asked) is None


@pytest.mark.parametrize(("prompt", "output"), [(None, 5), (5, None), (None, None)])
def test_unknown_tokens_have_no_cost(prompt: int | None, output: int | None) -> None:
    """A request whose tokens nobody counted costs None."""
    assert book().cost(record(model="gpt-4o", prompt_tokens=prompt, output_tokens=output)) is None


def test_request_without_upstream_has_no_cost() -> None:
    """A refused request went to no model."""
    assert book().cost(Record(model="gpt-4o", prompt_tokens=1, output_tokens=1)) is None


def test_embeddings_cost_their_input() -> None:
    """A model without output is priced by its prompt alone."""
    asked = record(model="text-embedding-3-small", prompt_tokens=1_000_000)

    assert book().cost(asked) == pytest.approx(0.02)


def test_override_wins() -> None:
    """A price of the settings goes before the snapshot's; one for the upstream before one for all."""
    general, special = Price(1.0, 2.0), Price(3.0, 4.0)
    prices = book({"gpt-4o": general, "openai/gpt-4": special, "gpt-4": general})

    assert prices.price("openai", "gpt-4o") == general
    assert prices.price("openai", "gpt-4") == special


def test_override_prices_a_model_of_ones_own() -> None:
    """The settings price what no provider sells, and can say that it is free."""
    settings = Settings(
        models=Models(upstreams={"mine": Upstream(url="http://127.0.0.1:8000/v1")}),
        monitoring=Monitoring(
            prices={"llama": ModelPrice(input=0.5, output=1.0), "tiny": ModelPrice(input=0)}
        ),
    )
    prices = price_book(settings)
    tokens = {"upstream": "mine", "prompt_tokens": 1_000_000, "output_tokens": 1_000_000}

    assert prices.cost(Record(model="llama", **tokens)) == pytest.approx(1.5)
    assert prices.cost(Record(model="tiny", **tokens)) == 0.0


def test_long_prompts_have_their_own_price() -> None:
    """Above the provider's threshold the whole request is charged at the higher price."""
    price = Price(2.0, 10.0, 0.2, above=Above(200_000, 4.0, 15.0, 0.4))
    below = price.cost(record(prompt_tokens=200_000, output_tokens=0))
    above = price.cost(record(prompt_tokens=200_001, output_tokens=1_000))

    assert below == pytest.approx(0.4)
    assert above == pytest.approx((200_001 * 4.0 + 1_000 * 15.0) / 1e6)


def test_price_that_has_ended_is_unknown() -> None:
    """From the day on which a provider changes a price, the old one is not used any more."""
    price = Price(1.0, 1.0, until=dt.date(2026, 12, 1))
    asked = record(prompt_tokens=1, output_tokens=1)
    later = msgspec.structs.replace(asked, arrived_wall_ns=NOVEMBER_NS + 7 * 86_400 * 10**9)

    assert price.cost(asked) == pytest.approx(2e-6)
    assert price.cost(later) is None


@given(
    prompt=some.integers(0, 10**7), cached=some.integers(0, 10**8), output=some.integers(0, 10**7),
    rate=some.floats(0, 1000), cheaper=some.floats(0, 1),
)  # fmt: skip
def test_cost_is_never_negative(prompt: int, cached: int, output: int, rate: float, cheaper: float) -> None:
    """However many tokens an upstream claims were cached, nobody is paid for asking."""
    price = Price(rate, rate, rate * cheaper)
    cost = price.cost(record(prompt_tokens=prompt, cached_tokens=cached, output_tokens=output))

    assert cost is not None
    assert 0 <= cost <= (prompt + output) * rate / 1e6 * (1 + 1e-9)


def test_snapshot_is_whole() -> None:
    """The shipped prices are dated, say where they come from, and are no nonsense."""
    prices = snapshot()

    assert (prices.currency, prices.per_tokens) == ("USD", 1_000_000)
    assert prices.as_of >= dt.date(2026, 11, 1)
    for provider in prices.providers.values():
        assert provider.hosts
        assert all(source.startswith("https://") for source in provider.sources)
        assert provider.models
        for price in provider.models.values():
            assert 0 <= price.input < 1000
            assert price.output is None or 0 <= price.output < 1000
            assert price.cached is None or price.cached <= price.input


@pytest.mark.parametrize(
    ("url", "hosted"),
    [
        ("https://api.openai.com/v1", True),
        ("https://my-team.openai.azure.com/openai", True),
        ("http://127.0.0.1:8000/v1", False),
        ("https://api.openai.com.example/v1", False),
        ("nonsense", False),
    ],
)
def test_hosted_or_ones_own(url: str, hosted: bool) -> None:
    """A provider is known by its host, not by what looks like it."""
    assert is_hosted(url) is hosted


def test_names_of_callers_do_not_fill_memory() -> None:
    """Thousands of invented model names are forgotten again."""
    prices = book()
    for number in range(5000):
        assert prices.price("openai", f"invented-{number}") is None

    assert len(prices._known) <= 1024
