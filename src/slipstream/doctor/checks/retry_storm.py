"""Attempts fail and are tried again, or an upstream answers 429: time that gives nothing. Pure.

What it costs is what failed attempts took, the waits after them, the requests that got nothing, and, where
a failing upstream is left alone, how much slower the others are for having to do its work.
"""

import statistics
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from slipstream.config import names
from slipstream.doctor.checks.weights import is_least, least_weight
from slipstream.doctor.evidence import Evidence, Flow, ids
from slipstream.doctor.finding import SHARE_MIN, Finding, Fix, Point, RuledOut
from slipstream.doctor.refusals import Refusing, failures_of, refusing
from slipstream.doctor.service_model import fitted

NAME = "retry_storm"

FAILED_SHARE = 0.03
"""So many of all attempts fail, at least …"""

FAILING_SHARE = 0.1
"""… or so many of one upstream's."""

OUT_SHARE = 0.2
"""One that fails so often and is left alone for it is lost to the others."""

FAILURES_MIN = 5
LESS = 0.3
"""Of its weight, where next to nothing would be more than needed."""

NOTHING = (
    "send it next to nothing: a hundredth of the others' weight, the least that shows when it is well again"
)

UNFAIR = 0.7
"""An upstream that gets less than this of its fair share is being left alone."""


class Failing(Struct, frozen=True):
    """The upstream that fails most."""

    upstream: str
    reasons: Counter[str]
    flows: tuple[Flow, ...]
    rate: float
    """Of its own attempts."""


def check(evidence: Evidence) -> Finding | RuledOut:
    """Whether failed attempts, and what follows from them, are what hurts."""
    failed = [(flow, failures) for flow in evidence.flows if (failures := failures_of(flow.record))]
    attempts = sum(max(1, flow.record.attempts) for flow in evidence.flows)
    count = sum(len(failures) for _, failures in failed)
    worst = _worst(evidence)
    crowded = _crowded(evidence, worst) if worst is not None else 0.0
    spent = sum(each.parts.failed + each.parts.waiting for each in evidence.slow) / evidence.slow_ns
    lost = [flow for flow, _ in failed if flow.record.outcome in {"failed", "refused"}]
    lost += [flow for flow in evidence.flows if flow.record.error_code == "no_upstream_free"]
    share = min(1.0, max(spent + crowded, 2.0 * len(lost) / max(1, len(evidence.flows))))
    if worst is not None and worst.rate >= OUT_SHARE and _is_left_alone(evidence, worst):
        share = max(share, SHARE_MIN)  # an upstream is lost, whatever that costs today
    rate = count / max(1, attempts)
    is_much = rate >= FAILED_SHARE or (worst is not None and worst.rate >= FAILING_SHARE)
    if worst is None or not is_much or share < SHARE_MIN:
        return RuledOut(
            NAME, f"{rate:.1%} of the attempts failed; what follows from them is {share:.0%} of the slow time"
        )
    told = ", ".join(f"{times} times {what}" for what, times in worst.reasons.most_common(3))
    points = [
        Point(
            f"{worst.rate:.0%} of the attempts at {worst.upstream} failed ({told});"
            f" {count} of {attempts} in all",
            ids(worst.flows),
        ),
        Point(f"{len(lost)} requests got no answer", ids(lost)),
    ]
    waiting = [flow for flow in evidence.flows if flow.parts.waiting]
    if waiting:
        middle = statistics.median(each.parts.waiting for each in waiting) / 1e6
        said = f"{len(waiting)} requests waited {middle:.0f} ms in the middle to be tried again"
        points.append(Point(said, ids(waiting)))
    if crowded:
        said = f"the others do its work: {crowded:.0%} of the slow requests' time is what that costs"
        points.append(Point(said))
    why, _ = worst.reasons.most_common(1)[0]
    cause = f"{worst.upstream} turns requests away ({_said(why)}), and they go elsewhere or are tried again."
    fixes = tuple(_fixes(evidence, worst, why))
    return Finding(NAME, worst.upstream, cause, share, tuple(points), _against(evidence, worst), fixes)


def _against(evidence: Evidence, failing: Failing) -> tuple[Point, ...]:
    """What a weight cannot do any more."""
    known, least = evidence.settings.models.upstreams.get(failing.upstream), _least(evidence, failing)
    if known is None or least is None or not is_least(known.weight, least):
        return ()
    said = f"{failing.upstream} is sent next to nothing already (weight {known.weight:g})"
    return (Point(f"{said}: look at it, or remove it"),)


