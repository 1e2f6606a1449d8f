"""The doctor's page on real servers in a real browser: a slow upstream is named, a healthy server gets a clean bill."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from e2e.browser import Watched, chromium, watched_page
from e2e.doctor_traffic import SETTINGS, traffic, two_upstreams
from e2e.serving import Serving, serving
from e2e.test_doctor_run import children as doctors
from server.waiting import wait_for
from slipstream.store.ledger import Entry, LedgerStore

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
LONG_MS = 120_000
REQUESTS = 240


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server whose upstream `west` takes fifteen times as long from token to token."""
    with two_upstreams(tmp_path_factory.mktemp("ill"), west_itl_ms=60) as server:
        traffic(server, REQUESTS, 40)
        yield server


@pytest.fixture
def page(ill: Serving, browser: Browser) -> Iterator[Page]:
    """A diagnosis of that server, which the page has asked for by itself; nothing forbidden happens meanwhile."""
    with watched_page(browser, ill.url, width=1280, height=1000) as tab:
        looked_at(tab, "/doctor?since=1h")
        yield tab.page
        tab.assert_silent()


def looked_at(tab: Watched, path: str) -> None:
    tab.page.goto(tab.base_url + path)
    tab.page.locator("#found .verdict").wait_for(timeout=LONG_MS)


def test_a_slow_upstream_is_named_with_evidence_and_a_fix(page: Page) -> None:
    """The verdict names it; so does the first cause, with its share, its evidence, and what the fix would bring."""
    expect(page.locator("#found .verdict h2")).to_contain_text("The upstream west is slow")
    first = page.locator(".cause").first
    expect(first.locator(".cause-share")).to_contain_text(re.compile(r"\d+ % of the slow requests. time"))
    expect(first.locator(".is-for")).to_have_count(2)
    expect(first.locator(".fix code").first).to_contain_text("models.upstreams.west.weight = ")
    said = first.locator(".fix").inner_text()
    assert "p95" in said or "No gain can be promised" in said
    expect(page.locator(".ruled-out dt", has_text="small cap")).to_be_visible()


def test_evidence_opens_the_waterfall_of_its_request(page: Page) -> None:
    """One at a time; a second click closes it. Keyboard as well."""
    one, other = page.locator(".cause .id-link").nth(0), page.locator(".cause .id-link").nth(1)
    one.click()
    panel = page.locator(".evidence:visible .wf-panel")
    expect(panel).to_contain_text(one.get_attribute("title") or "?")
    expect(panel).to_contain_text("Stream")
    other.focus()
    page.keyboard.press("Enter")
    expect(panel).to_contain_text(other.get_attribute("title") or "?")
    expect(one).to_have_attribute("aria-expanded", "false")
    other.click()
    expect(page.locator(".evidence:visible")).to_have_count(0)


def test_the_look_is_the_server_s_and_is_kept(page: Page, ill: Serving) -> None:
    """Opened without a window the page shows the last look, and asks for none of its own."""
    number = ill.json("/_slipstream/doctor/run")["number"]
    page.goto(ill.url + "/doctor")
    expect(page.locator("#found .verdict h2")).to_contain_text("The upstream west is slow")
    assert ill.json("/_slipstream/doctor/run")["number"] == number
    page.locator("#since").select_option("6h")
    page.locator("#look").click()
    expect(page.locator("#work")).to_be_visible()
    expect(page.locator("#work")).to_be_hidden(timeout=LONG_MS)
    assert page.url.endswith("?since=6h")
    assert ill.json("/_slipstream/doctor/run")["number"] == number + 1  # type: ignore[operator]


@pytest.mark.long
def test_what_is_cancelled_is_said_to_end_until_it_has(page: Page, ill: Serving) -> None:
    """However often the page asks meanwhile how far it is; here the doctor is held, so that its end takes long."""
    page.locator("#since").select_option("24h")
    page.locator("#look").click()
    wait_for(lambda: doctors(ill))
    (child,) = doctors(ill)
    child.suspend()
    page.locator("#cancel").click()
    expect(page.locator("#work-said")).to_have_text("ending it")
    with page.expect_response("**/_slipstream/doctor/run"), page.expect_response("**/_slipstream/doctor/run"):
        pass  # asked again, and again
    with page.expect_response("**/_slipstream/doctor/run"):
        assert page.locator("#work-said").inner_text() == "ending it"
    expect(page.locator("#work-said")).to_have_text("ending it")
    child.resume()
    expect(page.locator("#work")).to_be_hidden(timeout=LONG_MS)
    expect(page.locator("#verified h2")).to_have_text("Cancelled.")
    page.locator("#look").click()
    expect(page.locator("#work-said")).not_to_contain_text("ending")
    expect(page.locator("#work")).to_be_hidden(timeout=LONG_MS)


def test_it_fits_a_phone_in_the_dark(ill: Serving, browser: Browser) -> None:
    """Nothing but tables scrolls sideways; all links of the header can be reached."""
    with watched_page(browser, ill.url, width=390, height=844, dark=True, touch=True) as tab:
        looked_at(tab, "/doctor?since=1h")
        tab.page.locator(".id-link").first.tap()
        tab.page.locator(".evidence:visible .wf").wait_for()
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
        for name in ("Chat", "Dashboard", "Profile"):
            box = tab.page.get_by_role("link", name=name, exact=True).bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= 390
        tab.assert_silent()


