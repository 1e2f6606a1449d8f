"""How long the dashboard takes to open with a million requests stored, beside an empty store.

    PYTHONPATH=$PWD/tests python bench/dashboard_open.py [--requests 1000000] [--openings 5] [--json FILE]

Two servers, one over a store with that many requests of the last week, one over an empty one, both with
a simulated model that is asked a little. A headless Chromium opens the dashboard of each, in turn, with
nothing cached; what is measured is the time from the navigation to the page that shows its charts and
requests. The filters that read most are timed as well. Medians; the ratio is what counts.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser

from e2e.browser import chromium, watched_page
from e2e.serving import Serving, serving
from slipstream.core.record import Record, Step
from slipstream.store.records import RecordStore

WEEK_NS = 7 * 86_400 * 10**9
BATCH = 5_000
SETTINGS = {
    "SLIPSTREAM__MODELS__LOCAL__ENABLED": "off",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
    "SLIPSTREAM__MODELS__DEFAULT": "fast",
    "SLIPSTREAM__MODELS__SIMULATED__FAST__TTFT_MS": "20",
    "SLIPSTREAM__RECORD__KEEP_BYTES": str(16 * 10**9),
}
FILTERS = {
    "newest": "limit=20",
    "model": "limit=20&model=model-3",
    "failed": "limit=20&outcome=failed",
    "longer than 4 s": "limit=20&min_ms=4000",
    "longer than ever": "limit=20&min_ms=999999",
    "one hour, three days ago": "limit=20&from={start}&to={end}",
    "failed of a model, longer than ever": "limit=20&outcome=failed&model=model-3&min_ms=999999",
}


def fill(path: Path, count: int) -> float:
    """Store so many requests; the seconds it took."""
    began = time.perf_counter()
    chance, now = random.Random(1), time.time_ns()
    path.parent.mkdir(parents=True, exist_ok=True)
    store = RecordStore(path)
    steps = [
        Step("admit", 0, 40_000),
        Step("read", 50_000, 60_000),
        Step("open", 120_000, 10**8),
        Step("relay", 10**8, 10**9),
    ]
    for start in range(0, count, BATCH):
        batch = []
        for number in range(start, min(start + BATCH, count)):
            took = int(chance.lognormvariate(20, 0.7))
            batch.append(
                Record(
                    id=f"req_{number:032x}", arrived_wall_ns=now - WEEK_NS + number * (WEEK_NS // count), route="chat/completions",
                    key_id="local", tenant="local", model_asked=f"model-{number % 5}", model=f"model-{number % 5}", upstream="up",
                    stream=True, request_bytes=900, response_bytes=9000, prompt_tokens=200, output_tokens=120,
                    first_token_ns=took // 5, last_token_ns=took, chunks=120, duration_ns=took, attempts=1,
                    outcome="failed" if chance.random() < 0.01 else "served", status=200, steps=steps,
                )
            )  # fmt: skip
        store.insert(batch)
    store.optimize()
    store.close()
    return time.perf_counter() - began


def open_page(browser: Browser, server: Serving) -> dict[str, float]:
    """Milliseconds from the navigation: until the page is built and until it shows its requests."""
    with watched_page(browser, server.url, width=1280, height=900) as watched:
        watched.page.goto(server.url + "/dashboard", wait_until="commit")
        watched.page.wait_for_selector("body.ready")
        ready = watched.page.evaluate("performance.now()")
        asked = "performance.getEntriesByType('resource').filter(({name}) => name.includes('/dashboard/')).map(({name, duration}) => [name.split('/dashboard/')[1].split('?')[0], duration])"
        parts = dict(watched.page.evaluate(asked))
        assert watched.page.locator("#chart-cpu canvas").count() == 1
        watched.assert_clean()
    return {"open": ready, "series": parts.get("series", 0.0), "requests": parts.get("requests", 0.0)}


def list_requests(server: Serving) -> dict[str, float]:
    """Milliseconds that each filter takes, median of three."""
    end = int(time.time()) - 3 * 86_400
    took = {}
    for name, query in FILTERS.items():
        times = []
        for _ in range(3):
            began = time.perf_counter()
            server.json("/_slipstream/dashboard/requests?" + query.format(start=end - 3600, end=end))
            times.append((time.perf_counter() - began) * 1e3)
        took[name] = statistics.median(times)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--openings", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        full, empty = Path(folder, "full"), Path(folder, "empty")
        for each in (full, empty):
            each.mkdir()
        filled = fill(full / "data" / "records.db", options.requests)
        print(
            f"filled {options.requests:,} requests in {filled:.0f} s, {(full / 'data' / 'records.db').stat().st_size / 1e6:.0f} MB"
        )
        with serving(full, **SETTINGS) as one, serving(empty, **SETTINGS) as other, chromium() as browser:
            for server in (one, other):
                for _ in range(5):
                    server.ask("Hello")
            opened: dict[str, list[dict[str, float]]] = {"full": [], "empty": []}
            for _ in range(options.openings):
                opened["full"].append(open_page(browser, one))
                opened["empty"].append(open_page(browser, other))
            listed = {"full": list_requests(one), "empty": list_requests(other)}
    median = {
        name: {part: statistics.median(each[part] for each in runs) for part in runs[0]}
        for name, runs in opened.items()
    }
    result = {
        "requests": options.requests,
        "openings": options.openings,
        "load_average": [load_before, os.getloadavg()[0]],
        "cores": os.cpu_count(),
        "ms": median,
        "ratio": median["full"]["open"] / median["empty"]["open"],
        "filters_ms": listed,
    }
    for name, parts in median.items():
        print(f"{name:>6}  " + "  ".join(f"{part} {ms:7.0f} ms" for part, ms in parts.items()))
    print(f"ratio   {result['ratio']:.2f}")
    for name, ms in listed["full"].items():
        print(f"  {name:<40} {ms:8.1f} ms   empty {listed['empty'][name]:6.1f} ms")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
