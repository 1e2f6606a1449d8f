"""A search for a limit as one HTML page: what was found, the curve, each probe. It runs no script."""

import datetime as dt

from slipstream.testing.load.html_page import cards, document, safe, table
from slipstream.testing.load.limit import Limit
from slipstream.testing.load.limit_words import in_words, number
from slipstream.testing.load.search import Probe
from slipstream.testing.load.svg import Axes, Line, chart

LAW_POINTS = 100


def limit_page(found: Limit) -> str:
    """The whole page."""
    when = dt.datetime.fromtimestamp(found.started_wall_ns / 1e9, dt.UTC)
    good = f"good = {', '.join(found.objectives)} for {found.wanted_share:.0%} of requests"
    about = f"{when:%Y-%m-%d %H:%M:%S} UTC, {good}"
    return document(
        f"The limit of {found.target}",
        "".join(
            [
                f"<p class='dim'>{safe(about)}</p>",
                *(f"<p class='dim'>{safe(each)}.</p>" for each in found.cautions),
                _cards(found),
                "".join(f"<p>{safe(line)}</p>" for line in in_words(found)),
                _plots(found),
                f"<h2>Probes</h2>{_probes(found)}",
            ]
        ),
    )


def _cards(found: Limit) -> str:
    law = found.law
    over = "over " if found.beyond is None and found.users else ""
    return cards(
        {
            "limit, users": f"{over}{found.users or 0:,}",
            "req/s there": number(found.throughput),
            "capacity, req/s": number(found.ceiling),
            "knee, users": "n/a" if found.knee_users is None else f"{found.knee_users:.1f}",
            "unloaded, ms": number(found.base_ms),
            "sigma": "n/a" if law is None else f"{law.sigma.value or 0:.3g}",
            "kappa": "n/a" if law is None else f"{law.kappa.value or 0:.3g}",
            "soak": {None: "none", True: "confirmed", False: "not confirmed"}[found.confirmed],
        }
    )


def _plots(found: Limit) -> str:
    probes = found.probes
    if not probes:
        return ""
    users = [float(each.users) for each in probes]
    rates = [Line("measured", users, [each.throughput for each in probes], has_dots=True)]
    if found.law is not None:
        steps = [1 + (users[-1] - 1) * step / LAW_POINTS for step in range(LAW_POINTS + 1)]
        rates.append(Line("law", steps, [found.law.at(each) for each in steps]))
    times = [
        Line("p50", users, [each.response_ms_p50 for each in probes], has_dots=True),
        Line("p95", users, [each.response_ms_p95 for each in probes], has_dots=True),
    ]
    shares = [100 * each.good / each.count if each.count else None for each in probes]
    errors = [each.error_percent for each in probes]
    kept = [
        Line("good", users, shares, has_dots=True),
        Line("errors", users, errors, has_dots=True, is_bad=True),
    ]
    return "".join(
        f"<h2>{title}</h2>{chart(lines, Axes(x='users', y=unit, title=title))}"
        for title, unit, lines in (
            ("Requests per second by users", "req/s", rates),
            ("Response time by users", "ms", times),
            ("Good requests by users", "%", kept),
        )
    )


def _probes(found: Limit) -> str:
    heads = ("users", "req/s", "p50 ms", "p95 ms", "good", "errors", "requests", "verdict")
    rows = [_row(each, str(each.users)) for each in found.probes]
    if found.soak is not None:
        rows.append(_row(found.soak, f"{found.soak.users} (soak)"))
    return table(heads, rows)


def _row(probe: Probe, name: str) -> tuple[str, ...]:
    share = f"{probe.good / probe.count:.1%}" if probe.count else "n/a"
    verdict = "client was the bottleneck" if probe.invalid else str(probe.verdict)
    return (
        name,
        number(probe.throughput),
        number(probe.response_ms_p50),
        number(probe.response_ms_p95),
        share,
        f"{probe.error_percent:.1f}%",
        f"{probe.count:,}",
        verdict,
    )
