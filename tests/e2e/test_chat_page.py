"""The chat page on the real server: ask, get a streamed answer, see where its time went."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from e2e.browser import Watched, chromium, watched_page
from e2e.serving import Serving, serving

pytestmark = [pytest.mark.browser, pytest.mark.model]

SIMULATED = ("--model", "sim")
SIMULATED_MODEL = {"SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "5"}
KEYS_REQUIRED = {**SIMULATED_MODEL, "SLIPSTREAM__KEYS__REQUIRED": "always"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("page")) as running:
        yield running


def test_the_capital_of_france_with_its_waterfall(browser: Browser, server: Serving) -> None:
    """The question of the empty page is answered with Paris; under it are tokens, speed and the steps."""
    with watched_page(browser, server.url) as watched:
        watched.open()
        page = watched.page
        page.fill("#question", "What is the capital of France?")
        page.keyboard.press("Enter")
        expect(page.locator(".answer .prose")).to_contain_text("Paris", timeout=60_000)
        timing = page.locator(".answer .timing summary")
        expect(timing).to_contain_text("to first token", timeout=30_000)
        expect(timing).to_contain_text("tokens/s")
        timing.click()
        names = page.locator(".wf-name")
        expect(names.filter(has_text="Admit").first).to_be_visible()
        page.fill("#question", "And of Italy?")
        page.keyboard.press("Enter")
        expect(page.locator(".answer:last-child .wf-grid")).to_be_visible(timeout=60_000)
        watched.assert_silent()


def link_of(server: Serving) -> str:
    """The latest link to log in by that the server printed, once there is one."""
    deadline = time.monotonic() + 20
    while True:
        links = [word for word in server.log.read_text().split('"') if "/login?token=" in word]
        if links:
            return links[-1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def get_in(page: Page, key: str) -> None:
    """Paste a key into the page's panel, and have a question answered."""
    page.locator("#key").fill(key)
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_have_count(0)
    page.fill("#question", "Hello")
    page.keyboard.press("Enter")
    expect(page.locator(".answer:last-child .timing summary")).to_contain_text("tokens", timeout=30_000)


def test_a_one_time_link_logs_in(browser: Browser, tmp_path: Path) -> None:
    """With a key made, the page asks for one; the link printed at the start opens it, once."""
    with serving(tmp_path, *SIMULATED, **KEYS_REQUIRED) as server:
        assert server.get("/v1/models")[0] == 401
        link = link_of(server)
        with watched_page(browser, server.url) as watched:
            page = watched.page
            page.goto(link)
            page.fill("#question", "Hello")
            page.keyboard.press("Enter")
            expect(page.locator(".answer .timing summary")).to_contain_text("tokens", timeout=30_000)
            watched.assert_silent()
        status, body = server.get("/login?" + link.partition("?")[2])
        assert (status, b"slipstream open" in body) == (401, True)


@pytest.mark.long
def test_links_and_logins_from_before_a_restart(browser: Browser, tmp_path: Path) -> None:
    """An old login or link leads to a page that says how to get in; a key made as it says does."""
    with watched_page_over_restart(browser, tmp_path) as (watched, server, old):
        page = watched.page
        page.goto(server.url)
        expect(page.get_by_role("heading", name="This server asks for a key.")).to_be_visible()
        page.goto(server.url + "/login?" + old.partition("?")[2])
        expect(page.get_by_role("heading", name="That login link is no longer good.")).to_be_visible()
        expect(page.locator(".notice-key")).to_contain_text("slipstream keys create NAME")
        get_in(page, made_key(server))
        watched.assert_clean()
        page.goto(opened(server))
        expect(page.locator("#picker")).to_be_visible()
        expect(page.locator(".notice")).to_have_count(0)


@contextlib.contextmanager
def watched_page_over_restart(browser: Browser, tmp_path: Path) -> Iterator[tuple[Watched, Serving, str]]:
    """A page that was logged in to a server that has been restarted since, and the link it had used."""
    with watched_page(browser, "http://127.0.0.1") as watched:
        with serving(tmp_path, *SIMULATED, **KEYS_REQUIRED) as server:
            old = link_of(server)
            watched.page.goto(old)
            watched.page.locator("#picker").wait_for()
            (tmp_path / "serve.log").write_text("")
        with serving(tmp_path, *SIMULATED, **KEYS_REQUIRED) as server:
            watched.base_url = server.url
            yield watched, server, old


def opened(server: Serving) -> str:
    """The link that `slipstream open` makes."""
    command = [sys.executable, "-m", "slipstream", "open", "--print"]
    done = subprocess.run(command, env=server.environ, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def made_key(server: Serving) -> str:
    """The secret of a key that `slipstream keys create` makes for this server, once the server knows it."""
    command = [sys.executable, "-m", "slipstream", "keys", "create", "browser"]
    done = subprocess.run(command, env=server.environ, capture_output=True, text=True, check=True)
    key = done.stdout.strip()
    deadline = time.monotonic() + 20
    while server.get("/v1/models", token=key)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return key


def test_a_key_made_while_the_page_is_open(browser: Browser, tmp_path: Path) -> None:
    """The open page says that a key is asked for now and where the new link stands; key and link both work."""
    with (
        serving(tmp_path, *SIMULATED, **SIMULATED_MODEL) as server,
        watched_page(browser, server.url) as watched,
    ):
        page = watched.open()
        page.locator("#picker").wait_for()
        key = made_key(server)
        link = link_of(server)
        page.fill("#question", "Hello")
        page.keyboard.press("Enter")
        expect(page.locator(".notice-key")).to_contain_text("slipstream open")
        page.locator("#key").fill(key)
        page.keyboard.press("Enter")
        expect(page.locator(".answer .timing summary")).to_contain_text("tokens", timeout=30_000)
        page.goto(link)
        expect(page.locator("#picker")).to_be_visible()
        watched.assert_clean()
