"""Attempts fail and are tried again, or an upstream answers 429: time that gives nothing. Pure."""

import statistics
from collections import Counter

from slipstream.config import names
from slipstream.doctor.evidence import Evidence, ids
from slipstream.doctor.finding import SHARE_MIN, Finding, Fix, Point, RuledOut
from slipstream.doctor.refusals import failures_of, refusing

NAME = "retry_storm"

FAILED_SHARE = 0.03
"""So many of all attempts fail, at least."""


def check(evidence: Evidence) -> Finding | RuledOut:
    """Whether failed attempts, what follows them, and requests that got nothing are what hurts."""
    failed = [(flow, failures) for flow in evidence.flows if (failures := failures_of(flow.record))]
    attempts = sum(max(1, flow.record.attempts) for flow in evidence.flows)
    count = sum(len(failures) for _, failures in failed)
    lost = [flow for flow, _ in failed if flow.record.outcome in {"failed", "refused"}]
    waiting = [flow for flow in evidence.flows if flow.parts.waiting]
    spent = sum(each.parts.failed + each.parts.waiting for each in evidence.slow) / evidence.slow_ns
    unserved = [flow for flow in evidence.flows if flow.record.error_code == "no_upstream_free"]
    share = min(1.0, max(spent, 2.0 * (len(lost) + len(unserved)) / max(1, len(evidence.flows))))
    rate = count / max(1, attempts)
    if rate < FAILED_SHARE or share < SHARE_MIN:
        return RuledOut(
            NAME,
            f"{rate:.1%} of the attempts failed; with the waits after them {share:.0%} of the slow time",
        )
    by_upstream = Counter(each.upstream for _, failures in failed for each in failures)
    upstream, worst = by_upstream.most_common(1)[0]
    reasons = Counter(each.why for _, failures in failed for each in failures if each.upstream == upstream)
    why, _ = reasons.most_common(1)[0]
    flows = [flow for flow, failures in failed if any(each.upstream == upstream for each in failures)]
    told = ", ".join(f"{times} times {what}" for what, times in reasons.most_common(3))
    points = [
        Point(
            f"{worst} attempts at {upstream} failed ({told}), of {attempts} attempts in all",
            ids(flows),
        ),
        Point(f"{len(lost) + len(unserved)} requests got no answer", ids([*lost, *unserved])),
    ]
    if waiting:
        middle = statistics.median(each.parts.waiting for each in waiting) / 1e6
        points.append(
            Point(
                f"{len(waiting)} requests waited {middle:.0f} ms in the middle to be tried again",
                ids(waiting),
            )
        )
    return Finding(
        NAME,
        upstream,
        f"{upstream} turns requests away ({_said(why)}), and they are tried again.",
        share,
        tuple(points),
        (),
        tuple(_fixes(evidence, upstream, why)),
    )


def _said(why: str) -> str:
    return f"status {why}" if why.isdecimal() else why


def _fixes(evidence: Evidence, upstream: str, why: str) -> list[Fix]:
    """Fewer at once where it refuses at a bound of its own; less of the traffic where there are others."""
    settings = evidence.settings
    known = settings.models.upstreams.get(upstream)
    fixes: list[Fix] = []
    refuses = refusing([each.record for each in evidence.flows], upstream)
    bound = refuses.together
    if known is not None and why in {"429", "503"} and bound is not None:
        after = max(1, bound // settings.server.workers)
        if after < known.connections:
            setting = names.written(("models", "upstreams", upstream, "connections"))
            text = f"wait here rather than be refused there: {upstream} takes {bound} at once"
            fixes.append(Fix(setting, str(known.connections), str(after), text))
    if known is not None and len(evidence.answers) > 1:
        setting = names.written(("models", "upstreams", upstream, "weight"))
        for factor, text in ((0.01, "send it next to nothing"), (0.3, "send it less")):
            fixes.append(Fix(setting, f"{known.weight:g}", f"{known.weight * factor:.3g}", text))
    if not fixes:
        tries = settings.models.attempts
        if tries < 5:
            fixes.append(Fix("models.attempts", str(tries), str(tries + 1), "try once more before giving up"))
        if tries > 1:
            fixes.append(
                Fix("models.attempts", str(tries), "1", "do not try again: it only adds to its load")
            )
    return fixes
