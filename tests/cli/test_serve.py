"""`slipstream serve`: what its flags mean and what it tells the person who started it."""

import click
import pytest

from slipstream.cli.serve import banner, upstream_names
from slipstream.config.load import load
from slipstream.config.settings import Settings
from slipstream.models.local_process import LocalAddress
from slipstream.server.supervisor import Announcement


def said(news: Announcement, settings: Settings | None = None) -> str:
    return click.unstyle(banner(news, settings or Settings()))


def test_upstream_is_named_after_its_host() -> None:
    """Several on one machine are told apart by their ports."""
    urls = ("https://api.openai.com/v1", "http://127.0.0.1:8000/v1", "http://[::1]:8001/v1")

    assert upstream_names(urls) == {
        "api.openai.com": urls[0],
        "127.0.0.1:8000": urls[1],
        "::1:8001": urls[2],
    }


@pytest.mark.parametrize(
    "urls",
    [("api.openai.com",), ("ftp://host/v1",), ("http://host:port/v1",), ("http://a/v1", "http://a/v2")],
)
def test_upstream_that_is_none_is_refused(urls: tuple[str, ...]) -> None:
    """What is no URL, and two that would get the same name."""
    with pytest.raises(click.BadParameter) as refusal:
        upstream_names(urls)

    assert refusal.value.param_hint == "--upstream"


def test_names_of_upstreams_are_settings() -> None:
    """The names that the flag makes are ones that the settings take."""
    flags = {
        f'models.upstreams."{name}".url': url
        for name, url in upstream_names(("http://127.0.0.1:8000/v1",)).items()
    }

    assert load(flags=flags).models.upstreams["127.0.0.1:8000"].url == "http://127.0.0.1:8000/v1"


def test_banner_says_what_to_open() -> None:
    """The page, the API's base URL, how far the model is, a request to copy, how to end it."""
    text = said(Announcement("http://127.0.0.1:8080", False, "", LocalAddress("loading")))

    assert "Chat page  http://127.0.0.1:8080\n" in text
    assert "http://127.0.0.1:8080/v1 " in text
    assert "smollm2-135m-instruct, loading" in text
    assert "curl -N http://127.0.0.1:8080/v1/chat/completions -H 'content-type" in text
    assert "Ctrl-C" in text


def test_banner_with_keys_shows_the_link_and_asks_for_a_key() -> None:
    """Where a key is asked for, the page is opened by its one-time link and the example sends a key."""
    settings = load(flags={"models.upstreams.up.url": "http://127.0.0.1:1/v1"})
    text = said(Announcement("http://h:1", True, "http://h:1/login?token=t", None), settings)

    assert "Chat page  http://h:1/login?token=t\n" in text
    assert "works once" in text
    assert "Bearer $SLIPSTREAM_KEY" in text
    assert "Upstream   up   http://127.0.0.1:1/v1" in text
    assert "smollm2" not in text
