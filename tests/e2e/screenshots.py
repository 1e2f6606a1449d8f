"""Take the documentation's screenshots of the chat page from a running server.

python tests/e2e/screenshots.py http://127.0.0.1:8080 docs/screenshots
"""

import argparse
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).parents[1]))

from e2e.browser import chromium, watched_page

QUESTIONS = (
    "What is the capital of France?",
    "Write a Python function that checks whether a word is a palindrome.",
)
SHOTS = {
    "chat-light": {"width": 1120, "height": 860, "dark": False, "touch": False},
    "chat-dark": {"width": 1120, "height": 860, "dark": True, "touch": False},
    "chat-phone": {"width": 375, "height": 780, "dark": False, "touch": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base_url")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name in SHOTS:
            take(browser, options.base_url.rstrip("/"), name, options.folder / f"{name}.png")
            print(options.folder / f"{name}.png")


def take(browser: Browser, base_url: str, name: str, path: Path) -> None:
    shot = SHOTS[name]
    with watched_page(
        browser,
        base_url,
        width=shot["width"],
        height=shot["height"],
        scale=2,
        dark=shot["dark"],
        touch=shot["touch"],
    ) as watched:
        page = watched.open()
        page.set_default_timeout(120_000)
        questions = QUESTIONS[:1] if shot["touch"] else QUESTIONS
        for number, question in enumerate(questions):
            ask(page, question, number)
        page.locator(".answer .timing summary").first.click()
        page.locator(".wf-grid").wait_for()
        page.mouse.move(2, 2)
        page.locator("#scroller").evaluate("node => { node.scrollTop = 0 }")
        page.evaluate("() => document.activeElement.blur()")
        page.wait_for_timeout(300)
        page.screenshot(path=path)


def ask(page: Page, question: str, number: int) -> None:
    """Ask, and wait for the whole answer and the server's record of it."""
    page.locator("#question").fill(question)
    with page.expect_response(lambda r: "/_slipstream/requests/" in r.url and r.ok):
        page.locator("#send").click()
    page.locator(".answer:not(.streaming) .timing").nth(number).wait_for()


if __name__ == "__main__":
    main()
