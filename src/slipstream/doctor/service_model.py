"""How long one upstream takes for a request, fitted from what was recorded of it. Pure.

First token = a + b * prompt tokens + c * requests there at once, times a resampled residual; the time a
token, and the whole of an unstreamed answer, likewise. (The method of LLM-Emu, arXiv 2605.00616, which
finds the first token the hard part: about 10 %.) The residual is relative, as the spread of service
times grows with them; those of first token and of the tokens after it are drawn from the same request.
"""

import random
from collections.abc import Sequence

from msgspec import Struct

from slipstream.core.record import Record
from slipstream.doctor.least_squares import fit, value
from slipstream.doctor.times import Visit, is_answered, parts_of, quantile

OBSERVED_MIN = 12
"""With fewer answers of a kind an upstream's times are not known."""

BYTES_PER_TOKEN = 4.0
"""Where an upstream does not say how long a prompt was."""

FLOOR_SECONDS = 1e-4
"""No answer takes less; a line must not predict that one is there before it was asked for."""


class Observation(Struct, frozen=True):
    """One answer as its upstream gave it; times in seconds. `pace` is per token after the first."""

    prompt: float
    output: float
    streamed: bool
    together: float
    mean_together: float
    first: float
    service: float
    model: str = ""

    @property
    def pace(self) -> float | None:
        """Seconds a token after the first; None where there is no second."""
        return (self.service - self.first) / (self.output - 1) if self.output >= 2 else None


class Drawn(Struct, frozen=True):
    """What a request is given: seconds to the first byte, and from there to the end."""

    first: float
    rest: float


class Line(Struct, frozen=True):
    """A fitted line and the relative residuals of what it was fitted to."""

    coefficients: tuple[float, ...]
    residuals: tuple[float, ...]

    def at(self, *row: float) -> float:
        """The middle of what is to be expected."""
        return max(FLOOR_SECONDS, value(self.coefficients, row))


class ServiceModel(Struct, frozen=True):
    """The times of one upstream. A line is None where too little of its kind was seen.

    `together_max` is the most that were ever there at once, and bounds what may be asked of the model.
    """

    first: Line | None
    pace: Line | None
    whole: Line | None
    together_max: int
    count: int

    @property
    def is_known(self) -> bool:
        """Whether anything can be drawn."""
        return (self.first is not None and self.pace is not None) or self.whole is not None

    def expected(self, asked: Observation) -> float | None:
        """The middle of the service time of such a request; None where its kind is not known."""
        if (asked.streamed or self.whole is None) and self.first is not None and self.pace is not None:
            first = self.first.at(asked.prompt, asked.together)
            return first + max(0.0, asked.output - 1) * self.pace.at(asked.mean_together)
        if self.whole is not None:
            return self.whole.at(asked.prompt, asked.output, asked.together)
        return None

    def draw(
        self, prompt: float, output: float, together: float, *, streamed: bool, chance: random.Random
    ) -> Drawn:
        """The time of one request. `chance` is asked once, so that two replays give it the same luck."""
        luck = chance.random()
        if (streamed or self.whole is None) and self.first is not None and self.pace is not None:
            first = self.first.at(prompt, together) * _pick(self.first.residuals, luck)
            rest = max(0.0, output - 1) * self.pace.at(together) * _pick(self.pace.residuals, luck)
            return Drawn(first, rest) if streamed else Drawn(first + rest, 0.0)
        assert self.whole is not None
        whole = self.whole.at(prompt, output, together) * _pick(self.whole.residuals, luck)
        if not streamed or output < 2:
            return Drawn(whole, 0.0)
        return Drawn(whole / output, whole - whole / output)


def _pick(residuals: Sequence[float], luck: float) -> float:
    return residuals[int(luck * len(residuals))] if residuals else 1.0


def observations(records: Sequence[Record], found: Sequence[Visit]) -> dict[str, list[Observation]]:
    """What was seen of each upstream's answers, in the order of the visits."""
    seen: dict[str, list[Observation]] = {}
    for visit in found:
        record = records[visit.index]
        if record.outcome != "served" or not is_answered(record):
            continue
        parts = parts_of(record)
        prompt = (
            record.prompt_tokens
            if record.prompt_tokens is not None
            else record.request_bytes / BYTES_PER_TOKEN
        )
        seen.setdefault(visit.upstream, []).append(
            Observation(
                float(prompt),
                float(record.output_tokens or 1),
                record.stream,
                float(visit.together),
                visit.mean_together,
                parts.first / 1e9,
                parts.service / 1e9,
                record.model,
            )
        )
    return seen


def fitted(seen: Sequence[Observation]) -> ServiceModel:
    """The model of what was seen; its parts are None where less than `OBSERVED_MIN` was."""
    streamed = [each for each in seen if each.streamed]
    unstreamed = [each for each in seen if not each.streamed]
    with_pace = [each for each in streamed if each.pace is not None]
    if 2 * len(with_pace) >= len(streamed):  # residuals of both lines are drawn from the same request
        streamed = with_pace
    first = _line([(each.prompt, each.together) for each in streamed], [each.first for each in streamed])
    pace = _line([(each.mean_together,) for each in with_pace], [each.pace or 0.0 for each in with_pace])
    if first is not None and pace is None:
        pace = Line((FLOOR_SECONDS, 0.0), (1.0,))
    whole = _line(
        [(each.prompt, each.output, each.together) for each in unstreamed],
        [each.service for each in unstreamed],
    )
    most = max((int(each.together) for each in seen), default=0)
    return ServiceModel(first, pace, whole, most, len(seen))


def _line(rows: Sequence[tuple[float, ...]], targets: Sequence[float]) -> Line | None:
    if len(rows) < OBSERVED_MIN:
        return None
    coefficients = fit(rows, targets)
    middles = [max(FLOOR_SECONDS, value(coefficients, row)) for row in rows]
    residuals = tuple(target / middle for target, middle in zip(targets, middles, strict=True))
    return Line(coefficients, residuals)


class Checked(Struct, frozen=True):
    """How far the model is off on answers that it was not fitted to: relative errors of quantiles."""

    p50_error: float
    p95_error: float
    count: int


def held_out(seen: Sequence[Observation], *, seed: int = 0) -> Checked | None:
    """Fit to every second answer, draw the others: how far the quantiles are off. None with too few."""
    model = fitted(seen[0::2])
    rest = seen[1::2]
    if not model.is_known or len(rest) < OBSERVED_MIN:
        return None
    chance = random.Random(seed)  # noqa: S311 (no secret)
    drawn = [
        model.draw(each.prompt, each.output, each.mean_together, streamed=each.streamed, chance=chance)
        for each in rest
    ]
    told, real = [each.first + each.rest for each in drawn], [each.service for each in rest]
    errors = [quantile(told, share) / max(FLOOR_SECONDS, quantile(real, share)) - 1 for share in (0.5, 0.95)]
    return Checked(errors[0], errors[1], len(rest))
