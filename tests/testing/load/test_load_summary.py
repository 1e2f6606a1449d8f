"""What a run comes to, from samples whose figures can be counted by hand."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from slipstream.config.settings import LoadTesting, Settings
from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.config import LoadConfig
from slipstream.testing.load.result import LoadResult
from slipstream.testing.load.results import find, store, stored
from slipstream.testing.load.run import Meters, RunResult
from slipstream.testing.load.samples import ERRORS, PHASES, Samples
from slipstream.testing.load.summary import Summary, summarize

MS = 1_000_000


def samples(
    intended_ms: list[float],
    service_ms: list[float],
    *,
    late_ms: float = 0.0,
    errors: list[str] | None = None,
    phases: list[str] | None = None,
) -> Samples:
    """Requests that were sent `late_ms` after their time, each with four tokens in four chunks."""
    count = len(intended_ms)
    columns = {name: np.full(count, -1, np.int64) for name in Samples.__struct_fields__}
    intended = (np.array(intended_ms) * MS).astype(np.int64)
    sent = intended + round(late_ms * MS)
    took = (np.array(service_ms) * MS).astype(np.int64)
    failed = np.array([ERRORS.index(each) for each in errors or [""] * count], np.uint8)
    answered = failed == 0
    columns |= {
        "intended_ns": intended,
        "sent_ns": sent,
        "first_byte_ns": np.where(answered, sent + took // 4, -1),
        "first_content_ns": np.where(answered, sent + took // 4, -1),
        "last_content_ns": np.where(answered, sent + took, -1),
        "done_ns": sent + took,
        "lag_ns": sent - intended,
        "chunks": np.where(answered, 4, 0).astype(np.int32),
        "output_tokens": np.where(answered, 4, -1).astype(np.int32),
        "error": failed,
        "phase": np.array([PHASES.index(each) for each in phases or ["measured"] * count], np.uint8),
        "gap_starts": np.arange(count, dtype=np.int64) * 3,
        "gap_counts": np.full(count, 3, np.int32),
        "gaps_ns": np.repeat(took // 4, 3).astype(np.int32),
        "request_rows": np.zeros(0, np.int64),
    }
    return Samples(**{**columns, "request_ids": ()})


def meters(**changed: object) -> Meters:
    quiet: dict[str, object] = {
        "lag_p50_ns": 1e4, "lag_p99_ns": 1e5, "lag_max_ns": 2e5, "loop_lag_p99_ns": 1e5, "loop_lag_max_ns": 2e5,
        "cpu_shares": (0.2,), "steal_share": 0.0, "gc_pauses": 0, "gc_pause_max_ns": 0, "gc_pause_total_ns": 0,
        "cap_hits": 0, "planned": 100, "sent": 100, "waiting": 0, "delivered_share": 1.0, "sent_bytes": 1,
        "received_bytes": 1, "connections": 1, "gaps_beyond": 0, "gap_histogram": np.zeros(0, np.int64),
        "workers_lost": 0,
    }  # fmt: skip
    return Meters(**{**quiet, **changed})


def summary(
    run_samples: Samples, *, seconds: float = 10.0, stopped: str = "finished", config: LoadConfig | None = None,
    **changed: object,
) -> Summary:  # fmt: skip
    run = RunResult(
        samples=run_samples,
        meters=meters(**changed),
        started_wall_ns=1_700_000_000_000_000_000,
        duration_ns=round(seconds * 1e9),
        plan_ns=round(seconds * 1e9),
        stopped=stopped,
    )
    return summarize(run, config or LoadConfig(requests_per_second=10), target="http://t", time_scale=1.0)


def test_figures_by_hand() -> None:
    """A hundred requests in ten seconds, of 100 to 199 ms, all sent 50 ms late."""
    result = LoadResult(
        summary(samples([i * 100 for i in range(100)], [100 + i for i in range(100)], late_ms=50))
    )

    assert result.total_requests == result.successful_requests == 100
    assert result.throughput == pytest.approx(9.8)  # two of them end after the window
    assert result.avg_response_time == pytest.approx(199.5)
    assert result.p50_response_time == pytest.approx(199.5)
    assert result.p90_response_time == pytest.approx(150 + 0.9 * 99 + 0)
    assert result.figure("service.p50") == pytest.approx(149.5)
    assert result.figure("ttft.p50") == pytest.approx(149.5 / 4)
    assert result.figure("ttft_response.p50") == pytest.approx(149.5 / 4 + 50)
    assert result.figure("itl.p50") == pytest.approx(149.5 * 0.75 / 3)
    assert result.figure("gap.p50") == pytest.approx(149.5 / 4, rel=0.01)
    assert result.error_rate == 0
    assert (str(result.p99_response_time), result.p99_response_time.reliable) == ("n/a", False)
    assert result.p90_response_time.low < result.p90_response_time < result.p90_response_time.high


def test_errors_are_counted_by_kind() -> None:
    """Everything without a whole answer is an error; refusals and timeouts stand apart as well."""
    errors = [""] * 6 + ["http_429", "http_429", "timeout", "incomplete"]
    result = LoadResult(summary(samples([i * 10 for i in range(10)], [100] * 10, errors=errors)))

    assert result.error_rate == pytest.approx(40)
    assert (result.rate_limited_rate, result.timeout_rate) == (pytest.approx(20), pytest.approx(10))
    assert result.errors == {"http_429": 2, "timeout": 1, "incomplete": 1}
    assert result.avg_response_time == pytest.approx(100)
    assert "no answer in time" in result.summary.honesty.cautions[0]


@pytest.mark.parametrize(("stopped", "errors", "unfinished"), [("finished", 4, 0), ("requested", 0, 4)])
def test_what_a_stop_cuts_is_no_error(stopped: str, errors: int, unfinished: int) -> None:
    """After Ctrl-C what was under way does not count; after a whole run and its grace it is an error."""
    cut = samples([i * 10 for i in range(10)], [100] * 10, errors=[""] * 6 + ["cancelled"] * 4)
    found = summary(cut, stopped=stopped)

    assert (found.counts.errors, found.counts.unfinished) == (errors, unfinished)
    assert found.counts.kinds == ({"unanswered": 4} if errors else {})


def test_warm_up_and_ramp_are_left_out() -> None:
    """Figures are of measured requests; rates refer to what is left of the run."""
    phases = ["warmup"] * 20 + ["measured"] * 80
    run = samples([i * 100 for i in range(100)], [1000] * 20 + [10] * 80, phases=phases)
    result = LoadResult(summary(run, config=LoadConfig(requests_per_second=10, warm_up=2)))

    assert result.avg_response_time == pytest.approx(10)
    assert (result.total_requests, result.summary.counts.measured) == (100, 80)
    assert result.summary.window_seconds == pytest.approx(8)


def test_goodput_counts_what_kept_every_objective() -> None:
    """Of a hundred requests of 100 to 199 ms, 41 keep 140 ms; an error keeps nothing."""
    run = samples([i * 50 for i in range(100)], [100 + i for i in range(100)], errors=["timeout"] + [""] * 99)
    found = summary(run, config=LoadConfig(requests_per_second=20, slo=("response<140ms", "ttft<1s")))

    assert found.good_share.value == pytest.approx(0.40)
    assert found.goodput == pytest.approx(4.0)


def test_littles_law() -> None:
    """Two users who are answered in 100 ms each time keep two requests under way, and the law holds."""
    ends = [i * 100.0 for i in range(100) for _ in range(2)]
    found = summary(samples(ends, [100] * 200), config=LoadConfig(concurrent_users=2, duration=10))

    assert found.flow.in_flight_mean == pytest.approx(2)
    assert found.flow.in_flight_max == 2
    assert found.flow.little == pytest.approx(1, abs=0.02)
    assert found.honesty.cautions == ()


def test_no_steady_state_is_told() -> None:
    """Where every second request takes as long as the run, they pile up: what ends is not what is under way."""
    found = summary(samples([i * 40.0 for i in range(250)], [10.0, 9000.0] * 125))

    assert "Little" in found.honesty.cautions[0]


def test_a_run_shorter_than_its_answers_still_has_a_rate() -> None:
    """Where answers come after the last request could be sent, the window reaches to them."""
    found = summary(samples([0, 0, 0, 0], [5000] * 4), seconds=1)

    assert found.throughput == pytest.approx(0.8)


def test_the_course_of_a_run() -> None:
    """Buckets hold what was due, answered and under way; the distribution rises."""
    found = summary(samples([i * 100 for i in range(100)], [500] * 100)).course

    assert sum(found.started) == sum(found.answered) == 100
    assert sum(found.in_flight) * found.bucket_seconds == pytest.approx(50)
    assert len(found.started) <= 120
    assert found.p50_ms[3] == pytest.approx(500)
    assert list(found.cdf_ms) == sorted(found.cdf_ms)
    assert found.cdf_shares[-1] == 1.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lag_p99_ns": 20e6}, "late"),
        ({"delivered_share": 0.98}, "98.0%"),
        ({"cpu_shares": (0.3, 0.95)}, "95% busy"),
        ({"steal_share": 0.08}, "8%"),
        ({"workers_lost": 1}, "died"),
    ],
)
def test_a_client_that_was_the_bottleneck(changed: dict[str, object], said: str) -> None:
    """Each limit of the honesty meter stamps the result invalid, and says why."""
    found = summary(samples([i * 100 for i in range(100)], [100] * 100), **changed)

    assert not found.honesty.valid
    assert said in found.honesty.reasons[0]
    assert "INVALID" in repr(LoadResult(found))


def test_a_good_client_is_valid() -> None:
    """Lag below 5 % of the median, or below what a timer takes, does not matter."""
    run = samples([i * 100 for i in range(100)], [100] * 100)

    assert summary(run, lag_p99_ns=1.2e6).honesty.valid
    assert not summary(run, lag_p99_ns=1.3e6).honesty.valid  # 5 % of the 25 ms to the first token
    assert summary(samples([0.0], [1]), lag_p99_ns=0.4e6).honesty.valid


def test_nothing_answered() -> None:
    """A target that refuses all has no times, no throughput and 100 % errors, and none of it is made up."""
    result = LoadResult(summary(samples([0, 1, 2], [1, 1, 1], errors=["connect_refused"] * 3)))

    assert result.error_rate == 100
    assert result.throughput == 0
    assert math.isnan(result.avg_response_time)
    assert (str(result.p95_response_time), str(result.min_response_time)) == ("n/a", "n/a")


def test_no_request_at_all() -> None:
    result = LoadResult(summary(Samples.empty()))

    assert (result.total_requests, str(result.throughput), str(result.error_rate)) == (0, "n/a", "n/a")
    assert result.figure("no.such") is None
    assert [each.verdict for each in result.check(["p95 > 1s"])] == ["unknown"]


def test_results_are_kept_and_bounded(tmp_path: Path) -> None:
    """A stored result is the same when it is read; the oldest go; names may be shortened."""
    settings = Settings(data_folder=str(tmp_path), testing=LoadTesting(kept=3))
    one = summary(samples([i * 100 for i in range(100)], [100 + i for i in range(100)]))
    names = []
    for second in range(5):
        started = 1_700_000_000_000_000_000 + second * 1_000_000_000
        names.append(store(LoadResult(msgspec.structs.replace(one, started_wall_ns=started)), settings).id)
    (tmp_path / "load" / "20260101-000000-zzzz.json").write_text("{}")

    assert [each.id for each in stored(settings)] == names[:1:-1]
    again = find(names[4][:15], settings)
    assert again.id == find("last", settings).id == names[4]
    assert again.p50_response_time == LoadResult(one).p50_response_time
    assert again.summary.course == one.course
    with pytest.raises(ConfigurationError, match="No stored"):
        find(names[0], settings)
    with pytest.raises(ConfigurationError, match="3 stored"):
        find("2023", settings)


def test_a_file_that_is_no_result(tmp_path: Path) -> None:
    """A broken file is told, and does not hide the others."""
    settings = Settings(data_folder=str(tmp_path))
    kept = store(LoadResult(summary(samples([0.0], [1.0]))), settings)
    (tmp_path / "load" / "20990101-000000-abcd.json").write_text('{"id": 5}')

    assert [each.id for each in stored(settings)] == [kept.id]
    with pytest.raises(ConfigurationError, match="holds no result"):
        find("2099", settings)
