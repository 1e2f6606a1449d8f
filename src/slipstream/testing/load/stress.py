"""`StressTester`: the guide's stress test, and the search for the limit of a system.

Users are what is raised, not a rate: a rate above what a system can do measures the backlog only.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, SlipstreamError
from slipstream.testing.load.require import require_numpy
from slipstream.testing.load.tester import LoadTester, play

if TYPE_CHECKING:
    from slipstream.config.settings import LoadTesting, Settings
    from slipstream.testing.load.aim import Aim, Aimable
    from slipstream.testing.load.config import LoadConfig
    from slipstream.testing.load.limit import Limit
    from slipstream.testing.load.result import LoadResult
    from slipstream.testing.load.search import Probe

log = logging.getLogger(__name__)


class LimitOptions(Struct, frozen=True, kw_only=True):
    """How a limit is searched; times in seconds."""

    slo: tuple[str, ...] = ()
    """What a good request keeps; empty = a response time of at most `slack` x that of one user."""
    slack: float = 2.5
    wanted_share: float = 0.95
    """Share of requests that must be good."""
    error_threshold: float = 5.0
    """Percent of errors that is reported when it is passed."""
    users_max: int = 1024
    precision: float = 0.03
    """Width of the bracket around the limit, as a share of it."""
    requests: int = 80
    """Requests that a round of a probe should see."""
    round_seconds: float = 10.0
    """Longest round of a probe, its warm-up apart."""
    rounds: int = 3
    """Most rounds until a probe is settled."""
    soak_seconds: float = 20.0
    """Time at 0.9 x the limit that has to be good; 0 = none."""
    seconds_max: float = 900.0
    """The search ends by itself after that."""
    model: str = ""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    """None = as the settings say."""
    prompt_spread: float = 0.0
    output_spread: float = 0.0
    shared_prefix: int = 0
    turns: int = 1
    cached: bool = False
    distinct: int = 10
    body: str = ""
    """These as of `LoadConfig`."""
    timeout: float = 60.0


class StressTester:
    """Raises load until a system gives in.

    Args:
        target: as of `LoadTester`: None = the live server.
        keep: whether results are stored, for `slipstream load list` and `slipstream stress list`.
    """

    def __init__(self, target: "Aimable" = None, *, keep: bool = True) -> None:
        self._target = target
        self._keep = keep
        self._tester = LoadTester(target, keep=keep)

    async def test_load(self, concurrent_users: int, duration: float) -> "LoadResult":
        """Load from so many users for so many seconds: each sends, waits for its answer, sends again.

        Raises as `LoadTester.run_test` does; what goes wrong with the target stands in the result.
        """
        return await self._tester.run_test({"concurrent_users": concurrent_users, "duration": duration})

    async def find_limit(
        self,
        options: LimitOptions | None = None,
        *,
        watch: "Callable[[Probe], None] | None" = None,
        stop: asyncio.Event | None = None,
    ) -> "Limit":
        """Find the most users that are served well, and what holds the system there.

        Doubles the users until they are too many, then closes in where the fitted Universal Scalability
        Law and bisection say; each probe ends as soon as its share of good requests is decided (Wilson
        interval); a soak at 0.9 x confirms.

        Args:
            options: objectives, bounds and times.
            watch: hears of each probe when it is over.
            stop: set it to end the search and get what is known.

        Raises `ConfigurationError` where there is nobody to ask or nobody answers.
        """
        require_numpy()
        from slipstream.config.load import load
        from slipstream.testing.load.aim import aim
        from slipstream.testing.load.config import LoadConfig, read_config
        from slipstream.testing.load.readiness import until_loaded

        options = options or LimitOptions()
        loaded = load()
        settings = loaded.testing
        shared = set(LimitOptions.__struct_fields__) & set(LoadConfig.__struct_fields__)
        told = {name: getattr(options, name) for name in shared}
        shape = read_config({**told, "concurrent_users": 1})
        shape = msgspec.structs.replace(
            shape,
            prompt_tokens=options.prompt_tokens or settings.prompt_tokens,
            output_tokens=options.output_tokens or settings.output_tokens,
        )
        aimed = aim(self._target, shape, loaded)
        await until_loaded(aimed.server, stop)
        search = _Search(options, settings, shape, aimed, stop or asyncio.Event())
        found = await search.run(watch or (lambda _: None))
        return _kept(found, loaded) if self._keep and found.probes else found

    def __repr__(self) -> str:
        return f"StressTester({'' if self._target is None else repr(self._target)})"


class _Search:
    """One search."""

    def __init__(
        self,
        options: LimitOptions,
        settings: "LoadTesting",
        shape: "LoadConfig",
        aimed: "Aim",
        stop: asyncio.Event,
    ) -> None:
        self._options, self._settings, self._shape, self._aim = options, settings, shape, aimed
        self._stop = stop
        self._probes: list[Probe] = []
        self._base_ms = 0.0
        self._highest = 0.0
        """Highest throughput seen."""

    async def run(self, watch: "Callable[[Probe], None]") -> "Limit":
        from slipstream.testing.load.limit import conclude
        from slipstream.testing.load.search import next_users

        options, started, wall = self._options, clock.monotonic_ns(), clock.wall_ns()
        users: int | None = 1
        stopped = "finished"
        while users is not None:
            probe = await self._probe(users)
            if probe is None:
                stopped = "requested"
                break
            self._probes.append(probe)
            watch(probe)
            if (clock.monotonic_ns() - started) / 1e9 > options.seconds_max:
                stopped = "seconds_max"
                break
            users = next_users(
                self._probes,
                users_max=min(options.users_max, self._settings.users),
                precision=options.precision,
                response_ms=self._bound_ms(),
            )
        found = conclude(
            self._probes,
            target=self._aim.shown,
            objectives=self._shape.slo,
            wanted=options.wanted_share,
            error_threshold=options.error_threshold,
        )
        if stopped == "finished" and options.soak_seconds and found.users:
            found = await self._soaked(found, watch)
        return msgspec.structs.replace(
            found,
            seconds=(clock.monotonic_ns() - started) / 1e9,
            time_scale=self._settings.time_scale,
            stopped=stopped,
            started_wall_ns=wall,
        )

    async def _soaked(self, found: "Limit", watch: "Callable[[Probe], None]") -> "Limit":
        from slipstream.testing.load.search import settle

        assert found.users is not None
        users = max(1, int(found.users * 0.9))
        result = await self._round(users, self._options.soak_seconds * self._settings.time_scale)
        if result is None:
            return found
        soak = _told(users, [result])
        verdict = settle(soak.good, soak.count, self._options.wanted_share)
        soak = msgspec.structs.replace(soak, verdict=verdict)
        watch(soak)
        return msgspec.structs.replace(found, soak=soak, confirmed=verdict == "good")

    def _bound_ms(self) -> float | None:
        from slipstream.testing.load.goodput import objectives

        for each in objectives(self._shape.slo):
            if each.measure in {"response", "service"}:
                return each.bound_ms
        return None

    async def _probe(self, users: int) -> "Probe | None":
        """Whether so many users are served well; None = stopped.

        One bad probe would end the search below the limit, and whatever else this machine does can make
        one: a bad one is repeated, and counts if it is bad again.
        """
        first = await self._rounds(users)
        if first is None or first.passes or first.errors == first.count:
            return first
        again = await self._rounds(users)
        if again is None:
            return None
        best = max(first, again, key=lambda each: (each.passes, each.throughput))
        return msgspec.structs.replace(best, disturbed=again.passes)

    async def _rounds(self, users: int) -> "Probe | None":
        """Rounds of a number of users until their share of good requests is decided; None = stopped."""
        from slipstream.testing.load.search import decide, settle
        from slipstream.testing.load.target_effort import Effort

        wanted, results = self._options.wanted_share, []
        effort = Effort(self._aim.target)
        while True:
            result = await self._round(users, self._round_seconds(users))
            if result is None:
                return None
            if not self._base_ms:
                result = self._set_base(result)
            results.append(result)
            told = msgspec.structs.replace(_told(users, results), **effort.read())
            self._highest = max(self._highest, told.throughput)
            verdict = decide(told.good, told.count, wanted)
            hopeless = told.count in {0, told.errors}
            if verdict != "undecided" or len(results) >= self._options.rounds or hopeless:
                verdict = "bad" if hopeless else settle(told.good, told.count, wanted)
                return msgspec.structs.replace(told, verdict=verdict)

    def _set_base(self, result: "LoadResult") -> "LoadResult":
        """What one user alone sees. Without objectives it makes one, by which the result is judged anew."""
        mean = result.summary.latencies["service"].mean.value
        if mean is None:
            kinds = (
                result.summary.hint or ", ".join(result.errors) or result.summary.message or "no answer came"
            )
            raise ConfigurationError(
                f"{self._aim.shown} does not answer a single user: {kinds}.",
                hint="Try it with `slipstream load URL --users 1 --duration 5s`.",
            )
        self._base_ms = mean
        self._highest = float(result.throughput)
        if self._options.slo:
            return result
        bound = max(1.0, self._options.slack * mean)
        self._shape = msgspec.structs.replace(self._shape, slo=(f"response<={bound:.3f}ms",))
        return _judged(result, self._shape.slo)

    def _round_seconds(self, users: int) -> float:
        """Long enough for the wanted requests and for four answers of each user, within the bound."""
        answer = self._answer_seconds(users)
        alone = users / self._base_ms * 1000 if self._base_ms else 0.0
        wanted = self._options.requests / min(alone, 2 * self._highest) if self._highest else 2.0
        longest = self._options.round_seconds * self._settings.time_scale
        return min(max(0.5, wanted, 4 * answer), max(0.5, longest))

    def _answer_seconds(self, users: int) -> float:
        """How long an answer will take, by what was seen so far (Little)."""
        if not self._highest:
            return 0.0
        return max(self._base_ms / 1000, users / self._highest)

    async def _round(self, users: int, seconds: float) -> "LoadResult | None":
        warm_up = 1.25 * self._answer_seconds(users)
        config = msgspec.structs.replace(
            self._shape, concurrent_users=users, duration=seconds + warm_up, warm_up=warm_up, seed=users
        )
        if self._stop.is_set():
            return None
        result = await play(config, self._aim, self._settings, stop=self._stop, joins=False)
        return None if self._stop.is_set() else result


def _kept(found: "Limit", settings: "Settings") -> "Limit":
    from slipstream.testing.load.limit_results import store

    try:
        return store(found, settings)
    except (SlipstreamError, OSError) as error:
        log.warning("the limit is not stored: %s", error)
        return found


def _judged(result: "LoadResult", slo: tuple[str, ...]) -> "LoadResult":
    """A result under other objectives than it was measured with; all its requests were good or failed."""
    from slipstream.testing.load.goodput import good, objectives
    from slipstream.testing.load.result import LoadResult
    from slipstream.testing.load.samples import PHASES
    from slipstream.testing.load.stats import proportion

    assert result.samples is not None, "it was measured here"
    measured = result.samples.select(result.samples.phase == PHASES.index("measured"))
    kept = int(good(measured, objectives(slo)).sum())
    summary = result.summary
    share = kept / summary.counts.ok if summary.counts.ok else 0.0
    return LoadResult(
        msgspec.structs.replace(
            summary,
            good_share=proportion(kept, summary.counts.ok + summary.counts.errors),
            goodput=(summary.throughput or 0.0) * share,
        ),
        result.samples,
    )


def _told(users: int, results: "list[LoadResult]") -> "Probe":
    """All rounds of a probe in one."""
    from slipstream.testing.load.search import Probe

    kinds: dict[str, int] = {}
    good = count = errors = 0
    for each in results:
        summary = each.summary
        ended = summary.counts.ok + summary.counts.errors
        good += round((summary.good_share.value or 0.0) * ended)
        count += ended
        errors += summary.counts.errors
        for kind, number in summary.counts.kinds.items():
            kinds[kind] = kinds.get(kind, 0) + number
    throughput = _throughput(users, results, errors)
    last = results[-1].summary.latencies
    return Probe(
        users=users,
        good=good,
        count=count,
        errors=errors,
        throughput=throughput,
        goodput=throughput * good / (count - errors) if count > errors else 0.0,
        service_ms_mean=last["service"].mean.value,
        response_ms_p50=last["response"].get("p50").value,
        response_ms_p95=last["response"].get("p95").value,
        rounds=len(results),
        error_kinds=kinds,
        invalid=next((each.reasons for each in results if not each.valid), ()),
    )


def _throughput(users: int, results: "list[LoadResult]", errors: int) -> float:
    """Answers per second: by Little's law, users / response time, which a closed loop without errors obeys.

    Counting answers in a short window is off by a whole batch where requests are served in step.
    """
    seconds = sum(each.summary.window_seconds for each in results)
    counted = (
        sum((each.summary.throughput or 0.0) * each.summary.window_seconds for each in results) / seconds
    )
    means = [each.summary.latencies["response"].mean for each in results]
    total = sum((mean.value or 0.0) * mean.samples for mean in means) / 1000
    if errors or not total:
        return counted
    return users * sum(mean.samples for mean in means) / total
