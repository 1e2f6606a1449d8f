"""One upstream takes longer than the others for what is asked of it, or than it did before. Pure.

Compared is the service time alone, queueing taken off, with what a model of the others' answers expects for
the same prompts, answers and load: an upstream that gets the long prompts is not slow. Only answers for the
same model are compared: a big one takes longer than a small one wherever it is served.
"""

import math
import statistics
from collections.abc import Mapping, Sequence

from slipstream.config import names
from slipstream.doctor.checks.weights import is_least, least_weight
from slipstream.doctor.evidence import Evidence, Flow, ids
from slipstream.doctor.finding import SHARE_MIN, Finding, Fix, Point, RuledOut
from slipstream.doctor.service_model import Observation, ServiceModel, fitted

NAME = "slow_upstream"

ANSWERS_MIN = 8
RATIO_MIN = 1.3
"""So many times as long as expected, in the middle of all its answers …"""

Z_MIN = 4.0
"""… and beyond chance, in standard errors of the logarithm."""

RECENT_MIN = 16
"""Of its latest answers, which are looked at by themselves as well."""

Models = Mapping[str, ServiceModel]
"""What is expected of answers, by the model that was asked."""


def check(evidence: Evidence) -> Finding | RuledOut:
    """The upstream that is furthest beyond what others take, if any is."""
    found: list[Finding] = []
    ratios: list[str] = []
    for upstream, answers in sorted(evidence.answers.items()):
        peers = [each for other, given in evidence.answers.items() if other != upstream for each in given]
        judged = _judge(answers, peers)
        recent = _judge(answers[-max(RECENT_MIN, len(answers) // 4) :], peers)
        if judged is not None and recent is not None and recent[1] >= Z_MIN and recent[0] > judged[0]:
            judged = recent  # it turned slow of late, and is asked less since
        whom = "the others"
        if judged is None:
            earlier = _judge(answers, evidence.answers_before.get(upstream, ()))
            if earlier is not None and earlier[0] >= RATIO_MIN:
                judged, whom = earlier, "it did before"
        if judged is None:
            continue
        ratio, z, models = judged
        ratios.append(f"{upstream} {ratio:.2g}x")
        if ratio >= RATIO_MIN and z >= Z_MIN:
            found.append(_finding(evidence, upstream, whom, ratio=ratio, models=models))
    best = max(found, key=lambda each: each.share, default=None)
    if best is None:
        said = ", ".join(ratios) if ratios else _why_none(evidence)
        return RuledOut(NAME, f"no upstream takes {RATIO_MIN:g} times what others take for the same ({said})")
    if best.share < SHARE_MIN:
        return RuledOut(
            NAME, f"{best.subject} is slower, but explains {best.share:.0%} of the slow requests' time"
        )
    return best


def _why_none(evidence: Evidence) -> str:
    """Why no upstream could be compared with another."""
    served = [{each.model for each in given} for given in evidence.answers.values()]
    if len(served) > 1 and sum(map(len, served)) == len(set().union(*served)):
        return "no model is served by two upstreams, and different models are not compared"
    return "there is one upstream, or too few answers to compare"


def _judge(
    answers: Sequence[Observation], others: Sequence[Observation]
) -> tuple[float, float, Models] | None:
    """How many times as long as others it takes for the same model, how sure that is (z), and the others."""
    models = {name: fitted(given) for name, given in _by_model(others).items()}
    logs = []
    for each in answers:
        model = models.get(each.model)
        expected = model.expected(each) if model is not None and model.is_known else None
        if expected is not None:
            logs.append(math.log(max(1e-6, each.service) / expected))
    if len(logs) < ANSWERS_MIN:
        return None
    error = statistics.stdev(logs) / math.sqrt(len(logs)) + 1e-6
    return math.exp(statistics.median(logs)), statistics.fmean(logs) / error, models


def _by_model(answers: Sequence[Observation]) -> dict[str, list[Observation]]:
    found: dict[str, list[Observation]] = {}
    for each in answers:
        found.setdefault(each.model, []).append(each)
    return found


def _finding(evidence: Evidence, upstream: str, whom: str, *, ratio: float, models: Models) -> Finding:
    slow = [each for each in evidence.slow if each.record.upstream == upstream]
    extra = sum(_extra(each, models) for each in slow)
    share = min(1.0, extra * 1e9 / evidence.slow_ns)
    flows = evidence.at(upstream)
    waited = statistics.median(each.parts.queue for each in flows) / 1e6
    points = [
        Point(
            f"{upstream} takes {ratio:.2g} times as long as {whom} for the same prompt, answer and load;"
            f" compared were {len(evidence.answers[upstream])} of its answers",
            ids(flows),
        ),
        Point(
            f"{len(slow)} of the {len(evidence.slow)} slowest requests were there, and"
            f" {len(flows)} of all {len(evidence.flows)}",
            ids(slow),
        ),
    ]
    against = []
    if waited > 1:
        against.append(
            Point(f"requests also wait there before it begins: {waited:.0f} ms in the middle", ids(flows))
        )
    return Finding(
        NAME,
        upstream,
        f"The upstream {upstream} is slow: {ratio:.2g} times as long as {whom}.",
        share,
        tuple(points),
        tuple(against),
        _fixes(evidence, upstream, ratio) if whom == "the others" else (_look_at(upstream),),
    )


def _extra(flow: Flow, models: Models) -> float:
    """Seconds beyond what others take; none where nobody else serves its model."""
    model = models.get(flow.record.model)
    if model is None or not model.is_known:
        return 0.0
    return max(0.0, flow.parts.service / 1e9 - (model.expected(flow.asked()) or 0.0))


def _fixes(evidence: Evidence, upstream: str, ratio: float) -> tuple[Fix, ...]:
    upstreams = evidence.settings.models.upstreams
    known = upstreams.get(upstream)
    served = {each.model for each in evidence.answers[upstream]}
    others = [
        name
        for name, given in evidence.answers.items()
        if name != upstream and any(each.model in served for each in given)
    ]
    out = least_weight(upstreams, others)
    if known is None or out is None:
        return (_look_at(upstream),)
    if is_least(known.weight, out):
        text = f"{upstream} is sent next to nothing already: look at {upstream} itself, or remove it"
        return (Fix("", "", "", text, is_live=False),)
    setting = names.written(("models", "upstreams", upstream, "weight"))
    less = known.weight / ratio**2
    choices = [(out, "next to nothing"), *([(less, "less")] if less > out else [])]
    return tuple(
        Fix(setting, f"{known.weight:g}", f"{weight:.3g}", f"send {upstream} {what}")
        for weight, what in choices
    )


def _look_at(upstream: str) -> Fix:
    return Fix("", "", "", f"look at {upstream} itself: no setting here makes it faster", is_live=False)
