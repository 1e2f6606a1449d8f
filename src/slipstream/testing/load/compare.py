"""A against B, measured in turn: which is slower, how sure that is, and a verdict for CI."""

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

import msgspec
import numpy as np
from msgspec import Struct

from slipstream.core.errors import BadRequest, ConfigurationError
from slipstream.testing.load.aim import Aimable, aim
from slipstream.testing.load.config import LoadConfig
from slipstream.testing.load.goodput import Measure, measured_ms
from slipstream.testing.load.ratio import Ratio, Verdict, ratio
from slipstream.testing.load.readiness import until_loaded
from slipstream.testing.load.samples import PHASES
from slipstream.testing.load.stats import Estimate, Floats, block_bootstrap, proportion
from slipstream.testing.load.summary import SHARES
from slipstream.testing.load.tester import play
from slipstream.testing.load.thresholds import threshold

if TYPE_CHECKING:
    from slipstream.config.settings import LoadTesting
    from slipstream.testing.load.aim import Aim
    from slipstream.testing.load.result import LoadResult

RISING = frozenset({"throughput", "goodput", "output_tokens_per_second"})
"""Figures of which more is better; their ratio is turned over."""
REPEATS = 2
"""Up to so many times the rounds are played, where some do not count because the client was too slow."""
DRAWS = 100
BOOTSTRAP_MIN = 20
"""Fewest requests of a round from which the noise of its percentile is read."""
ERROR_SHARE_MIN = 0.01
"""Below this, more errors of B do not fail a comparison."""


class CompareOptions(Struct, frozen=True, kw_only=True):
    """How two targets are compared; times in seconds."""

    figure: str = "p50"
    """As thresholds name it."""
    tolerance: float = 0.1
    """Share by which B may be worse."""
    rounds: int = 7
    """Each measures both, in alternating order."""
    round_seconds: float = 5.0
    """Of one target in one round."""


class Side(Struct, frozen=True, kw_only=True):
    """One of the two."""

    target: str
    values: tuple[float, ...]
    """The figure of each round."""
    requests: int
    error_share: Estimate


class Comparison(Struct, frozen=True, kw_only=True):
    """What came out."""

    a: Side
    b: Side
    found: Ratio | None
    """None where too few rounds have the figure."""
    verdict: Verdict
    why: str
    """One sentence."""
    time_scale: float = 1.0
    cautions: tuple[str, ...] = ()


async def compare(
    first: Aimable,
    second: Aimable,
    config: LoadConfig,
    options: CompareOptions | None = None,
    *,
    watch: Callable[[int, float | None, float | None], None] | None = None,
    stop: asyncio.Event | None = None,
) -> Comparison:
    """Measure two targets in turn with the same load and judge whether the second is slower.

    Args:
        first: A, the one to compare with; as `LoadTester` takes it.
        second: B.
        config: the load; its duration is replaced by the options'.
        options: figure, tolerance, rounds.
        watch: hears of each round: its number and both figures.
        stop: set it to end early and judge what there is.

    Raises `ConfigurationError` and `BadRequest` for what cannot be compared.
    """
    from slipstream.config.load import load

    options = options or CompareOptions()
    name = figure_name(options.figure)
    settings = load()
    seconds = options.round_seconds * settings.testing.time_scale
    warm_up = min(config.warm_up, seconds / 2)
    config = msgspec.structs.replace(
        config,
        duration=seconds,
        warm_up=warm_up,
        prompt_tokens=config.prompt_tokens or settings.testing.prompt_tokens,
        output_tokens=config.output_tokens or settings.testing.output_tokens,
    )
    aims = (aim(first, config, settings), aim(second, config, settings))
    stop = stop or asyncio.Event()
    for each in aims:
        await until_loaded(each.server, stop)
    rounds: list[tuple[LoadResult, LoadResult]] = []
    for number in range(options.rounds * REPEATS):
        if len(_valid(rounds)) == options.rounds:
            break
        pair = await _round(aims, config, settings.testing, number=number, stop=stop)
        if pair is None:
            break
        rounds.append(pair)
        if watch is not None:
            watch(number + 1, _value(pair[0], name), _value(pair[1], name))
    found = judged(rounds, (aims[0].shown, aims[1].shown), name, options.tolerance)
    return msgspec.structs.replace(found, time_scale=settings.testing.time_scale)


def figure_name(text: str) -> str:
    """A figure by its whole name. Raises `BadRequest` for what is none, or cannot be compared."""
    name = threshold(f"{text} > 1").figure
    if name in {"requests", "errors"} or name.endswith(("_rate", "_share")):
        raise BadRequest(f"`{text[:40]}` is no figure to compare by.", hint="Choose p50, p95, ttft.p50, ...")
    return name


