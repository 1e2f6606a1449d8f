"""Take the documentation's screenshots of the dashboard, from a server of its own under a little load.

PYTHONPATH=$PWD/src:$PWD/tests python tests/e2e/dashboard_screenshots.py docs/screenshots [--minutes 6]
"""

import argparse
import tempfile
import time
from pathlib import Path

from e2e.browser import chromium, watched_page
from e2e.load import asking
from e2e.serving import Serving, serving

MODELS = "SLIPSTREAM__MODELS__SIMULATED__"
SETTINGS = {
    "SLIPSTREAM__MODELS__LOCAL__ENABLED": "off",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
    "SLIPSTREAM__MODELS__DEFAULT": "fast",
    MODELS + "FAST__TTFT_MS": "60", MODELS + "FAST__OUTPUT_TOKENS": "30", MODELS + "FAST__ITL_MS": "8",
    MODELS + "FAST__SPREAD": "0.4",
    MODELS + "THOROUGH__TTFT_MS": "250", MODELS + "THOROUGH__OUTPUT_TOKENS": "60", MODELS + "THOROUGH__ITL_MS": "12",
    MODELS + "THOROUGH__SPREAD": "0.4",
}  # fmt: skip
SHOTS = {
    "dashboard-light": ({"width": 1280, "height": 1000}, "#now"),
    "dashboard-dark": ({"width": 1280, "height": 1000, "dark": True}, "#latency"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=6.0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), **SETTINGS) as server,
        asking(server, threads=6, pause_seconds=0.8, models=("fast", "fast", "thorough")),
    ):
        time.sleep(options.minutes * 60)
        for name in SHOTS:
            take(server, name, options.folder / f"{name}.png")
            print(options.folder / f"{name}.png")


def take(server: Serving, name: str, path: Path) -> None:
    look, part = SHOTS[name]
    with chromium() as browser, watched_page(browser, server.url, **look) as watched:
        page = watched.page
        page.goto(server.url + "/dashboard")
        page.wait_for_selector("body.ready")
        page.locator(part).scroll_into_view_if_needed()
        page.evaluate("(part) => document.querySelector(part).scrollIntoView()", part)
        time.sleep(3)
        page.screenshot(path=path)
        watched.assert_clean()


if __name__ == "__main__":
    main()
