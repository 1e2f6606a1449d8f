"""What a result becomes outside: JSON, CSV, a page, and the tables of other tools."""

import csv
import hashlib
import re
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.errors import BadRequest, ConfigurationError
from slipstream.testing.load.config import LoadConfig
from slipstream.testing.load.definitions import told_as
from slipstream.testing.load.export import COLUMNS, as_json, write_csv, write_json
from slipstream.testing.load.limit import conclude
from slipstream.testing.load.limit_html import limit_page
from slipstream.testing.load.limit_words import in_words
from slipstream.testing.load.report_html import page
from slipstream.testing.load.result import LoadResult
from slipstream.testing.load.results import find
from slipstream.testing.load.run import Meters, RunResult
from slipstream.testing.load.samples import ERRORS, Samples
from slipstream.testing.load.search import Probe
from slipstream.testing.load.summary import summarize
from slipstream.testing.load.svg import Axes, Line, chart

MS = 1_000_000
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta"}


def measured(
    count: int = 40, *, target: str = "http://t", lag_ms: float = 0.0, failed: int = 0
) -> LoadResult:
    """Requests every 50 ms: sent 1 ms late, first token after 20 ms, four tokens 10 ms apart, done 5 ms later."""
    columns: dict[str, object] = {name: np.zeros(count, np.int64) for name in Samples.__struct_fields__}
    intended = np.arange(count, dtype=np.int64) * 50 * MS
    sent = intended + MS
    error = np.array([ERRORS.index("timeout")] * failed + [0] * (count - failed), np.uint8)
    answered = error == 0
    columns |= {
        "intended_ns": intended,
        "sent_ns": sent,
        "first_byte_ns": sent + 10 * MS,
        "first_content_ns": np.where(answered, sent + 20 * MS, -1),
        "last_content_ns": np.where(answered, sent + 50 * MS, -1),
        "done_ns": sent + 55 * MS,
        "chunks": np.full(count, 4, np.int32),
        "output_tokens": np.where(answered, 4, -1).astype(np.int32),
        "prompt_tokens": np.full(count, 9, np.int32),
        "cached_tokens": np.full(count, -1, np.int32),
        "error": error,
        "phase": np.zeros(count, np.uint8),
        "gap_starts": np.arange(count, dtype=np.int64) * 3,
        "gap_counts": np.full(count, 3, np.int32),
        "gaps_ns": np.full(count * 3, 10 * MS, np.int32),
        "request_rows": np.zeros(0, np.int64),
        "request_ids": (),
    }
    meters = Meters(
        lag_p50_ns=0, lag_p99_ns=lag_ms * MS, lag_max_ns=lag_ms * MS, loop_lag_p99_ns=0, loop_lag_max_ns=0,
        cpu_shares=(0.1,), steal_share=0.0, gc_pauses=0, gc_pause_max_ns=0, gc_pause_total_ns=0, cap_hits=0,
        planned=count, sent=count, waiting=0, delivered_share=1.0, sent_bytes=1, received_bytes=1, connections=1,
        gaps_beyond=0, gap_histogram=np.zeros(0, np.int64), workers_lost=0,
    )  # fmt: skip
    samples = Samples(**columns)
    run = RunResult(
        samples=samples, meters=meters, started_wall_ns=1_700_000_000_000_000_000, duration_ns=2_000 * MS,
        plan_ns=2_000 * MS, stopped="finished",
    )  # fmt: skip
    config = LoadConfig(requests_per_second=20, duration=2)
    return LoadResult(summarize(run, config, target=target, time_scale=1.0), samples)


def test_json_is_read_back(tmp_path: Path) -> None:
    """The JSON is the whole result, without NaN; an exported file can be shown like a stored result."""
    result = measured()
    write_json(result, tmp_path / "r.json")
    again = find(str(tmp_path / "r.json"), msgspec.convert({"data_folder": str(tmp_path)}, type=_settings()))

    assert "NaN" not in as_json(result)
    assert again.p50_response_time == result.p50_response_time
    assert again.summary == result.summary


def _settings() -> type:
    from slipstream.config.settings import Settings

    return Settings


