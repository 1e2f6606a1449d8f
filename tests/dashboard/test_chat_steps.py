"""The waterfall under an answer: real steps only, all of them by name, and open for whoever wants it open."""

import ast
import re
from importlib import resources
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.backend import Scene
from e2e.browser import Watched, watched_page

pytestmark = pytest.mark.browser

SOURCES = Path(str(resources.files("slipstream")))

PANEL = "() => [...document.querySelectorAll('.timing')].map((node) => node.open)"
STRIP = """(node) => [...node.querySelectorAll('i')].map((bar) => [
  bar.className, Math.round(Number.parseFloat(bar.style.left)), Math.round(Number.parseFloat(bar.style.width))])"""


def ask(page: Page, text: str) -> None:
    """Ask, and wait until the server's record of the answer is drawn."""
    with page.expect_response(lambda response: "/_slipstream/requests/" in response.url and response.ok):
        page.locator("#question").fill(text)
        page.locator("#question").press("Enter")
        page.locator(".answer:last-child .foot").wait_for()
    expect(page.locator(".answer:last-child .strip i")).not_to_have_count(0)


def recorded_steps() -> set[str]:
    """The first arguments of every call of `step` and `add_step` on a record, in the whole package."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            name = node.args[0]
            if node.func.attr in {"step", "add_step"} and isinstance(name, ast.Constant):
                found.add(str(name.value))
    return found


def test_every_step_that_is_recorded_is_known_to_the_page(blank: Watched) -> None:
    """A step of the server has a name, a colour and a sentence on the page; a new one is not forgotten."""
    names = recorded_steps()
    assert {"admit", "wait", "back_off", "first_byte", "decode"} <= names
    nameless = blank.page.evaluate(
        """async (names) => {
          const { waterfall } = await import("/assets/waterfall.js");
          const drawn = (name) => waterfall({
            steps: [{ name, start_ns: 0, duration_ns: 1 }], duration_ns: 1, first_token_ns: null, prompt_tokens: null,
            chunk_gap_max_ns: null });
          return names.filter((name) => drawn(name).querySelector(".bar-other"));
        }""",
        ["strange", *sorted(names)],
    )

    assert nameless == ["strange"]


def test_retries_show_as_they_were(chat: Watched, scene: Scene) -> None:
    """Waiting and backing off are steps, each attempt stands for itself, parts stand below their own attempt."""
    page = chat.page
    scene.first, scene.delay = 0.2, 0.02
    scene.steps = [["wait", 100_000, 5_000_000], ["back_off", 400_000, 20_000_000]]
    scene.steps += [["open", 110_000, 90_000], ["first_byte", 210_000, 100_000]]
    ask(page, "hello")
    page.locator(".timing summary").click()

    names = page.locator(".wf-name").all_inner_texts()
    once = ["Admit", "Read", "Select", "Wait", "Back off", "Prompt", "Stream", "Decode"]
    assert sorted(names) == sorted([*once, "Open", "Open", "First byte", "First byte"])
    assert names[names.index("Prompt") - 1] == "First byte"
    assert names.index("Prompt") > names.index("Back off")
    page.locator(".wf-took").nth(names.index("Back off")).hover()
    expect(page.locator(".wf-tip")).to_contain_text("A pause before the same model is asked again.")


def test_strip_is_the_record_in_small(chat: Watched, scene: Scene) -> None:
    """A bar a step where it lay in time, none of the parts; what the browser measured is no step."""
    page = chat.page
    scene.first = scene.delay = 0.05
    ask(page, "hello")
    bars = page.locator(".strip").evaluate(STRIP)
    assert [kind for kind, *_ in bars] == ["bar-own"] * 3 + ["bar-wait"] * 2 + ["bar-stream"]
    (_, left, width), (_, begins, lasts) = bars[-2:]
    assert abs(left + width - begins) <= 2
    assert 97 <= begins + lasts <= 101
    page.locator("#question").fill("/unrecorded")
    page.keyboard.press("Enter")
    page.locator(".answer").nth(1).locator(".foot").wait_for()
    expect(page.locator(".answer:last-child .strip i")).to_have_count(0)

    expect(page.locator(".answer:last-child .strip")).to_have_count(0)  # given up: no record, no strip
    expect(page.locator(".answer:last-child .figures")).to_contain_text("to first token")


def test_open_waterfall_is_open_under_the_next_answer_too(chat: Watched) -> None:
    """Who looks at the steps sees the next answer's as they come, after a reload the latest; closed stays closed."""
    page = chat.page
    ask(page, "one")
    assert page.evaluate(PANEL) == [False]
    page.locator(".timing summary").click()
    ask(page, "two")
    expect(page.locator(".answer:last-child .wf-grid")).to_be_visible()
    assert page.evaluate(PANEL) == [True, True]
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator(".answer:last-child .wf-grid")).to_be_visible()
    page.reload()
    expect(page.locator(".answer:last-child .wf-grid")).to_be_visible()
    assert page.evaluate(PANEL) == [False, True]
    page.locator(".answer:last-child .timing summary").focus()
    page.keyboard.press("Enter")
    ask(page, "three")
    page.wait_for_timeout(100)

    assert page.evaluate(PANEL) == [False, False, False]


