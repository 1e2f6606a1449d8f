"""Take the documentation's screenshots of the doctor's page, from a server of its own with a slow upstream.

PYTHONPATH=$PWD/src:$PWD/tests python tests/e2e/doctor_screenshots.py docs/screenshots [--requests 600]
"""

import argparse
import tempfile
from pathlib import Path

from e2e.browser import chromium, watched_page
from e2e.doctor_traffic import traffic, two_upstreams
from e2e.serving import Serving

LOOKS = {
    "dark": {"width": 1180, "height": 900, "dark": True},
    "phone": {"width": 390, "height": 844, "touch": True, "scale": 2},
    "light": {"width": 1180, "height": 900},
}
LONG_MS = 240_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--verify", type=int, default=60)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        two_upstreams(Path(folder), ttft_ms=120, east_itl_ms=8, west_itl_ms=70) as server,
    ):
        traffic(server, options.requests, 30)
        for name in LOOKS:
            take(server, name, options.folder, options.verify)


def take(server: Serving, name: str, folder: Path, verify: int) -> None:
    """One look; the last one applies the fix as well: afterwards there is nothing left to find."""
    with chromium() as browser, watched_page(browser, server.url, **LOOKS[name]) as watched:
        page = watched.page
        page.goto(server.url + "/doctor?since=15m")
        page.locator(".verdict h2").wait_for(timeout=LONG_MS)
        page.locator(".cause").first.wait_for(timeout=LONG_MS)
        page.wait_for_timeout(500)  # buttons fade into their colours
        page.screenshot(path=folder / f"doctor-{name}.png")
        page.locator(".id-link").first.click()
        page.locator(".evidence .wf").first.wait_for()
        page.screenshot(path=folder / f"doctor-{name}-whole.png", full_page=True)
        watched.assert_silent()
        if name == "light":
            page.locator("button.apply").first.click()
            page.locator("#seconds").fill(str(verify))
            page.screenshot(path=folder / "doctor-confirm.png")
            page.locator("#confirm-yes").click()
            page.locator("#work").wait_for()
            page.wait_for_timeout(6_000)
            page.screenshot(path=folder / "doctor-working.png")
            page.locator("#verified .verdict").wait_for(timeout=LONG_MS)
            page.screenshot(path=folder / "doctor-verified.png", full_page=True)
        watched.assert_clean()


if __name__ == "__main__":
    main()
