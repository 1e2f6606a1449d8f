"""`/metrics` and the summary of a running server: who may read, and that totals are those of what was asked."""

import threading
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.serving import Serving, serving

SIMULATED = {
    "SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "6",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
    "SLIPSTREAM__MONITORING__PRICES__SIM__INPUT": "1000.0",
    "SLIPSTREAM__MONITORING__PRICES__SIM__OUTPUT": "2000.0",
}
PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "text/plain;version=0.0.4;q=0.3"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("exports"), "--workers", "2", **SIMULATED) as running:
        yield running


def scraped(server: Serving) -> dict[str, float]:
    """Totals by family name."""
    status, body = server.get("/metrics")
    assert status == 200, body
    return {
        family.name: sum(sample.value for sample in family.samples)
        for family in text_string_to_metric_families(body.decode())
        if family.type in {"counter", "gauge"}
    }


def summary(server: Serving) -> dict[str, object]:
    return server.json("/_slipstream/metrics/summary?fresh=1")


def test_totals_are_those_of_what_was_asked(server: Serving) -> None:
    """After 40 requests over two workers the scrape has 40 more, with their tokens and their cost."""
    summary(server)
    before = scraped(server)
    threads = [
        threading.Thread(target=lambda: [server.ask("Hello there", model="sim") for _ in range(10)])
        for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    seen = summary(server)
    after = scraped(server)

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown("slipstream_requests") == 40
    assert grown("slipstream_tokens_output") == 240
    expected = (grown("slipstream_tokens_input") * 1000 + 240 * 2000) / 1e6
    assert grown("slipstream_cost_usd") == pytest.approx(expected)
    assert seen["tokens"]["output"] == after["slipstream_tokens_output"]
    assert seen["latency"]["count"] >= 40


def test_resources_are_told(server: Serving) -> None:
    """CPU, memory and processes of the whole tree."""
    summary(server)
    summary(server)
    told = scraped(server)

    assert told["slipstream_processes"] >= 3
    assert 0 < told["slipstream_memory_usage_ratio"] < 1
    assert told["slipstream_cpu_usage_ratio"] >= 0
    assert told["slipstream_memory_bytes"] > 20e6


@pytest.mark.parametrize(
    ("accept", "is_protobuf"),
    [
        (PROTOBUF, True),
        (PROTOBUF.replace("0.3", "1.0"), True),
        (PROTOBUF.replace("delimited", "delimited;q=0.2"), False),
        (PROTOBUF.replace("delimited", "text"), False),
        (PROTOBUF.replace("delimited", "delimited;q=x"), False),
        ("text/plain;version=0.0.4", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_protobuf_where_it_is_asked_for(server: Serving, accept: str, is_protobuf: bool) -> None:
    """A scraper that prefers the protobuf format gets it, any other gets text."""
    status, body = server.get("/metrics", headers={"accept": accept})

    assert status == 200
    assert b"slipstream_requests_begun_total" in body
    assert body.startswith(b"# HELP") is not is_protobuf


def test_with_keys_only_admins_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where keys are asked for, metrics need one; the key of this machine's own commands will do."""
    with serving(tmp_path_factory.mktemp("keyed"), SLIPSTREAM__KEYS__REQUIRED="always", **SIMULATED) as keyed:
        for path in ("/metrics", "/_slipstream/metrics/summary"):
            assert keyed.get(path)[0] == 401
            assert keyed.get(path, token="wrong")[0] == 401
            assert keyed.get(path, token=keyed.token)[0] == 200