def test_csv_has_a_row_a_request(tmp_path: Path) -> None:
    """Times to the microsecond, empty where there is none, errors by name."""
    write_csv(measured(failed=1), tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 40
    assert (rows[0]["error"], rows[0]["ttft_ms"], rows[0]["output_tokens"]) == ("timeout", "", "")
    assert (rows[1]["response_ms"], rows[1]["service_ms"]) == ("56.0000", "55.0000")
    assert (rows[1]["ttft_ms"], rows[1]["itl_ms"]) == ("20.0000", "10.0000")


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_json(measured(), tmp_path / "none" / "r.json")
    with pytest.raises(BadRequest, match="stored result"):
        write_csv(LoadResult(measured().summary), tmp_path / "r.csv")


TOLD = {
    "vllm": {"Mean TTFT (ms)": 20, "Mean TPOT (ms)": 35 / 3, "Mean ITL (ms)": 10, "Mean E2EL (ms)": 55},
    "aiperf": {
        "Time to First Token avg (ms)": 20, "Request Latency avg (ms)": 50, "Inter Token Latency avg (ms)": 10,
        "Inter Chunk Latency p50 (ms)": 10, "Request Count": 39,
    },
    "guidellm": {"TTFT Mean (ms)": 20, "ITL Mean (ms)": 10, "TPOT Mean (ms)": 50 / 4, "Request Latency Mean (ms)": 55},
}  # fmt: skip


@pytest.mark.parametrize("tool", TOLD)
def test_other_tools_words(tool: str) -> None:
    """One run, each tool's own definition of the same name; failed requests are in none."""
    samples = measured(failed=1).samples
    assert samples is not None
    rows = {row.name: row.value for row in told_as(tool, samples)}

    for name, value in TOLD[tool].items():
        assert rows[name] == pytest.approx(value), name
    rate = next(
        value for name, value in rows.items() if name.lower().startswith(("request thr", "requests/s"))
    )
    assert rate == pytest.approx(39 / (38 * 0.05 + 0.055))


def test_a_tool_without_a_table_is_told() -> None:
    with pytest.raises(BadRequest, match="vllm"):
        told_as("jmeter", Samples.empty())
    assert all(row.value in {None, 0.0} for row in told_as("vllm", Samples.empty()))


class Tags(HTMLParser):
    """Checks that every element is closed, and keeps what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("result", [measured(), measured(failed=40), measured(failed=3, lag_ms=50)])
def test_the_page_is_whole_and_loads_nothing(result: LoadResult) -> None:
    """Well-formed, no script, no address, and a policy that allows its own style only."""
    text = page(result)
    tags = Tags()
    tags.feed(text)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()

    assert tags.open == []
    assert not tags.tags & {"script", "img", "link", "iframe", "object"}
    assert not {"src", "href", "style", "onload"} & {name for name, _ in tags.attributes}
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in text
    assert ("INVALID" in text) is not result.valid
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def probe(users: int, *, bad: bool = False) -> Probe:
    return Probe(
        users=users, good=10 if bad else 100, count=100, errors=2 if bad else 0, throughput=min(users, 8) * 20.0,
        goodput=1.0, service_ms_mean=50.0, response_ms_p50=50.0, response_ms_p95=60.0,
        verdict="bad" if bad else "good", error_kinds={"http_5xx": 2} if bad else {},
    )  # fmt: skip


@pytest.mark.parametrize("counts", [(), (1,), (1, 2, 4, 8, 16)])
def test_the_page_of_a_limit_is_whole(counts: tuple[int, ...]) -> None:
    """From no probe at all to a whole search: well-formed, no script, each probe in its table."""
    probes = [probe(each, bad=each > 8) for each in counts]
    found = conclude(probes, target="http://<b>", objectives=("ttft<=9ms",), wanted=0.95, error_threshold=5)
    text = limit_page(found)
    tags = Tags()
    tags.feed(text)

    assert tags.open == []
    assert "b" in tags.tags  # of the cards, none of the target
    assert "http://&lt;b&gt;" in text
    assert not {"src", "href", "style"} & {name for name, _ in tags.attributes}
    assert text.count("</td><td>") >= 7 * len(counts)
    assert ("<circle" in text) is bool(counts)


def test_a_limit_that_is_not_known() -> None:
    """Stopped before the first probe was over: nothing is claimed."""
    found = conclude([], target="http://t", objectives=(), wanted=0.95, error_threshold=5)

    assert "not known" in in_words(found)[0]
    assert "Saturated: not known." in in_words(found)


def test_the_page_escapes_what_it_shows() -> None:
    """A target's name is text, whatever is in it."""
    text = page(measured(target="http://t/<script>alert('x')</script>\"&"))

    assert "<script" not in text
    assert "&lt;script&gt;" in text


@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.one_of(st.none(), st.floats(0, 1e9))), max_size=40),
    st.booleans(),
)
def test_any_line_is_drawn_inside(points: list[tuple[float, float | None]], x_log: bool) -> None:
    """Whatever the values, a chart is drawn inside its box, or is a sentence."""
    points = sorted(points, key=lambda point: point[0])
    text = chart(
        [Line("a", [x for x, _ in points], [y for _, y in points])],
        Axes(x="s", y="ms", title="T", x_log=x_log),
    )

    if "<svg" not in text:
        assert "nothing to draw" in text
        return
    path = re.search(r"<path class='line l0' d='([^']*)'", text)
    assert path is not None
    for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path[1]):
        assert 0 <= float(x) <= 640
        assert 0 <= float(y) <= 220
