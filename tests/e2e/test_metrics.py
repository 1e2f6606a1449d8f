"""The metrics of a real server: totals over workers and their deaths, percentiles, the past, the live stream."""

import concurrent.futures
import json
import math
import os
import shutil
import signal
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import Serving, serving

from slipstream.core.histogram import ERROR
from slipstream.monitoring.slab import claim_guest, slab_folder

FOUR = {
    "SLIPSTREAM__SERVER__WORKERS": "4",
    "SLIPSTREAM__MODELS__LOCAL__ENABLED": "off",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
    "SLIPSTREAM__MODELS__SIMULATED": '{"sim": {"ttft_ms": 20, "itl_ms": 1, "spread": 0.5, "output_tokens": 8}}',
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("metrics"), **FOUR) as running:
        yield running


def window(server: Serving, metric: str, **params: str) -> dict[str, object]:
    query = urllib.parse.urlencode({"metric": metric, "window": "7000", **params})
    return server.json(f"/_slipstream/metrics/window?{query}")


def total(server: Serving, metric: str, **params: str) -> float:
    found = window(server, metric, **params)["total"]
    assert found is None or isinstance(found, int | float)
    return float(found or 0)


def eventually(holds: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def ask_many(server: Serving, count: int) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: server.ask(f"question {at}", model="sim", stream=True), range(count)))


def test_percentiles_are_those_of_the_records(tmp_path: Path) -> None:
    """What the histogram tells is within 1.1 % of the exact percentiles of the recorded requests."""
    with serving(tmp_path, **(FOUR | {"SLIPSTREAM__SERVER__WORKERS": "2"})) as server:
        ask_many(server, 200)
        time.sleep(1.5)
        records = server.json("/_slipstream/requests?limit=500")["data"]
        sketch = window(server, "response_time")["sketch"]
    assert isinstance(records, list)
    assert isinstance(sketch, dict)
    exact = sorted(each["duration_ns"] / 1e6 for each in records)

    assert sketch["count"] == len(exact) == 200
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        true = exact[math.ceil(share * len(exact)) - 1]
        assert abs(sketch[name] - true) <= true * ERROR * 1.0001


def test_totals_survive_the_death_of_a_worker(server: Serving) -> None:
    """Of four workers one is killed by -9; every request answered before and after is counted, once."""
    before = total(server, "requests")
    ask_many(server, 60)
    workers = server.json("/_slipstream/status")["workers"]
    assert isinstance(workers, list)
    os.kill(workers[1]["pid"], signal.SIGKILL)
    eventually(lambda: server.json("/_slipstream/status")["workers"][1]["restarts"] == 1)  # type: ignore[index]
    eventually(lambda: server.json("/_slipstream/status")["workers"][1]["state"] == "ready")  # type: ignore[index]
    ask_many(server, 60)

    eventually(lambda: total(server, "requests") - before >= 120)
    time.sleep(1.2)
    assert total(server, "requests") - before == 120
    assert total(server, "tokens_output", labels="model=sim") >= 120 * 8
    assert total(server, "slabs_lost") == 0
    assert total(server, "metrics_unshared") == 0


def test_slabs_that_are_deleted_cost_nothing(server: Serving) -> None:
    """Somebody empties the folder: serving goes on, and a worker that starts later finds its slab again."""
    before = total(server, "requests")
    state = Path(server.environ["SLIPSTREAM__STATE_FOLDER"])
    shutil.rmtree(next(state.glob("metrics-*")))
    ask_many(server, 20)
    eventually(lambda: len(list(state.glob("metrics-*/worker-*"))) == 4)
    workers = server.json("/_slipstream/status")["workers"]
    assert isinstance(workers, list)
    restarts = workers[2]["restarts"]
    os.kill(workers[2]["pid"], signal.SIGKILL)
    eventually(lambda: server.json("/_slipstream/status")["workers"][2]["restarts"] == restarts + 1)  # type: ignore[index]
    eventually(lambda: server.json("/_slipstream/status")["workers"][2]["state"] == "ready")  # type: ignore[index]
    ask_many(server, 20)

    eventually(lambda: total(server, "requests") - before == 40)
    assert total(server, "metrics_unshared") == 0


