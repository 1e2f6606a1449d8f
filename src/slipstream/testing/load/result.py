"""A load test's result as a script sees it: the guide's attributes, and every figure by its name."""

from collections.abc import Sequence

from slipstream.testing.load.samples import Samples
from slipstream.testing.load.stats import Estimate, Figure
from slipstream.testing.load.summary import Latency, Summary
from slipstream.testing.load.thresholds import Outcome, judge, thresholds

_SHARES = ("error_rate", "rate_limited_rate", "timeout_rate", "good_share")


class LoadResult:
    """What a load test measured. Times in ms, rates per second, shares in percent.

    Figures are floats; one from too few samples prints as `n/a`, and its `.reliable` is False. Response
    times count from when a request was due, service times from when it was sent.
    """

    def __init__(self, summary: Summary, samples: Samples | None = None) -> None:
        self.summary = summary
        self.samples = samples
        """Every request, where the test ran in this process; None for a result that was stored."""

    @property
    def id(self) -> str:
        """Its name among the stored results; empty = not stored."""
        return self.summary.id

    @property
    def valid(self) -> bool:
        """False where the client was the bottleneck; `.reasons` says why. Believe nothing then."""
        return self.summary.honesty.valid

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not valid."""
        return self.summary.honesty.reasons

    @property
    def total_requests(self) -> int:
        """All requests of the run."""
        return self.summary.counts.total

    @property
    def successful_requests(self) -> int:
        """Measured requests with a whole 2xx answer."""
        return self.summary.counts.ok

    @property
    def failed_requests(self) -> int:
        """Measured requests without one."""
        return self.summary.counts.errors

    @property
    def errors(self) -> dict[str, int]:
        """Failed requests by kind."""
        return self.summary.counts.kinds

    @property
    def throughput(self) -> Figure:
        """Whole 2xx answers per second."""
        return self._figure("throughput")

    @property
    def goodput(self) -> Figure:
        """Answers per second that kept every objective; without objectives, `throughput`."""
        return self._figure("goodput")

    @property
    def error_rate(self) -> Figure:
        """Percent of requests without a whole 2xx answer: refused with 429 and timed out ones too."""
        return self._figure("error_rate")

    @property
    def rate_limited_rate(self) -> Figure:
        """Percent of requests that were refused with 429."""
        return self._figure("rate_limited_rate")

    @property
    def timeout_rate(self) -> Figure:
        """Percent of requests that timed out."""
        return self._figure("timeout_rate")

    @property
    def avg_response_time(self) -> Figure:
        """Mean response time."""
        return self._figure("response.mean")

    @property
    def p50_response_time(self) -> Figure:
        """Median response time."""
        return self._figure("response.p50")

    @property
    def p75_response_time(self) -> Figure:
        """75th percentile."""
        return self._figure("response.p75")

    @property
    def p90_response_time(self) -> Figure:
        """90th percentile."""
        return self._figure("response.p90")

    @property
    def p95_response_time(self) -> Figure:
        """95th percentile."""
        return self._figure("response.p95")

    @property
    def p99_response_time(self) -> Figure:
        """99th percentile."""
        return self._figure("response.p99")

    @property
    def p999_response_time(self) -> Figure:
        """99.9th percentile."""
        return self._figure("response.p99.9")

    @property
    def min_response_time(self) -> Figure:
        """The shortest."""
        smallest = self.summary.latencies.get("response", Latency()).smallest
        return Figure(_exact(smallest, self.summary.counts.ok))

    @property
    def max_response_time(self) -> Figure:
        """The longest."""
        return self._figure("response.max")

    def figure(self, name: str) -> Figure | None:
        """A figure as thresholds name it: `p95`, `ttft.p50`, `error_rate`; None = there is none so named."""
        summary = self.summary
        measure, _, statistic = (name if "." in name and name != "p99.9" else f"response.{name}").partition(
            "."
        )
        if name in _SHARES:
            return Figure(_percent(getattr(summary, name)))
        exact = {
            "throughput": summary.throughput,
            "goodput": summary.goodput,
            "output_tokens_per_second": summary.tokens.output_per_second,
            "requests": float(summary.counts.measured),
            "errors": float(summary.counts.errors),
            "delivered_share": _hundredfold(summary.client.delivered_share),
        }
        if name in exact:
            return Figure(_exact(exact[name], summary.counts.measured))
        found = summary.latencies.get(measure)
        return None if found is None else Figure(found.get(statistic))

    def check(self, texts: Sequence[str]) -> list[Outcome]:
        """What becomes of thresholds such as `p95 > 800ms`. Raises `BadRequest` for what is none."""
        return [judge(each, self.figure(each.figure)) for each in thresholds(texts)]

    def _figure(self, name: str) -> Figure:
        found = self.figure(name)
        assert found is not None, name
        return found

    def __repr__(self) -> str:
        stamp = "" if self.valid else " INVALID"
        return (
            f"<LoadResult{stamp}: {self.summary.counts.measured} requests, {self.throughput} req/s,"
            f" p50 {self.p50_response_time} ms, p95 {self.p95_response_time} ms, errors {self.error_rate} %>"
        )


def _exact(value: float | None, samples: int) -> Estimate:
    """A figure that is counted, not estimated."""
    return Estimate(value, samples=samples, reliable=value is not None)


def _percent(share: Estimate) -> Estimate:
    return Estimate(
        _hundredfold(share.value),
        _hundredfold(share.low),
        _hundredfold(share.high),
        share.samples,
        share.reliable,
    )


def _hundredfold(share: float | None) -> float | None:
    return None if share is None else 100 * share
