"""A limit in sentences, for terminals and pages."""

from slipstream.testing.load.limit import Limit
from slipstream.testing.load.stats import Estimate, shown


def in_words(found: Limit) -> list[str]:
    """What was found, a sentence a line; cautions are apart."""
    lines = []
    if found.ceiling is not None and found.knee_users is not None:
        knee = shown(round(found.knee_users, 1))
        lines.append(
            f"Capacity: {number(found.ceiling)} req/s, reached with {knee} users;"
            f" unloaded an answer takes {number(found.base_ms)} ms."
        )
    lines.append(_limit(found))
    lines.append(f"Saturated: {found.resource}.")
    if found.law is not None:
        sigma, kappa = interval(found.law.sigma), interval(found.law.kappa)
        fit = f"R2 {found.law.r_squared:.2f}"
        lines.append(f"Scalability law: sigma (serialises) {sigma}, kappa (contends) {kappa}, {fit}")
    over = f"passed with {found.error_users} users" if found.error_users else "not passed"
    lines.append(f"Error threshold of {found.error_threshold:g} %: {over}.")
    if found.soak is not None:
        verdict = "confirmed" if found.confirmed else "NOT confirmed"
        lines.append(f"Soak with {found.soak.users} users: {verdict}, {number(found.soak.throughput)} req/s.")
    scale = f", times scaled by {found.time_scale:g}" if found.time_scale != 1 else ""
    lines.append(f"{len(found.probes)} probes in {found.seconds:.0f} s{scale}, {found.stopped}.")
    return lines


def _limit(found: Limit) -> str:
    if not found.probes:
        return "Limit: not known, for it was stopped before the first probe was over."
    if found.users is None:
        return "Limit: not even one user is served well."
    if found.beyond is None:
        return f"Limit: none up to {found.users} users ({number(found.throughput)} req/s)."
    return (
        f"Limit: {found.users} users are served well ({number(found.throughput)} req/s),"
        f" {found.beyond} are too many."
    )


def number(value: float | None) -> str:
    """Four digits, or n/a."""
    return "n/a" if value is None else shown(value)


def interval(estimate: Estimate) -> str:
    """A figure with its interval."""
    value = "n/a" if estimate.value is None else f"{estimate.value:.3g}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({estimate.low:.2g} to {estimate.high:.2g})"
