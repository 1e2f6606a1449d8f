"""The dashboard on a real server under load, in a real browser: right numbers, clean console, every control."""

import json
import math
import re
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from e2e.browser import Watched, chromium, watched_page
from e2e.load import asking
from e2e.serving import Serving, serving
from slipstream.core.histogram import ERROR

pytestmark = pytest.mark.browser
MODELS = "SLIPSTREAM__MODELS__SIMULATED__"
SETTINGS = {
    "SLIPSTREAM__MODELS__LOCAL__ENABLED": "off",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
    "SLIPSTREAM__MODELS__DEFAULT": "fast",
    MODELS + "FAST__TTFT_MS": "20", MODELS + "FAST__OUTPUT_TOKENS": "8", MODELS + "FAST__ITL_MS": "3",
    MODELS + "FAST__SPREAD": "0.5",
    MODELS + "SLOW__TTFT_MS": "150", MODELS + "SLOW__OUTPUT_TOKENS": "12", MODELS + "SLOW__ITL_MS": "8",
    MODELS + "SLOW__SPREAD": "0.3",
}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("dashboard"), **SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def loaded(server: Serving) -> Iterator[Serving]:
    """The server while it is asked, and for some seconds before."""
    with asking(server, models=("fast", "fast", "slow")):
        time.sleep(6)
        yield server


@pytest.fixture(scope="module")
def tab(browser: Browser, loaded: Serving) -> Iterator[Watched]:
    with watched_page(browser, loaded.url, width=1280, height=900) as watched:
        watched.page.on(
            "console", lambda said: watched.errors.append(said.text) if said.type == "error" else None
        )
        yield watched


@pytest.fixture
def board(tab: Watched) -> Iterator[Page]:
    """The page, live; whatever a test does with it, nothing forbidden may have happened."""
    yield opened(tab, "/dashboard")
    tab.assert_clean()


def opened(tab: Watched, path: str) -> Page:
    tab.page.goto(tab.base_url + path)
    tab.page.wait_for_selector("body.ready")
    expect(tab.page.locator(".tile").first.locator(".tile-value")).not_to_have_text("–", timeout=20_000)
    return tab.page


def figure(page: Page, name: str) -> Locator:
    found = page.locator(f"#chart-{name}")
    found.scroll_into_view_if_needed()
    return found


def test_overview_is_live(board: Page) -> None:
    """The guide's four metrics lead, with numbers that change by themselves, one stream behind them all."""
    tiles = board.locator(".tile")

    assert tiles.locator("h3").all_text_contents()[:4] == [
        "Response time",
        "CPU",
        "Memory",
        "Token throughput",
    ]
    expect(board.locator("#pulse")).to_have_text("Live")
    before = tiles.nth(3).locator(".tile-value").text_content()
    expect(tiles.nth(3).locator(".tile-value")).not_to_have_text(before or "", timeout=15_000)
    expect(figure(board, "response_time").locator("canvas")).to_be_visible()
    expect(figure(board, "response_time").locator("figcaption")).to_contain_text(
        re.compile(r"p50 .* p95 .* p99 .* of \d")
    )
    streams = board.evaluate(
        "performance.getEntriesByType('resource').filter(({name}) => name.endsWith('/live')).length"
    )
    assert streams <= 1


def test_requests_tell_their_steps(board: Page) -> None:
    """A row opens into the waterfall of its request, by mouse and by key; the list stands still meanwhile."""
    board.locator(".requests thead").hover()
    row = board.locator(".row-toggle").first
    row.focus()
    board.keyboard.press("Enter")

    expect(board.locator(".row-detail .wf-name").filter(has_text="Admit")).to_be_visible()
    expect(row).to_have_attribute("aria-expanded", "true")
    board.locator(".row-toggle").first.click()
    expect(board.locator(".row-detail")).to_have_count(0)


def test_filters_are_in_the_address(board: Page, tab: Watched) -> None:
    """What is filtered by is what is listed, and a reload finds it again; no match says what to do."""
    board.get_by_label("Any model").select_option("slow")
    models = board.locator(".requests .row td:nth-child(2)")
    expect(models.filter(has_text="fast")).to_have_count(0)
    assert "model=slow" in board.url
    opened(tab, board.url.removeprefix(tab.base_url))
    assert board.get_by_label("Any model").input_value() == "slow"
    board.get_by_label("Took at least").fill("999999")
    board.get_by_label("Took at least").press("Tab")
    expect(board.locator("#requests .table-note")).to_contain_text("Clear them")
    board.get_by_role("button", name="Clear").click()
    expect(board.locator(".requests .row").first).to_be_visible()


