"""Scraping vLLM's and llama.cpp's metrics: what their pages say, from real HTTP servers, failures included."""

import asyncio
import contextlib
import http.server
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as some

from slipstream.core.metrics import METRICS
from slipstream.monitoring.scrape_text import GAUGES, samples, scraped
from slipstream.monitoring.upstream_scrape import UpstreamScraper, metrics_url

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen3-8B"} 3.0
vllm:num_requests_running{engine="1",model_name="Qwen/Qwen3-8B"} 4.0
vllm:num_requests_waiting{engine="0",model_name="a} b"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1000.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 250.0
vllm:num_preemptions_total{engine="0",model_name="m"} 5.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="m"} 4.0
vllm:request_queue_time_seconds_count{engine="0",model_name="m"} 20.0
vllm:request_prefill_time_seconds_sum{engine="0",model_name="m"} 1.0
vllm:request_prefill_time_seconds_count{engine="0",model_name="m"} 20.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
"""
LLAMA = """\
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
llamacpp:requests_deferred 7
llamacpp:kv_cache_usage_ratio 0.5
llamacpp:prompt_tokens_total 100 1795608000000
"""


class Upstream:
    """A page of metrics and how it is answered."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.body = VLLM
        self.asked: list[tuple[str, str | None]] = []


@contextlib.contextmanager
def serving(upstream: Upstream) -> Iterator[Upstream]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            upstream.asked.append((self.path, self.headers.get("authorization")))
            body = upstream.body.encode()
            self.send_response(upstream.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        upstream.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield upstream
        finally:
            server.shutdown()
            thread.join()


class Gauges:
    """What a scraper has set and counted."""

    def __init__(self) -> None:
        self.values: dict[str, float | None] = {}
        self.errors: Counter[str] = Counter()

    def scraper(self, url: str, key: str = "") -> UpstreamScraper:
        return UpstreamScraper("gpu-box", url, key=key, set_gauge=self.set, count=self.count)

    def set(self, gauge: str, value: float | None, upstream: str) -> None:
        assert METRICS[gauge].labels == ("upstream",)
        self.values[gauge] = value

    def count(self, name: str, upstream: str) -> None:
        self.errors[name] += 1


def test_vllm() -> None:
    """Engines are added up, of their caches the fullest counts, shares become percent."""
    seen = scraped(VLLM)
    assert seen is not None
    assert seen.since(None) == {
        "upstream_running": 7.0, "upstream_waiting": 2.0, "upstream_kv_cache_usage": 75.0,
        "upstream_preemptions": 5.0, "upstream_prefix_cache_hit_rate": 0.25,
        "upstream_queue_time": 200.0, "upstream_prefill_time": 50.0,
    }  # fmt: skip


def test_llama_cpp() -> None:
    """Its names, and a sample with a time."""
    seen = scraped(LLAMA)
    assert seen is not None
    assert seen.since(None) == {
        "upstream_running": 1.0, "upstream_waiting": 7.0, "upstream_kv_cache_usage": 50.0,
    }  # fmt: skip


def test_hit_rate_is_that_of_the_last_seconds() -> None:
    """Between two looks what came on top counts; after a restart of the upstream what it tells."""
    first = scraped(VLLM)
    more = VLLM.replace('queries_total{engine="0",model_name="m"} 1000.0', "queries_total 1100.0")
    second = scraped(more.replace('hits_total{engine="0",model_name="m"} 250.0', "hits_total 340.0"))
    assert first is not None
    assert second is not None
    assert second.since(first)["upstream_prefix_cache_hit_rate"] == pytest.approx(0.9)
    assert first.since(second)["upstream_prefix_cache_hit_rate"] == pytest.approx(0.25)
    assert "upstream_prefix_cache_hit_rate" not in first.since(first)


def test_waits_are_those_of_the_last_seconds() -> None:
    """The mean wait between two looks is that of the requests which ended between them."""
    first = scraped(VLLM)
    second = scraped(
        VLLM.replace('_sum{engine="0",model_name="m"} 4.0', "_sum 14.0").replace("} 20.0", "} 30.0")
    )
    assert first is not None
    assert second is not None
    told = second.since(first)
    assert told["upstream_queue_time"] == pytest.approx(1000.0)
    assert told["upstream_prefill_time"] == 0.0


@given(some.text(max_size=2000))
def test_any_page_is_read(text: str) -> None:
    """Whatever a server answers, reading it raises nothing and yields numbers that are none below 0."""
    assert all(value >= 0 for _, value in samples(text))
    scraped(text)


def test_every_gauge_is_declared() -> None:
    """What is set is in the table of metrics."""
    assert {METRICS[gauge].kind for gauge in GAUGES} == {"gauge"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://gpu:8000/v1", "http://gpu:8000"),
        ("http://gpu:8000/v1/", "http://gpu:8000"),
        ("https://host/llm/v1", "https://host/llm"),
        ("http://gpu:8000", "http://gpu:8000"),
    ],
)
def test_where_metrics_are(url: str, expected: str) -> None:
    """Beside the API, not below it."""
    assert metrics_url(url) == expected


def test_scraping_a_real_server() -> None:
    """Gauges are set with the upstream's key; a failure is counted and unsets them; then they are back."""
    gauges = Gauges()

    async def main(upstream: Upstream) -> None:
        scraper = gauges.scraper(upstream.url, key="secret")
        assert await scraper.look()
        assert gauges.values["upstream_running"] == 7.0
        assert upstream.asked == [("/metrics", "Bearer secret")]
        upstream.status = 503
        assert await scraper.look()
        assert set(gauges.values.values()) == {None}
        assert gauges.errors == {"upstream_scrape_errors": 1}
        upstream.status, upstream.body = 200, LLAMA
        assert await scraper.look()
        assert gauges.values["upstream_waiting"] == 7.0
        running = asyncio.create_task(scraper.run(0.01))
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    with serving(Upstream()) as upstream:
        asyncio.run(main(upstream))
    assert len(upstream.asked) > 4


@pytest.mark.parametrize(
    ("status", "body"), [(404, "no"), (401, "key?"), (200, "<html>hello</html>"), (200, "")]
)
def test_upstream_without_metrics_is_no_error(status: int, body: str) -> None:
    """A server that has none is asked again later and counts as nothing."""
    gauges = Gauges()

    async def main(upstream: Upstream) -> None:
        assert not await gauges.scraper(upstream.url).look()

    upstream = Upstream()
    upstream.status, upstream.body = status, body
    with serving(upstream):
        asyncio.run(main(upstream))
    assert gauges.errors == {}
    assert set(gauges.values.values()) == {None}


def test_upstream_that_is_not_there() -> None:
    """A connection that fails is counted."""
    gauges = Gauges()
    assert asyncio.run(gauges.scraper("http://127.0.0.1:1/v1").look())
    assert gauges.errors == {"upstream_scrape_errors": 1}
