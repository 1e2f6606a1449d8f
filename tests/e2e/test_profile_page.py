"""The page of profiles on a real server with a planted burner, in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from e2e.again import Asking
from e2e.browser import Watched, chromium, watched_page
from e2e.serving import Serving, serving

pytestmark = pytest.mark.browser
PLANTED = Path(__file__).with_name("planted_server.py")
SETTINGS = {
    "SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "4",
    "SLIPSTREAM__MODELS__SIMULATED__SIM__TTFT_MS": "10",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("profile"), program=(str(PLANTED),), **SETTINGS) as running:
        for at in range(22):
            running.ask("planted burner" if at % 10 == 0 else "Hello")
        yield running


@pytest.fixture(scope="module")
def tab(server: Serving) -> Iterator[Watched]:
    with chromium() as browser, watched_page(browser, server.url, width=1280, height=1000) as watched:
        yield watched


@pytest.fixture
def page(tab: Watched) -> Iterator[Page]:
    """The page with its tables; whatever a test does with it, nothing forbidden may have happened."""
    tab.page.goto(tab.base_url + "/profile")
    tab.page.locator("#use tbody tr").first.wait_for()
    yield tab.page
    tab.assert_silent()


def test_the_step_that_makes_requests_slow_stands_out(page: Page) -> None:
    """Said in words, and marked in the table, whose shares are those of the server."""
    expect(page.locator("#steps-said")).to_contain_text("read stands out")
    marked = page.locator("#steps-table .is-marked")

    expect(marked).to_have_count(1)
    expect(marked.locator("th")).to_contain_text("read")
    expect(marked).to_contain_text(re.compile(r"(9\d|100) %"))


def test_stalls_and_strips_are_there(page: Page) -> None:
    """The planted line is blamed, with a link to the request's record; each loop has its strip."""
    stall = page.locator("#stalls li", has_text="burn_in_python").first

    expect(stall).to_contain_text("planted_server.py")
    assert re.fullmatch(r"/_slipstream/requests/req_\w+", stall.locator("a").get_attribute("href") or "")
    expect(page.locator(".strip-name", has_text="worker 0").first).to_be_visible()
    expect(page.locator("#use tbody")).to_contain_text("supervisor: record writer")


def test_a_profile_is_drawn_searched_and_zoomed(page: Page, server: Serving) -> None:
    """The burner is the widest block; a search says its share; a click shows it alone, and back."""
    with Asking(server, "planted burner"):
        page.locator("#seconds").select_option("2")
        page.locator("#start").click()
        block = page.locator(".flame-block", has_text="burn_in_python").first
        block.wait_for(timeout=30_000)
    page.locator("#find").fill("burn_in")
    expect(page.locator(".flame-block.is-found").first).to_be_visible()
    found = re.fullmatch(r"“burn_in”: ([\d.]+) % of the CPU time.", page.locator("#flame-tip").inner_text())
    assert found is not None
    assert float(found[1]) > 50
    wide = page.locator("#flame").bounding_box()
    before = block.bounding_box()
    block.click()
    expect(page.locator("#widen")).to_be_visible()
    after = page.locator(".flame-block.is-found").first.bounding_box()
    assert wide is not None
    assert before is not None
    assert after is not None
    assert after["width"] == pytest.approx(wide["width"], abs=2)
    page.locator("#widen").click()
    expect(page.locator("#widen")).to_be_hidden()
    assert block.bounding_box() == pytest.approx(before)


def test_the_last_profile_is_still_there_after_a_reload(page: Page) -> None:
    """Drawn again without another look at the server."""
    expect(page.locator(".flame-block", has_text="worker 0").first).to_be_visible()


def test_it_fits_a_phone(page: Page) -> None:
    """Nothing but tables scrolls sideways."""
    page.set_viewport_size({"width": 375, "height": 700})
    try:
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
    finally:
        page.set_viewport_size({"width": 1280, "height": 1000})
