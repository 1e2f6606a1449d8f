"""The chat page on the real server: ask, get a streamed answer, see where its time went."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from e2e.browser import chromium, watched_page
from e2e.serving import Serving, serving

pytestmark = [pytest.mark.browser, pytest.mark.model]


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
        watched.assert_clean()


def test_a_one_time_link_logs_in(browser: Browser, tmp_path: Path) -> None:
    """With a key made, the page asks for one; the link printed at the start opens it, once."""
    with serving(tmp_path, "--model", "sim", SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS="5",
                 SLIPSTREAM__KEYS__REQUIRED="always") as server:  # fmt: skip
        assert server.get("/v1/models")[0] == 401
        link = next(
            word for word in server.log.read_text().replace('"', " ").split() if "/login?token=" in word
        )
        with watched_page(browser, server.url) as watched:
            page = watched.page
            page.goto(link)
            page.fill("#question", "Hello")
            page.keyboard.press("Enter")
            expect(page.locator(".answer .timing summary")).to_contain_text("tokens", timeout=30_000)
        assert server.get("/login?" + link.partition("?")[2])[0] == 401
