"""A result as one HTML page: figures, plots, how far to trust it. Loads nothing, runs no script."""

import datetime as dt

from slipstream.testing.load.html_page import cards, document, safe, table
from slipstream.testing.load.result import LoadResult
from slipstream.testing.load.stats import Estimate, shown
from slipstream.testing.load.summary import SHARES, Latency, Summary
from slipstream.testing.load.svg import Axes, Line, chart

NAMES = {
    "response": "Response time (from when it was due)",
    "service": "Service time (from when it was sent)",
    "ttft": "Time to first token",
    "itl": "Inter-token latency",
    "gap": "Gaps between chunks",
    "e2e": "To the last content",
}


def page(result: LoadResult) -> str:
    """The whole page."""
    summary = result.summary
    when = dt.datetime.fromtimestamp(summary.started_wall_ns / 1e9, dt.UTC)
    return document(
        f"Load test of {summary.target}",
        "".join(
            [
                f"<p class='dim'>{when:%Y-%m-%d %H:%M:%S} UTC, {safe(asked(summary))}</p>",
                _stamp(summary),
                _cards(result),
                "<h2>Latency, ms</h2>",
                _latencies(summary),
                _plots(summary),
                _errors(summary),
                _steps(summary),
                _client(summary),
            ]
        ),
    )


def asked(summary: Summary) -> str:
    """What was asked for, in one line."""
    config = summary.config
    parts = []
    if config.trace:
        parts.append(f"recorded traffic of {config.trace}, {config.trace_speed:g} x its speed")
    elif config.requests_per_second is not None:
        parts.append(f"{config.requests_per_second:g} requests/s, {config.arrivals} arrivals")
        if config.concurrent_users:
            parts.append(f"at most {config.concurrent_users} in flight")
    else:
        parts.append(f"{config.concurrent_users} users")
    parts.append(f"{summary.duration_seconds:.1f} s")
    if config.ramp_up:
        parts.append(f"ramp-up {config.ramp_up:g} s")
    if summary.time_scale != 1:
        parts.append(f"times scaled by {summary.time_scale:g}")
    if config.slo:
        parts.append("good = " + ", ".join(config.slo))
    if config.cached:
        parts.append("the same prompts again and again")
    if summary.stopped != "finished":
        parts.append(f"stopped: {summary.message or summary.stopped}")
    return ", ".join(parts)


def _stamp(summary: Summary) -> str:
    honesty = summary.honesty
    out = ""
    if not honesty.valid:
        said = "; ".join(honesty.reasons)
        out = f"<p class='stamp'><b>INVALID</b>: {safe(said)}. These figures measure the client.</p>"
    return out + "".join(f"<p class='dim'>{safe(each)}.</p>" for each in honesty.cautions)


def _cards(result: LoadResult) -> str:
    figures = {
        "requests": f"{result.summary.counts.measured:,}",
        "throughput, req/s": str(result.throughput),
        "goodput, req/s": str(result.goodput),
        "errors": f"{result.error_rate}%" if result.error_rate.reliable else "n/a",
        "p50, ms": str(result.p50_response_time),
        "p95, ms": str(result.p95_response_time),
        "p99, ms": str(result.p99_response_time),
        "output tokens/s": str(result.figure("output_tokens_per_second")),
    }
    return cards(figures)


def _latencies(summary: Summary) -> str:
    return _table({NAMES[each]: summary.latencies.get(each, Latency()) for each in NAMES})


def _table(rows: dict[str, Latency]) -> str:
    heads = "".join(f"<th>{name}</th>" for name in ("", "mean", *SHARES, "max"))
    lines = []
    for name, found in rows.items():
        if not found.mean.samples:
            continue
        cells = [_cell(found.mean), *(_cell(found.get(share)) for share in SHARES), _cell(found.get("max"))]
        lines.append(f"<tr><td>{safe(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<div class='wide'><table><tr>{heads}</tr>{''.join(lines)}</table></div>"


def _cell(estimate: Estimate) -> str:
    if not estimate.reliable or estimate.value is None:
        return "<small>n/a</small>"
    if estimate.low is None or estimate.high is None:
        return shown(estimate.value)
    return f"{shown(estimate.value)}<br><small>{shown(estimate.low)}–{shown(estimate.high)}</small>"


def _plots(summary: Summary) -> str:
    course = summary.course
    wide = course.bucket_seconds
    xs = [(number + 0.5) * wide for number in range(len(course.started))]
    counts = {"due": course.started, "answered": course.answered, "failed": course.failed}
    rates = [
        Line(name, xs, [each / wide for each in numbers], is_bad=name == "failed")
        for name, numbers in counts.items()
        if name != "failed" or any(numbers)
    ]
    times = [Line("p50", xs, course.p50_ms), Line("p95", xs, course.p95_ms)]
    over_time = (
        ("Response time over the run", "ms", times),
        ("Requests per second", "req/s", rates),
        ("Requests under way", "requests", [Line("in flight", xs, course.in_flight)]),
    )
    parts = [
        f"<h2>{title}</h2>{chart(lines, Axes(x='seconds', y=unit, title=title))}"
        for title, unit, lines in over_time
    ]
    title = "Distribution of response times"
    shares = [100 * each for each in course.cdf_shares]
    axes = Axes(x="ms", y="% are faster", title=title, x_log=True)
    parts.append(f"<h2>{title}</h2>{chart([Line('response', course.cdf_ms, shares)], axes)}")
    return "".join(parts)


def _errors(summary: Summary) -> str:
    kinds = summary.counts.kinds
    if not kinds:
        return ""
    rows = [(kind, f"{count:,}") for kind, count in kinds.items()]
    hint = f"<p>{safe(summary.hint)}.</p>" if summary.hint else ""
    return f"<h2>Errors</h2>{hint}{table(('kind', 'requests'), rows)}"


def _steps(summary: Summary) -> str:
    if summary.steps is None:
        return ""
    joined = f"By the server's own records of {summary.steps.joined} requests."
    head = f"<h2>Where the time went, ms</h2><p class='dim'>{joined}</p>"
    return f"{head}{_table(summary.steps.parts)}{_table(summary.steps.steps)}"


def _client(summary: Summary) -> str:
    found = summary.client
    rows = {
        "sent late, p50 / p99 / max, ms": " / ".join(
            _or_none(each) for each in (found.lag_p50_ms, found.lag_p99_ms, found.lag_max_ms)
        ),
        "busiest worker": "n/a" if found.cpu_share_max is None else f"{found.cpu_share_max:.0%}",
        "workers": str(found.workers),
        "time taken by the host": "n/a" if found.steal_share is None else f"{found.steal_share:.1%}",
        "delivered": "n/a" if found.delivered_share is None else f"{found.delivered_share:.1%}",
        "due while all users were busy": f"{found.cap_hits:,}",
        "Little's law, under way / expected": _or_none(summary.flow.little),
        "collector pauses, longest ms": f"{found.gc_pauses}, {found.gc_pause_max_ms:.1f}",
        "connections opened": f"{found.connections:,}",
    }
    return f"<h2>How the client did</h2>{table((), list(rows.items()))}"


def _or_none(value: float | None) -> str:
    return "n/a" if value is None else shown(value)
