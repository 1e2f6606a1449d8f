"""Replays a condition on the stored past: how often it would have fired, and with which `for` less often."""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from slipstream.config.alerting import Slo
from slipstream.core.alerts import AlertState, Answer, Phase, Terms, advance
from slipstream.core.errors import BadRequest
from slipstream.core.readings import Readings, Span
from slipstream.monitoring.alerts.replay import Replay
from slipstream.monitoring.conditions.program import Program, compiled
from slipstream.monitoring.conditions.units import duration

LOOKS_MAX = 50_000
"""Most moments that are asked."""
EPISODES_MAX = 100
"""Most episodes that are listed; all are counted."""
RANGE_SECONDS_MAX = 400 * 86400
FORS = (0, 60, 180, 600, 1800)
"""The `for` that are tried beside the one that is written, in seconds."""
_TIERS = ((2 * 3600, 1), (48 * 3600, 10), (30 * 86400, 60), (RANGE_SECONDS_MAX, 3600))
"""Up to which age the past is stored in which steps, in seconds."""
_STORED_SECONDS = 10
"""The finest step that is on disk; seconds are in memory."""


class Episode(Struct, frozen=True):
    """One time that it would have fired."""

    started_wall_ns: int
    ended_wall_ns: int
    """0 where it would fire still."""
    value: str


class Variant(Struct, frozen=True):
    """How often it would have fired with another `for`."""

    for_seconds: int
    fired: int
    firing_seconds: float


class Backtest(Struct, frozen=True):
    """What a rule would have done.

    Attributes:
        step_seconds: how finely the past was looked at; shorter episodes are not seen.
        looks, no_data: moments that were asked, and those that had no data.
        fired: how often it would have begun to fire.
        episodes: the latest of them.
        variants: the same with other `for`.
        verdict: all that in a sentence.
    """

    expanded: str
    start_wall_ns: int
    end_wall_ns: int
    step_seconds: float
    looks: int
    no_data: int
    fired: int
    firing_seconds: float
    episodes: tuple[Episode, ...]
    variants: tuple[Variant, ...]
    verdict: str


def backtest(
    text: str, slos: Mapping[str, Slo], readings: Readings, start_wall_ns: int, end_wall_ns: int
) -> Backtest:
    """Ask a condition at every step of a past range. May read files: not for an event loop.

    Raises `ConditionError`, and `BadRequest` for a range that is none or too long.
    """
    program = compiled(text, slos)
    span = _span(start_wall_ns, end_wall_ns, readings)
    answers = _answers(program, readings, span)
    own = _episodes(program, program.terms, answers, span)
    step_ns = int(span.step_seconds * 1e9)
    variants = []
    for seconds in sorted({*FORS, program.condition.for_seconds}):
        found = _episodes(program, replace(program.terms, for_ns=seconds * 1_000_000_000), answers, span)
        variants.append(Variant(seconds, len(found), _firing_seconds(found, span)))
    return Backtest(
        expanded=program.expanded,
        start_wall_ns=span.start_ns,
        end_wall_ns=span.end_ns,
        step_seconds=step_ns / 1e9,
        looks=len(answers),
        no_data=sum(answer.fires is None for answer in answers),
        fired=len(own),
        firing_seconds=_firing_seconds(own, span),
        episodes=tuple(own[-EPISODES_MAX:]),
        variants=tuple(variants),
        verdict=_verdict(program, len(own), variants, has_data=any(a.fires is not None for a in answers)),
    )


def _span(start_ns: int, end_ns: int, readings: Readings) -> Span:
    now_ns = readings.now_wall_ns()
    end_ns = min(end_ns, now_ns)
    seconds = (end_ns - start_ns) / 1e9
    if not 0 < seconds <= RANGE_SECONDS_MAX:
        raise BadRequest(
            "The range to test on is not in the past, empty, or longer than 400 days.", param="from"
        )
    age = (now_ns - start_ns) / 1e9
    step = next((step for reach, step in _TIERS if age <= reach), _TIERS[-1][1])
    if start_ns < readings.fresh_since_ns():  # of before the start of this server there are no seconds
        step = max(step, _STORED_SECONDS)
    step = max(step, -(-int(seconds) // LOOKS_MAX))
    step_ns = step * 1_000_000_000
    return Span(start_ns // step_ns * step_ns, end_ns, float(step))


def _answers(program: Program, readings: Readings, span: Span) -> list[Answer]:
    replay = Replay(readings, span, program.window_seconds + span.step_seconds)
    step_ns = int(span.step_seconds * 1e9)
    answers = []
    for moment in range(span.start_ns, span.end_ns + 1, step_ns):
        replay.move(moment)
        answers.append(program.ask(replay))
    return answers


def _episodes(program: Program, terms: Terms, answers: Sequence[Answer], span: Span) -> list[Episode]:
    step_ns = int(span.step_seconds * 1e9)
    state, found = AlertState(), []
    for number, answer in enumerate(answers):
        before = state.phase
        wall_ns = span.start_ns + number * step_ns
        state = advance(state, terms, answer, step_ns if number else 0, wall_ns)
        if state.phase is Phase.FIRING and before is not Phase.FIRING:
            found.append(Episode(wall_ns, 0, program.shown(answer.value)))
        elif before is Phase.FIRING and state.phase is not Phase.FIRING:
            found[-1] = replace(found[-1], ended_wall_ns=wall_ns)
    return found


def _firing_seconds(episodes: Sequence[Episode], span: Span) -> float:
    return sum((each.ended_wall_ns or span.end_ns) - each.started_wall_ns for each in episodes) / 1e9


def _verdict(program: Program, fired: int, variants: Sequence[Variant], *, has_data: bool) -> str:
    if not has_data:
        return "There was no data to say so in this range."
    said = f"It would have fired {_times(fired)}" if fired else "It would never have fired"
    own = program.condition.for_seconds
    calmer = next((each for each in variants if each.for_seconds > own and each.fired < fired), None)
    if calmer is None or fired < 2:
        return f"{said}."
    return f"{said}; with `for {duration(calmer.for_seconds)}`: {_times(calmer.fired)}."


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")