def test_dragging_zooms_all_charts_and_the_address_keeps_it(board: Page) -> None:
    """All charts show the range that was dragged over; the way back leads to live."""
    box = figure(board, "cpu").locator(".u-over").bounding_box()
    assert box is not None
    board.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    board.mouse.down()
    board.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 60, steps=4)
    board.mouse.up()
    expect(board.locator("#unzoom")).to_be_visible()
    found = re.search(r"from=(\d+)&to=(\d+)", board.url)
    assert found is not None
    start, end = (int(each) for each in found.groups())

    assert 60 <= end - start <= 180
    expect(board.locator("#pulse")).to_have_text("Zoomed")
    board.keyboard.press("r")
    expect(board.locator("#pulse")).to_have_text("Live")
    assert "from=" not in board.url
    board.go_back()
    expect(board.locator("#pulse")).to_have_text("Zoomed")


def test_click_on_a_chart_shows_its_requests(board: Page) -> None:
    """The requests of that moment are listed, and the chip that says so takes it back."""
    box = figure(board, "response_time").locator(".u-over").bounding_box()
    assert box is not None
    board.mouse.move(box["x"] + box["width"] - 12, box["y"] + 50)
    board.mouse.click(box["x"] + box["width"] - 12, box["y"] + 50)
    expect(board.locator(".filters .chip-button").first).to_contain_text("–")

    assert "since=" in board.url
    board.locator(".filters .chip-button").first.click()
    expect(board.locator(".filters .chip-button").first).to_be_hidden()


def test_every_chart_is_a_table_as_well(board: Page) -> None:
    """`t` shows all of them as tables with headings; one can be turned alone."""
    board.keyboard.press("t")
    table = figure(board, "cpu").locator("table")
    expect(table).to_be_visible()

    assert table.locator("thead th").all_text_contents() == ["Time", "server", "machine"]
    assert table.locator("tbody th[scope=row]").count() > 10
    assert "view=tables" in board.url
    expect(figure(board, "heat").locator("table")).to_be_visible()
    board.keyboard.press("t")
    expect(table).to_be_hidden()
    board.get_by_role("button", name="Memory as a table", exact=True).click()
    expect(figure(board, "memory").locator("table")).to_be_visible()


def test_keys_and_names(board: Page) -> None:
    """`?` lists the keys, `/` goes to the filters; every figure, field and button has a name."""
    board.bring_to_front()
    board.keyboard.press("?")
    expect(board.get_by_role("dialog")).to_be_visible()
    board.keyboard.press("Escape")
    expect(board.get_by_role("dialog")).to_be_hidden()
    board.keyboard.press("/")
    # Not `to_be_focused`: that asks whether the window has the focus too, which another page's may have taken.
    board.wait_for_function("() => document.activeElement.ariaLabel === 'Any model'")
    nameless = board.evaluate("""() => [...document.querySelectorAll("button, select, input, a")].filter((node) => !node.hidden
      && !(node.ariaLabel || node.textContent.trim() || node.labels?.[0]?.textContent.trim())).map((node) => node.outerHTML)""")
    assert nameless == []
    assert (
        board.locator("figure:not([hidden])").count()
        == board.locator("figure:not([hidden]) > figcaption").count()
    )


def test_alert_fires_and_can_be_silenced(board: Page, loaded: Serving) -> None:
    """A rule that holds is shown to fire, in the bar as well; a silence is shown; a mark stands in its list."""
    rule = {
        "owner": "test",
        "name": "Any time at all",
        "condition": "response_time > 1 ms",
        "severity": "warning",
    }
    posted(loaded, "/_slipstream/alerts/rules", rule)
    expect(board.locator("#firing")).to_contain_text("firing", timeout=30_000)
    row = board.locator("#alerts tbody tr", has_text="Any time at all")
    row.scroll_into_view_if_needed()
    expect(row).to_contain_text("firing", timeout=15_000)
    expect(board.locator(".events").first).to_contain_text("Any time at all", timeout=15_000)
    row.get_by_role("combobox").select_option("3600")
    expect(row.get_by_role("button")).to_contain_text("Silent for", timeout=15_000)
    row.get_by_role("button").click()
    expect(row.get_by_role("combobox")).to_be_visible(timeout=15_000)
    board.get_by_label("Mark this moment").fill("new prompt")
    board.get_by_label("Mark this moment").press("Enter")
    expect(board.locator(".events").nth(1)).to_contain_text("new prompt")


