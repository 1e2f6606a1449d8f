"""Take the documentation's screenshots of the chat page from a running server, warmed up, on a quiet machine.

python tests/e2e/screenshots.py http://127.0.0.1:8080 docs/screenshots

A first token or a gap between tokens that took longer than `LONGEST_MS` says that something else is at work: the
picture is taken again, and after `ATTEMPTS` the script gives up without one.
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
LONGEST_MS = 400
ATTEMPTS = 12
SCALE = 1.5
SHOTS = {
    "chat-light": {"width": 1120, "height": 860, "dark": False, "touch": False},
    "chat-dark": {"width": 1120, "height": 860, "dark": True, "touch": False},
    "chat-phone": {"width": 390, "height": 780, "dark": False, "touch": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base_url")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name in SHOTS:
            path = options.folder / f"{name}.png"
            if not any(take(browser, options.base_url.rstrip("/"), name, path) for _ in range(ATTEMPTS)):
                sys.exit(f"Some token took more than {LONGEST_MS} ms: this machine is not quiet.")
            print(path)


def take(browser: Browser, base_url: str, name: str, path: Path) -> bool:
    """Take one picture; False, and none taken, where the machine was not quiet."""
    shot = SHOTS[name]
    with watched_page(
        browser,
        base_url,
        width=shot["width"],
        height=shot["height"],
        scale=SCALE,
        dark=shot["dark"],
        touch=shot["touch"],
    ) as watched:
        page = watched.open()
        page.set_default_timeout(120_000)
        questions = QUESTIONS[:1] if shot["touch"] else QUESTIONS
        for number, question in enumerate(questions):
            if ask(page, question, number) > LONGEST_MS:
                return False
        page.locator(".answer .timing summary").first.click()
        page.locator(".wf-grid").wait_for()
        page.mouse.move(2, 2)
        page.locator("#scroller").evaluate("node => { node.scrollTop = 0 }")
        page.evaluate("() => document.activeElement.blur()")
        page.wait_for_timeout(300)
        page.screenshot(path=path)
        return True


def ask(page: Page, question: str, number: int) -> float:
    """Ask, and wait for the whole answer and the server's record of it; the longest wait for a token, in milliseconds."""
    page.locator("#question").fill(question)
    with page.expect_response(lambda r: "/_slipstream/requests/" in r.url and r.ok) as record:
        page.locator("#send").click()
    page.locator(".answer:not(.streaming) .timing").nth(number).wait_for()
    measured = record.value.json()
    longest_ns: int = max(measured["first_token_ns"], measured["chunk_gap_max_ns"] or 0)
    return longest_ns / 1e6


if __name__ == "__main__":
    main()