def test_a_hung_request_counts_before_it_ends(server: Serving) -> None:
    """In flight, and how long: while it runs, not after."""
    body = json.dumps(
        {"model": "sim", "stream": True, "max_tokens": 4000, "messages": [{"role": "user", "content": "x"}]}
    )
    request = urllib.request.Request(
        server.url + "/v1/chat/completions",
        body.encode(),
        {"content-type": "application/json", "authorization": f"Bearer {server.token}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read(10)
        eventually(lambda: window(server, "in_flight")["value"] == 1)
        eventually(lambda: float(window(server, "oldest_in_flight")["value"] or 0) >= 1000)  # type: ignore[arg-type]
    eventually(lambda: window(server, "in_flight")["value"] == 0)


def test_the_past_is_told_in_steps(server: Serving) -> None:
    """A range of a counter adds up to its total; a derived metric and groups can be asked for as well."""
    ask_many(server, 5)
    time.sleep(1.5)
    points = server.json("/_slipstream/metrics/query?metric=requests&from=-600&step=1&stat=sum")["groups"]
    assert isinstance(points, list)
    groups = server.json("/_slipstream/metrics/query?metric=ttft&by=model&stat=p50,count&from=-600")["groups"]
    assert isinstance(groups, list)
    throughput = server.json("/_slipstream/metrics/query?metric=throughput&from=-600&step=10")["groups"]
    assert isinstance(throughput, list)

    assert sum(row[1] for row in points[0]["points"]) == total(server, "requests")
    assert "sim" in [group["labels"]["model"] for group in groups]
    assert any(row[1] > 0 for row in throughput[0]["points"])


@pytest.mark.parametrize(
    "asked",
    [
        "query?metric=nonsense",
        "query?metric=requests&stat=p95",
        "query?metric=ttft&stat=q7",
        "query?metric=ttft&labels=color=red",
        "query?metric=ttft&labels={broken",
        "query?metric=ttft&step=0",
        "query?metric=ttft&step=nan",
        "query?metric=ttft&from=5&to=4",
        "query?metric=ttft&from=-86400&step=1",
        "query?metric=ttft&by=color",
        "window?metric=ttft&window=-1",
        "window?metric=ttft&window=inf",
    ],
)
def test_bad_questions_are_a_400(server: Serving, asked: str) -> None:
    """Each says what is wrong with it."""
    status, body = server.get(
        f"/_slipstream/metrics/{urllib.parse.quote(asked, safe='?=&')}", token=server.token
    )

    assert status == 400, body
    assert json.loads(body)["error"]["param"]


def test_every_declared_metric_is_named(server: Serving) -> None:
    """The page finds names, units and labels of all, those that are off included."""
    names = server.json("/_slipstream/metrics/names")["data"]
    assert isinstance(names, list)

    assert {"response_time", "cpu_usage", "cache_hit_rate", "pool_in_use"} <= {each["name"] for each in names}


def test_the_live_stream_tells_each_second(server: Serving) -> None:
    """One frame a second, with what has grown in it."""
    request = urllib.request.Request(
        server.url + "/_slipstream/metrics/live", headers={"authorization": f"Bearer {server.token}"}
    )
    frames = []
    with urllib.request.urlopen(request, timeout=30) as stream:
        server.ask("hello", model="sim")
        while len(frames) < 3:
            line = stream.readline()
            if line.startswith(b"data: "):
                frames.append(json.loads(line[6:]))
    stamps = [frame["at_ms"] for frame in frames]

    assert stamps == sorted(set(stamps))
    assert any("requests" in frame["metrics"] for frame in frames)
    assert all("cpu_limit" in frame["metrics"] for frame in frames)


def test_too_many_viewers_are_refused_and_pages_go_on(server: Serving) -> None:
    """The live stream has a bound, and even at it there is room for everything else."""
    request = urllib.request.Request(
        server.url + "/_slipstream/metrics/live", headers={"authorization": f"Bearer {server.token}"}
    )
    opened = []
    try:
        opened += [urllib.request.urlopen(request, timeout=30) for _ in range(16)]
        status, body = server.get("/_slipstream/metrics/live", token=server.token)
        assert status == 503
        assert b"watching already" in body
        assert server.get("/_slipstream/status", token=server.token)[0] == 200
    finally:
        for stream in opened:
            stream.close()


def test_another_process_may_write_metrics(server: Serving) -> None:
    """A guest claims a slab and is seen by everybody who reads the server's metrics."""
    registered = json.loads(
        next(Path(server.environ["SLIPSTREAM__STATE_FOLDER"], "live").glob("*.json")).read_bytes()
    )
    from slipstream.monitoring.meter import Meter

    guest = claim_guest(slab_folder(Path(registered["control"])))
    assert guest is not None
    Meter(guest).observe("response_time", 321.0, "app", "script")
    guest.close()

    eventually(lambda: window(server, "response_time", labels="source=app")["sketch"] is not None)
    sketch = window(server, "response_time", labels="source=app")["sketch"]
    assert isinstance(sketch, dict)
    assert sketch["p50"] == pytest.approx(321.0, rel=0.011)


@pytest.mark.long
def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """The slabs of a server are gone when it has ended, and what it counted is in its file.

    A stranger has seen none of it.
    """
    alone = FOUR | {"SLIPSTREAM__SERVER__WORKERS": "1", "SLIPSTREAM__KEYS__REQUIRED": "always"}
    with serving(tmp_path, **alone) as running:
        running.ask("hello", model="sim")
        for route in ("names", "live", "query?metric=ttft", "window?metric=ttft"):
            assert running.get(f"/_slipstream/metrics/{route}")[0] == 401
        time.sleep(2.2)
        state = Path(running.environ["SLIPSTREAM__STATE_FOLDER"])
        assert list(state.glob("metrics-*"))
        live = urllib.request.Request(
            running.url + "/_slipstream/metrics/live", headers={"authorization": f"Bearer {running.token}"}
        )
        with urllib.request.urlopen(live, timeout=30) as stream:  # somebody watches, and holds nothing up
            stream.readline()
            running.process.send_signal(signal.SIGTERM)
            running.process.wait(20)
            assert stream.read().count(b"event: frame") <= 4
        assert not list(state.glob("metrics-*"))
    from slipstream.store.series import SeriesStore

    store = SeriesStore(tmp_path / "data" / "metrics.db")
    rows = [row for each in store.series("requests") for row in store.find(each.number, 0, 2**40, 10.0)]
    store.close()

    assert sum(row.sum for row in rows) == 1
