"""How the page looks: colours, contrast, phone width, motion."""

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.backend import Scene
from e2e.browser import Watched, watched_page

pytestmark = pytest.mark.browser

CONTRAST = """(selectors) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const colours = [];
    for (let at = node; at; at = at.parentElement) colours.unshift(getComputedStyle(at).backgroundColor);
    return colours;
  };
  return selectors.map((selector) => {
    const node = document.querySelector(selector);
    if (!node) return [selector, 0];
    const under = behind(node);
    const text = light(pixel([...under, getComputedStyle(node).color]));
    const [a, b] = [light(pixel(under)), text].sort((x, y) => y - x);
    return [selector, Math.round(((a + 0.05) / (b + 0.05)) * 100) / 100];
  });
}"""

SMALL = """() => [...document.querySelectorAll("button, summary, select")]
  .map((node) => node.getBoundingClientRect())
  .filter(({ width, height }) => width > 0 && (width < 24 || height < 24)).length"""

TEXTS = [
    ".brand-name",
    "#model",
    "#new-chat",
    ".bubble",
    ".prose p",
    ".prose a",
    ".prose th",
    ".prose blockquote p",
    ".figures",
    "#hint",
    ".hl-comment",
    ".hl-string",
    ".hl-number",
    ".hl-word",
    ".language",
    ".failure-title",
    ".failure p + p",
    ".plain-button",
    ".wf-name",
    ".wf-took",
    ".wf-tick b",
    ".wf-first b",
    ".wf-tip",
    ".facts dt",
    ".facts dd",
    ".note",
]


def fill(page: Page, scene: Scene) -> None:
    """A conversation with everything in it."""
    scene.delay = scene.first = 0.0
    for number, text in enumerate(["/long-end", "/table", "a palindrome", "/refuse"]):
        page.locator("#question").fill(text)
        page.locator("#question").press("Enter")
        page.locator(".answer:not(.streaming) .foot").nth(number).wait_for()
    page.wait_for_timeout(400)
    page.locator(".timing summary").first.click()
    page.locator(".wf-grid").wait_for()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_is_readable(browser: Browser, page_server: str, scene: Scene, dark: bool) -> None:
    """Contrast of at least 4.5 to 1 (WCAG AA) for every kind of text, in both colours."""
    with watched_page(browser, page_server, dark=dark) as watched:
        page = watched.open()
        welcome = page.evaluate(
            CONTRAST, ["#welcome h2", "#welcome h2 span", "#examples small", "#examples span"]
        )
        fill(page, scene)

        assert [found for found in welcome + page.evaluate(CONTRAST, TEXTS) if found[1] < 4.5] == []


def test_colours_follow_the_system_until_chosen(chat: Watched) -> None:
    """Auto follows the system; light and dark hold against it and survive a reload."""
    page = chat.page
    canvas = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(canvas)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(canvas)
    assert light != dark
    page.get_by_role("button", name="Colours: as the system").click()
    assert light == page.evaluate(canvas)
    page.reload()
    assert light == page.evaluate(canvas)
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Colours: light").click()
    assert dark == page.evaluate(canvas)
    page.get_by_role("button", name="Colours: dark").click()
    assert light == page.evaluate(canvas)


@pytest.mark.parametrize("width", [320, 375])
def test_phone_needs_no_sideways_scrolling(
    browser: Browser, page_server: str, scene: Scene, width: int
) -> None:
    """Long words, tables, code and model names stay inside; targets are 24 pixels or more (WCAG 2.2 AA)."""
    scene.models = [{"id": "an-upstream/with-a-very-long-model-name-" + "x" * 60}]
    scene.answers = {
        "/wide": "w" * 300
        + "\n\n`"
        + "c" * 200
        + "`\n\n|"
        + " cell |" * 20
        + "\n|"
        + "-|" * 20
        + "\n\n```\n"
        + "z" * 300
        + "\n```"
    }
    with watched_page(browser, page_server, width=width, height=700, touch=True) as watched:
        page = watched.open()
        page.locator("#picker").wait_for()
        wide = "() => ['html', '#scroller', '.bar'].map((name) => document.querySelector(name).scrollWidth)"
        assert max(page.evaluate(wide)) <= width
        fill(page, scene)
        page.locator("#question").fill("/wide")
        page.locator("#send").click()
        page.locator(".answer:not(.streaming) .foot").nth(4).wait_for()

        assert max(page.evaluate(wide)) <= width
        assert page.evaluate(SMALL) == 0
        watched.assert_clean()


def test_motion_is_stilled_where_asked(chat: Watched) -> None:
    """With reduced motion nothing moves for longer than a millisecond, nothing forever."""
    page = chat.page
    page.emulate_media(reduced_motion="reduce")
    page.locator("#question").fill("/hang")
    page.locator("#question").press("Enter")
    page.locator(".dots i").first.wait_for()
    moving = page.evaluate("""() => [...document.querySelectorAll("*")].map((node) => getComputedStyle(node))
      .filter(({ animationName, animationDuration, animationIterationCount }) => animationName !== "none"
        && (Number.parseFloat(animationDuration) > 0.001 || animationIterationCount === "infinite")).length""")

    assert moving == 0
    page.keyboard.press("Escape")
    expect(page.locator(".note")).to_be_visible()