def test_panel_opened_before_the_record_fills_itself(chat: Watched, scene: Scene) -> None:
    """Until the record comes the panel says that it is awaited; then the steps stand in the open panel."""
    page = chat.page
    scene.record_delay = 0.4
    page.locator("#question").fill("hello")
    page.keyboard.press("Enter")
    page.locator(".timing summary").click()
    expect(page.locator(".wf-none")).to_have_text(re.compile("record is on its way"))

    expect(page.locator(".wf-grid")).to_be_visible()


def test_reload_before_the_record_fetches_it(chat: Watched, scene: Scene) -> None:
    """A reload right after the answer does not lose its steps."""
    page = chat.page
    scene.record_delay = 0.6
    page.locator("#question").fill("hello")
    page.keyboard.press("Enter")
    page.locator(".answer .foot").wait_for()
    page.reload()

    expect(page.locator(".strip i")).to_have_count(6)


def test_normal_chat_leaves_the_console_empty(chat: Watched, scene: Scene) -> None:
    """No 404 for a record that is not there yet: one request a record, and nothing to read in the console."""
    page = chat.page
    for question in ("one", "two", "a palindrome"):
        ask(page, question)
    page.reload()
    page.locator(".answer .foot").nth(2).wait_for()

    assert scene.record_polls == 3
    chat.assert_silent()


@pytest.mark.long
def test_record_that_never_comes_is_given_up(chat: Watched, scene: Scene) -> None:
    """A bounded number of requests, then the page says that these are its own figures."""
    page = chat.page
    page.locator("#question").fill("/unrecorded")
    page.keyboard.press("Enter")
    page.locator(".timing summary").click()
    expect(page.locator(".wf-none")).to_contain_text("kept no record")
    asked = scene.record_polls
    page.wait_for_timeout(1500)

    assert asked == scene.record_polls == 4


def test_steps_with_the_names_of_built_in_things(chat: Watched, scene: Scene) -> None:
    """A record may name a step as it likes."""
    scene.steps = [["constructor", 0, 10**6], ["__proto__", 0, 10**6], ["toString", 0, 10**6]]
    ask(chat.page, "hello")
    chat.page.locator(".timing summary").click()

    expect(chat.page.locator(".wf-name").filter(has_text="constructor")).to_be_visible()
    assert chat.page.locator(".wf-name").count() == 11


@pytest.mark.parametrize("width", [320, 390])
def test_strip_and_panel_on_a_phone(browser: Browser, page_server: str, scene: Scene, width: int) -> None:
    """The strip has a line of its own, the panel fits, bars keep room enough to tell them apart."""
    with watched_page(browser, page_server, width=width, height=780, touch=True) as watched:
        page = watched.open()
        page.locator("#picker").wait_for()
        ask(page, "hello")
        strip, figures = (
            page.locator(".strip").bounding_box(),
            page.locator(".timing .figures").bounding_box(),
        )
        assert strip is not None
        assert figures is not None
        assert strip["y"] >= figures["y"] + figures["height"]
        assert strip["width"] > 0.7 * width
        page.locator(".timing summary").tap()
        track = page.locator(".wf-track").first.bounding_box()
        panel = page.locator(".wf-panel").bounding_box()
        assert track is not None
        assert panel is not None
        assert panel["x"] >= 0
        assert panel["x"] + panel["width"] <= width
        assert track["width"] > 0.3 * width
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        watched.assert_silent()