def test_hidden_page_asks_for_nothing(board: Page) -> None:
    """A page that nobody sees closes its stream, and one that is seen again goes on."""
    hide = """(hidden) => { Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange")); }"""
    board.evaluate(hide, True)
    expect(board.locator("#pulse")).to_have_text("Paused")
    board.evaluate(hide, False)
    expect(board.locator("#pulse")).to_have_text("Live")


def test_themes_redraw(board: Page) -> None:
    """The colours change with the theme, those of the canvases too."""
    colour = "() => { const c = document.querySelector('#chart-cpu canvas'); return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].reduce((a, b) => a + b, 0); }"
    figure(board, "cpu")
    light = board.evaluate(colour)
    board.get_by_role("button", name="Colours").click()
    board.get_by_role("button", name="Colours").click()

    assert board.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 21, 23)"
    assert board.evaluate(colour) != light


@pytest.mark.parametrize("width", [320, 390])
def test_phone_needs_no_sideways_scrolling(browser: Browser, loaded: Serving, width: int) -> None:
    """Everything fits; only tables scroll, inside their own box."""
    with watched_page(browser, loaded.url, width=width, height=780, touch=True) as watched:
        page = opened(watched, "/dashboard")
        page.locator(".row-toggle").first.click()

        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(
            "[...document.querySelectorAll('.bar *')].every((node) => node.getBoundingClientRect().right <= innerWidth + 1)"
        )
        watched.assert_clean()


@pytest.mark.long
def test_percentiles_are_those_of_the_records(browser: Browser, tmp_path: Path) -> None:
    """On a recorded run the page's percentiles are the exact ones of the records, within the histogram's 1.1 %."""
    with serving(tmp_path, **SETTINGS) as server, ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda number: server.ask("word", model="slow" if number % 3 == 0 else "fast"), range(240)
            )
        )
        time.sleep(3)
        end = int(time.time())
        with watched_page(browser, server.url, width=1280, height=900) as watched:
            page = opened(watched, f"/dashboard?from={end - 240}&to={end}")
            said = figure(page, "response_time").locator("figcaption").text_content() or ""
        listed: list[dict[str, int]] = []
        while not listed or len(listed) % 200 == 0:
            before = f"&before={listed[-1]['id']}" if listed else ""
            listed += server.json(f"/_slipstream/dashboard/requests?limit=200{before}")["data"]
    times = sorted(each["duration_ns"] / 1e6 for each in listed)
    units = {"ms": 1.0, "s": 1000.0}
    told = {
        name: float(value) * units[unit] for name, value, unit in re.findall(r"(p\d\d) ([\d.]+) (m?s)", said)
    }
    exact = {
        name: times[math.ceil(q * len(times)) - 1] for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
    shown = 0.005  # three digits are shown

    assert said.endswith("of 240.")
    assert len(times) == 240
    assert told == {name: pytest.approx(value, rel=ERROR + shown) for name, value in exact.items()}


def posted(server: Serving, path: str, body: dict[str, object]) -> None:
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {server.token}"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.status == 200


def test_empty_server_says_what_to_do(browser: Browser, tmp_path: Path) -> None:
    """Without a request the page says so, and how to make one; there is no number that nobody measured."""
    with (
        serving(tmp_path, **SETTINGS) as server,
        watched_page(browser, server.url, width=1280, height=900) as watched,
    ):
        watched.page.goto(server.url + "/dashboard")
        watched.page.wait_for_selector("body.ready")
        expect(watched.page.locator("#requests .table-note")).to_contain_text("No request is recorded yet")
        expect(watched.page.locator("#alerts .table-note").last).to_contain_text("No rule is watched")
        expect(watched.page.locator(".tile").first.locator(".tile-value")).to_have_text("–")
        expect(watched.page.locator("#chart-response_time .plot-empty")).to_be_visible()
        watched.page.locator("#chat-link").click()
        expect(watched.page.locator("#send[aria-label]")).to_be_visible()
        watched.page.locator("#dashboard-link").click()
        watched.page.wait_for_selector("body.ready")
        watched.assert_clean()