@pytest.mark.long
def test_a_fix_is_applied_verified_and_written_into_the_ledger(page: Page, ill: Serving) -> None:
    """After a question that says what it costs; leaving it changes nothing, doing it shows what came of it."""
    file = ill.folder / "slipstream.toml"
    before = file.read_text("utf-8")
    expect(page.locator("#ledger-said")).to_contain_text("The ledger is empty")
    expect(page.locator("#ledger-said code")).to_have_text("slipstream doctor --apply N")
    page.locator("button.apply").first.click()
    expect(page.locator("#confirm")).to_contain_text("cost what they cost there")
    expect(page.locator("#confirm-what")).to_contain_text("models.upstreams.west.weight")
    page.locator("#confirm-no").click()
    expect(page.locator("#confirm")).to_be_hidden()
    assert file.read_text("utf-8") == before

    page.locator("button.apply").first.click()
    page.locator("#seconds").fill("6")
    page.locator("#confirm-yes").click()
    expect(page.locator("#work-said")).to_contain_text("made-up load", timeout=LONG_MS)
    expect(page.locator("button.apply").first).to_be_disabled()
    expect(page.locator("#verified .verdict h2")).to_contain_text(
        re.compile("Kept|Taken back"), timeout=LONG_MS
    )
    expect(page.locator("#verified .pair-name", has_text="p95 change")).to_be_visible()
    is_kept = "Kept" in page.locator("#verified .verdict h2").inner_text()
    assert ("weight" in file.read_text("utf-8")) == is_kept
    expect(page.locator("#ledger-said")).to_contain_text("1 fix was acted on")
    row = page.locator("#ledger tbody tr").first
    expect(row).to_contain_text("slow upstream west")
    expect(row).to_contain_text("kept" if is_kept else "rolled back")
    page.locator("#ledger summary").click()
    for side in ("before", "expected", "verified without", "verified with"):
        expect(page.locator("#ledger .figures th", has_text=side).first).to_be_visible()


def test_a_fix_that_was_interrupted_is_told(tmp_path: Path, browser: Browser) -> None:
    """The server has taken it back before it served; the ledger says so, beside a fix with all its figures."""
    figures = {
        f"{when}_{what}": 0.5
        for when in ("now", "predicted", "without", "actual")
        for what in ("p50", "cost")
    }
    what = {
        "kind": "slow_upstream",
        "subject": "west",
        "setting": "models.attempts",
        "before": "2",
        "after": "4",
    }
    file = tmp_path / "slipstream.toml"
    file.write_text("# ours\nmodels.attempts = 4\nmodels.wait_seconds = 3\n", "utf-8")
    ledger = LedgerStore(tmp_path / "data" / "doctor.db")
    ledger.add(Entry(wall_ns=10**18, state="kept", **what, **figures))
    ledger.add(Entry(wall_ns=2 * 10**18, state="applying", file=str(file), **what))
    ledger.close()
    with serving(tmp_path, **SETTINGS) as server, watched_page(browser, server.url, width=390) as tab:
        tab.page.goto(server.url + "/doctor")
        expect(tab.page.locator("#ledger .outcome")).to_have_text(["interrupted", "kept"])
        first, second = (tab.page.locator("#ledger .row-detail").nth(at) for at in (0, 1))
        expect(first).to_contain_text(
            "models.attempts` is out of the file again; what else was changed in the file since is kept"
        )
        expect(first.locator("details")).to_have_count(0)
        second.locator("summary").click()
        expect(second.locator(".figures tbody tr")).to_have_count(2)
        expect(second.locator(".figures tbody tr").first).to_contain_text("500 ms")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
        tab.assert_silent()
    assert file.read_text("utf-8") == "# ours\nmodels.wait_seconds = 3\n"


@pytest.mark.long
def test_a_healthy_server_gets_a_clean_bill(tmp_path: Path, browser: Browser) -> None:
    """Said gladly; a held loop may be named on a crowded machine, a slow upstream must not."""
    with two_upstreams(tmp_path, ttft_ms=200) as server:
        traffic(server, REQUESTS // 2, 10)
        with watched_page(browser, server.url) as tab:
            looked_at(tab, "/doctor?since=15m")
            found = server.json("/_slipstream/doctor/run")["result"]
            checks = {each["finding"]["check"] for each in found["causes"]}  # type: ignore[index]
            assert checks <= {"blocked_loop"}, found
            if not checks and not found["symptoms"]:  # type: ignore[index]
                expect(tab.page.locator(".verdict.is-well h2")).to_contain_text("the server is well")
                expect(tab.page.locator(".verdict")).to_contain_text("A clean bill")
            tab.assert_silent()


@pytest.mark.long
def test_too_few_requests_and_errors_are_said_in_words(tmp_path: Path, browser: Browser) -> None:
    """Nothing asked yet: what is needed, and where to ask; nothing looked at yet: what the button does."""
    simulated = {"SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "4"}
    with serving(tmp_path, **SETTINGS, **simulated) as server, watched_page(browser, server.url) as tab:
        tab.page.goto(server.url + "/doctor")
        expect(tab.page.locator("#found h2")).to_contain_text("What is slow")
        tab.page.locator("#look").click()
        expect(tab.page.locator("#found h2")).to_contain_text("too few to say anything", timeout=LONG_MS)
        expect(tab.page.locator("#found")).to_contain_text("No request is recorded in this window")
        expect(tab.page.locator("#ledger-said")).to_contain_text("fills it")
        tab.page.get_by_role("link", name="Profile", exact=True).click()
        tab.page.get_by_role("link", name="Doctor", exact=True).click()
        expect(tab.page.locator("#found h2")).to_contain_text("too few to say anything")
        tab.assert_silent()
