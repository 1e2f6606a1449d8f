"""Take the documentation's screenshots of the page of profiles, from a server of its own with real traffic.

PYTHONPATH=$PWD/src:$PWD/tests python tests/e2e/profile_screenshots.py docs/screenshots [--seconds 60] [--all]

Embedded model, and a stage with a planted burner that one request in ten meets. `--all`: dark and 390 px too.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

from e2e.again import Asking
from e2e.browser import chromium, watched_page
from e2e.serving import Serving, serving

PLANTED = Path(__file__).with_name("planted_server.py")
SHOTS = {
    "profile-light": {"width": 1280, "height": 1000},
    "profile-dark": {"width": 1280, "height": 1000, "dark": True},
    "profile-phone": {"width": 390, "height": 844},
}
QUESTIONS = ("What is the capital of France?", "Name three rivers of Europe.", "What is a cat?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), program=(str(PLANTED),)) as server,
        contextlib.ExitStack() as traffic,
    ):
        for question in QUESTIONS:
            traffic.enter_context(Asking(server, question, max_tokens=12))
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            server.ask("planted burner", max_tokens=4)
            time.sleep(4)
        for name in SHOTS if options.all else ("profile-light",):
            take(server, name, options.folder / f"{name}.png")
            print(options.folder / f"{name}.png")


def take(server: Serving, name: str, path: Path) -> None:
    with chromium() as browser, watched_page(browser, server.url, **SHOTS[name]) as watched:
        page = watched.page
        page.goto(server.url + "/profile")
        page.locator("#use tbody tr").first.wait_for()
        page.locator("#seconds").select_option("2")
        page.locator("#start").click()
        with Asking(server, "planted burner", max_tokens=4):
            page.locator(".flame-block", has_text="burn_in_python").first.wait_for(timeout=60_000)
        page.locator("#request .slowest a").first.click()
        page.locator("#request .wf-panel").wait_for()
        time.sleep(2)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=path, full_page=True)
        watched.assert_silent()


if __name__ == "__main__":
    main()
