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
    """The planted line is blamed, with a link to the request's waterfall; each loop has its strip."""
    stall = page.locator("#stalls li", has_text="burn_in_python").first

    expect(stall).to_contain_text("planted_server.py")
    assert re.fullmatch(r"#request=req_\w+", stall.locator("a").get_attribute("href") or "")
    expect(page.locator(".strip-name", has_text="worker 0").first).to_be_visible()
    expect(page.locator("#use tbody")).to_contain_text("supervisor: record writer")


@pytest.mark.long
def test_a_long_garbage_collection_is_there(page: Page, server: Serving) -> None:
    """In the list, as what it is, with its request; and in the strip of its process."""
    server.ask("planted garbage")
    stall = page.locator("#stalls li", has_text="a garbage collection at make_many").first
    stall.wait_for()

    expect(stall.locator(".event-kind")).to_have_text("worker 0, gc")
    stall.locator("a").click()
    expect(page.locator("#request .wf-panel .fact-id")).to_contain_text("req_")
    strip = page.locator(".strip-row", has_text="GC pauses p99, worker 0")
    expect(strip.locator(".strip-worst")).to_have_text(re.compile(r"max \d+(\.\d+)? m?s"))
    expect(strip.locator("rect").first).to_be_attached()


def test_a_profile_is_drawn_searched_and_zoomed(page: Page, server: Serving) -> None:
    """The burner is the widest block; a search says its share; a click shows it alone, and back."""
    with Asking(server, "planted burner"):
        page.locator("#seconds").select_option("2")
        page.locator("#start").click()
        block = page.locator(".flame-block", has_text="burn_in_python").first
        block.wait_for(timeout=30_000)
    said = re.compile(r"looking took [\d.]+ m?s besides, all together, and at most [\d.]+ % of a core in one")
    expect(page.locator("#flame-said")).to_contain_text(said)
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


def test_a_stall_leads_to_the_waterfall_of_its_request(page: Page, server: Serving) -> None:
    """The same bars as on the dashboard, of the record, in sight; and the same again when it is asked again."""
    page.set_viewport_size({"width": 1280, "height": 500})
    try:
        link = page.locator("#stalls li", has_text="burn_in_python").first.locator("a")
        request = (link.get_attribute("href") or "").removeprefix("#request=")
        for _ in range(2):
            link.click()
            drawn = page.locator("#request .wf-panel")
            expect(drawn.locator(".fact-id")).to_contain_text(request)
            expect(drawn.locator(".wf-tip")).to_be_in_viewport()
            page.locator("#use").scroll_into_view_if_needed()
    finally:
        page.set_viewport_size({"width": 1280, "height": 1000})

    assert drawn.locator(".wf-bar").count() == len(server.record(request)["steps"])
    expect(drawn.locator(".wf-name", has_text="Read")).to_be_visible()


@pytest.mark.long
def test_the_slowest_requests_of_the_table_are_a_click_away(page: Page) -> None:
    """Slowest first; the one that is drawn is marked, also after the page has looked again."""
    links = page.locator("#request .slowest a")

    expect(links).to_have_count(10)
    assert "ms" in links.first.inner_text() or "s" in links.first.inner_text()
    links.nth(1).click()
    expect(page.locator("#request .wf-panel .fact-id")).to_contain_text(page.url.partition("#request=")[2])
    page.locator("#find").focus()
    with page.expect_response("**/_slipstream/steps?*", timeout=15_000):
        pass
    expect(page.locator("#request .slowest [aria-current]")).to_have_count(1)
    expect(page.locator("#request .wf-panel")).to_have_count(1)


def test_an_id_is_typed_or_stands_in_the_address(page: Page, server: Serving) -> None:
    """An address can be sent to a colleague; going back shows none again; a wrong id is said to be one."""
    ids = [each["id"] for each in server.json("/_slipstream/steps")["slowest"]]
    page.goto(f"{server.url}/profile#request={ids[0]}")
    page.reload()
    told = page.locator("#request .fact-id")
    expect(told).to_contain_text(ids[0])

    field = page.locator("#request input")
    expect(field).to_have_value(ids[0])
    field.fill(f"  {ids[1]} ")
    field.press("Enter")
    expect(told).to_contain_text(ids[1])
    page.go_back()
    expect(told).to_contain_text(ids[0])

    page.locator(".skip").focus()
    page.locator(".skip").press("Enter")
    expect(told).to_contain_text(ids[0])


@pytest.mark.parametrize("wrong", ["req_0", "%", "../../status", "<b>x</b>", "ü 1"])
def test_an_id_of_nobody_is_answered_in_words(tab: Watched, wrong: str) -> None:
    """Whatever is typed becomes text and nothing else; the only noise is the refusal that was asked for."""
    page = tab.page
    page.goto(tab.base_url + "/profile")
    page.locator("#request input").fill(wrong)
    page.locator("#request form button").click()

    expect(page.locator("#request .drawn")).to_have_text(f"No record of {wrong} is kept.")
    tab.assert_clean()
    assert all("404" in each for each in tab.console)
    tab.console.clear()


def test_it_fits_a_phone(page: Page) -> None:
    """Nothing but tables scrolls sideways, with a waterfall as without."""
    page.set_viewport_size({"width": 375, "height": 700})
    page.locator("#request .slowest a").first.click()
    expect(page.locator("#request .wf-panel")).to_be_visible()
    try:
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
    finally:
        page.set_viewport_size({"width": 1280, "height": 1000})