async def _round(
    aims: "tuple[Aim, Aim]", config: LoadConfig, settings: "LoadTesting", *, number: int, stop: asyncio.Event
) -> "tuple[LoadResult, LoadResult] | None":
    """Both targets once, B first in every second round; None where it was stopped."""
    order = (0, 1) if number % 2 == 0 else (1, 0)
    results: dict[int, LoadResult] = {}
    config = msgspec.structs.replace(config, seed=config.seed + number)
    for side in order:
        if not stop.is_set():
            results[side] = await play(config, aims[side], settings, stop=stop, joins=False)
    if stop.is_set():
        return None
    for side, result in results.items():
        if not result.successful_requests:
            kinds = (
                result.summary.hint or ", ".join(result.errors) or result.summary.message or "no answer came"
            )
            raise ConfigurationError(
                f"{aims[side].shown} answered nothing: {kinds}.",
                hint="Try it alone with `slipstream load URL`.",
            )
    return results[0], results[1]


def judged(
    rounds: "list[tuple[LoadResult, LoadResult]]", targets: tuple[str, str], name: str, tolerance: float
) -> Comparison:
    """The verdict on rounds of (A, B); those in which the client was the bottleneck say nothing."""
    valid = _valid(rounds)
    cautions = tuple(sorted({each.reasons[0] for pair in rounds for each in pair if not each.valid}))
    pairs = [(a, b) for each in valid if (a := _value(each[0], name)) and (b := _value(each[1], name))]
    if name in RISING:
        pairs = [(1 / a, 1 / b) for a, b in pairs]
    sides = [_side(targets[side], [each[side] for each in rounds], name) for side in (0, 1)]
    noise = _noise(valid, name)
    found = ratio(pairs, figure=name, tolerance=tolerance, noise=noise) if len(pairs) >= 3 else None
    verdict: Verdict = "INCONCLUSIVE" if found is None else found.verdict
    why = f"only {len(pairs)} rounds have the figure, three are needed" if found is None else _why(found)
    worse = _more_errors(sides[0].error_share, sides[1].error_share)
    if worse:
        verdict, why = "FAIL", worse
    elif found is None and cautions:
        lost = f"{len(rounds) - len(valid)} of {len(rounds)}"
        why = f"in {lost} rounds the client was the bottleneck: {cautions[0]}"
    return Comparison(a=sides[0], b=sides[1], found=found, verdict=verdict, why=why, cautions=cautions)


def _valid(rounds: "list[tuple[LoadResult, LoadResult]]") -> "list[tuple[LoadResult, LoadResult]]":
    return [pair for pair in rounds if pair[0].valid and pair[1].valid]


def _noise(rounds: "list[tuple[LoadResult, LoadResult]]", name: str) -> float:
    """Standard deviation of a round's log-ratio by sampling alone: both sides' block bootstraps together."""
    measure, _, statistic = name.partition(".")
    share = SHARES.get(statistic)
    variances = []
    for seed, pair in enumerate(rounds):
        for result in pair:
            values = _measured(result, measure)
            if share is None or values is None or len(values) < BOOTSTRAP_MIN:
                return 0.0
            drawn = block_bootstrap(values, share, draws=DRAWS, seed=seed)
            variances.append(float(np.log(drawn).var()))
    return math.sqrt(2 * sum(variances) / len(variances)) if variances else 0.0


def _measured(result: "LoadResult", measure: str) -> Floats | None:
    """A measure of each good request in order of time; None for what is not one value a request."""
    known = next((each for each in get_args(Measure) if each == measure), None)
    if known is None or result.samples is None:
        return None
    samples = result.samples
    values = measured_ms(samples.select(samples.ok & (samples.phase == PHASES.index("measured"))), known)
    return values[values > 0]  # without NaN


def _why(found: Ratio) -> str:
    said = {
        "FAIL": f"B is more than {found.tolerance:.0%} worse",
        "PASS": f"B is at most {found.tolerance:.0%} worse",
        "INCONCLUSIVE": f"{found.tolerance:.0%} lies inside the interval: more rounds would tell",
    }
    return said[found.verdict]


def _more_errors(first: Estimate, second: Estimate) -> str:
    """That B fails surely more often than A; empty if not."""
    if first.high is None or second.low is None or second.value is None:
        return ""
    if second.low > first.high and second.value >= ERROR_SHARE_MIN:
        return f"B fails {second.value:.1%} of its requests, A {first.value or 0:.1%}"
    return ""


def _side(target: str, results: "list[LoadResult]", name: str) -> Side:
    errors = sum(each.failed_requests for each in results)
    count = errors + sum(each.successful_requests for each in results)
    values = [value for each in results if (value := _value(each, name)) is not None]
    return Side(target=target, values=tuple(values), requests=count, error_share=proportion(errors, count))


def _value(result: "LoadResult", name: str) -> float | None:
    """The figure of a round; also where its own interval would be wide, for the rounds say how wide."""
    figure = result.figure(name)
    return float(figure) if figure is not None and figure.samples and figure == figure else None  # noqa: PLR0124