def _least(evidence: Evidence, failing: Failing) -> float | None:
    """The least weight to leave it with, beside those that answer for the same models; else beside all."""
    asked = {flow.record.model_asked for flow in failing.flows}
    answering = {
        flow.record.upstream
        for flow in evidence.flows
        if flow.record.outcome == "served" and flow.record.model_asked in asked
    }
    known = evidence.settings.models.upstreams
    others = (answering & known.keys()) - {failing.upstream} or known.keys() - {failing.upstream}
    return least_weight(known, others)


def _worst(evidence: Evidence) -> Failing | None:
    reasons: dict[str, Counter[str]] = {}
    flows: dict[str, list[Flow]] = {}
    for flow in evidence.flows:
        for failure in failures_of(flow.record):
            reasons.setdefault(failure.upstream, Counter())[failure.why] += 1
            flows.setdefault(failure.upstream, []).append(flow)
    if not reasons:
        return None
    upstream = max(reasons, key=lambda name: reasons[name].total())
    count = reasons[upstream].total()
    served = sum(flow.record.outcome == "served" for flow in evidence.at(upstream))
    if count < FAILURES_MIN:
        return None
    return Failing(upstream, reasons[upstream], tuple(flows[upstream]), count / (count + served))


def _crowded(evidence: Evidence, failing: Failing) -> float:
    """The share of the slow time that the others take because they do the work of one that is left alone."""
    known = evidence.settings.models.upstreams
    used = {name: known[name].weight for name in {*evidence.answers, failing.upstream} if name in known}
    whole = sum(used.values())
    if failing.rate < FAILING_SHARE or len(used) < 2 or failing.upstream not in used:
        return 0.0
    fair = used[failing.upstream] / whole
    if not _is_left_alone(evidence, failing):
        return 0.0
    extra = 0.0
    for name, answers in evidence.answers.items():
        model = fitted(answers)
        if name == failing.upstream or not model.is_known:
            continue
        for flow in evidence.slow:
            if flow.record.upstream == name and flow.visit is not None:
                now = model.expected(flow.asked()) or 0.0
                extra += max(0.0, now - (model.expected(flow.asked(1.0 - fair)) or now))
    return min(1.0, extra * 1e9 / evidence.slow_ns)


def _is_left_alone(evidence: Evidence, failing: Failing) -> bool:
    """Whether it gets clearly less than its share among several."""
    known = evidence.settings.models.upstreams
    used = {name: known[name].weight for name in {*evidence.answers, failing.upstream} if name in known}
    if len(used) < 2 or failing.upstream not in used:
        return False
    fair = used[failing.upstream] / sum(used.values())
    return len(evidence.at(failing.upstream)) <= UNFAIR * fair * len(evidence.flows)


def _said(why: str) -> str:
    return f"status {why}" if why.isdecimal() else why


def _fixes(evidence: Evidence, failing: Failing, why: str) -> list[Fix]:
    """Fewer at once where it refuses at a bound of its own; less of the traffic where there are others."""
    settings, upstream = evidence.settings, failing.upstream
    known = settings.models.upstreams.get(upstream)
    fixes: list[Fix] = []
    if known is None:
        return fixes
    refuses = refusing([each.record for each in evidence.flows], upstream)
    bound = _bound(evidence.at(upstream), refuses) if why in {"429", "503"} else None
    if bound is not None:
        after = max(1, bound // settings.server.workers)
        if after < known.connections:
            setting = names.written(("models", "upstreams", upstream, "connections"))
            text = f"wait here rather than be refused there: it takes {bound} at once"
            fixes.append(Fix(setting, str(known.connections), str(after), text))
    least = _least(evidence, failing)
    if least is not None:
        setting = names.written(("models", "upstreams", upstream, "weight"))
        less = LESS * known.weight
        choices = [(least, NOTHING), *([(less, "send it less")] if less > least else [])]
        for weight, text in choices if not is_least(known.weight, least) else ():
            fixes.append(Fix(setting, f"{known.weight:g}", f"{weight:.3g}", text))
    tries = settings.models.attempts
    if tries < 5:
        fixes.append(Fix("models.attempts", str(tries), str(tries + 1), "try once more before giving up"))
    if tries > 1:
        fixes.append(Fix("models.attempts", str(tries), "1", "do not try again: it adds to its load"))
    return fixes


def _bound(flows: Sequence[Flow], refuses: Refusing) -> int | None:
    """How many it takes at once; of one that counts by the second, how many that makes."""
    if refuses.together is not None:
        return refuses.together
    served = [each.parts.service / 1e9 for each in flows if each.record.outcome == "served"]
    if refuses.per_second is None or not served:
        return None
    return max(1, int(refuses.per_second * statistics.fmean(served)))
