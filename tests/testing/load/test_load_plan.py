"""Plans: arrivals follow their process, ramps keep it, shards lose nothing, contradictions are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.plan import SECOND, Lengths, Plan, Trace, TrafficSpec, arrivals, shard


def gaps(plan: Plan) -> np.ndarray:
    return np.diff(arrivals(plan)) / SECOND


def test_constant_rate_is_constant() -> None:
    """Request k of a constant rate is due at k / rate, the first one at once."""
    plan = Plan(loop="constant", rate=40, duration_seconds=2)

    assert arrivals(plan).tolist() == [k * SECOND // 40 for k in range(80)]


def test_poisson_gaps_are_exponential() -> None:
    """Gaps of a Poisson process have mean and standard deviation 1 / rate, and no memory."""
    drawn = gaps(Plan(loop="poisson", rate=500, duration_seconds=100, seed=1))

    assert np.isclose(drawn.mean(), 1 / 500, rtol=0.02)
    assert np.isclose(drawn.std(), 1 / 500, rtol=0.03)
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.02


@pytest.mark.parametrize("burstiness", [0.25, 4.0])
def test_gamma_gaps_have_the_burstiness_asked_for(burstiness: float) -> None:
    """The coefficient of variation of the gaps is 1 / sqrt(burstiness), at the same rate."""
    drawn = gaps(Plan(loop="gamma", rate=500, burstiness=burstiness, duration_seconds=200, seed=2))

    assert np.isclose(drawn.mean(), 1 / 500, rtol=0.03)
    assert np.isclose(drawn.std() / drawn.mean(), burstiness**-0.5, rtol=0.05)


def test_a_ramp_grows_in_a_straight_line() -> None:
    """During a ramp half of the requests are due in its last 1 - 1/sqrt(2) part; then the rate holds."""
    times = arrivals(Plan(loop="constant", rate=1000, ramp_seconds=4, duration_seconds=10)) / SECOND

    assert abs(np.count_nonzero(times < 4) - 2000) <= 1
    assert abs(np.count_nonzero(times < 4 / np.sqrt(2)) - 1000) <= 1
    assert abs(np.count_nonzero((times >= 4) & (times < 5)) - 1000) <= 1


@pytest.mark.parametrize("last", [0.0, 50.0, 300.0])
def test_a_rate_moves_to_another(last: float) -> None:
    """A rate that moves sends the integral of its line, half way through its first half."""
    times = arrivals(Plan(loop="constant", rate=100, rate_to=last, duration_seconds=10)) / SECOND

    assert abs(len(times) - (100 + last) / 2 * 10) <= 1
    middle = (100 + last) / 2
    assert abs(np.count_nonzero(times < 5) - (100 + middle) / 2 * 5) <= 1


@settings(max_examples=60, deadline=None)
@given(
    loop=st.sampled_from(["constant", "poisson", "gamma"]),
    rate=st.floats(0.5, 2000),
    burstiness=st.floats(0.1, 10),
    duration=st.floats(0.5, 5),
    ramp=st.floats(0, 1),
    workers=st.integers(1, 7),
    seed=st.integers(0, 2**31),
)
def test_shards_are_the_plan(
    loop: str, rate: float, burstiness: float, duration: float, ramp: float, workers: int, seed: int
) -> None:
    """Arrivals ascend inside the duration, the same each time, and the shards hold each exactly once."""
    plan = Plan(
        loop=loop,  # type: ignore[arg-type]
        rate=rate,
        burstiness=burstiness,
        duration_seconds=duration,
        ramp_seconds=ramp * duration,
        seed=seed,
    )
    times = arrivals(plan)
    parts = shard(plan, workers)

    assert np.array_equal(times, arrivals(plan))
    assert np.all(np.diff(times) >= 0)
    assert len(times) == 0 or (times[0] >= 0 and times[-1] < duration * SECOND)
    whole = np.empty_like(times)
    for part in parts:
        whole[part.first :: part.step] = part.arrivals_ns
    assert np.array_equal(whole, times)


@given(users=st.integers(1, 500), requests=st.integers(1, 500), workers=st.integers(1, 9))
def test_users_and_requests_are_dealt_out_whole(users: int, requests: int, workers: int) -> None:
    """Every user and every request of a closed loop is some worker's, and no worker is without."""
    parts = shard(Plan(users=users, requests=requests), workers)

    assert sum(part.users or 0 for part in parts) == users
    assert sum(part.requests or 0 for part in parts) == requests
    assert min(part.users or 0 for part in parts) >= 1


def test_a_trace_is_dealt_out_with_its_lengths_and_blocks() -> None:
    """A shard of a trace has the lengths and blocks of its own requests, at the speed asked for."""
    trace = Trace(
        arrivals_ns=np.arange(5) * SECOND,
        prompt_tokens=np.arange(5, dtype=np.int32) * 10,
        output_tokens=np.arange(5, dtype=np.int32),
        blocks=np.array([7, 8, 8, 9, 9, 9]),
        block_offsets=np.array([0, 1, 1, 3, 3, 6]),
    )
    _, second = shard(Plan(loop="trace", trace=trace, trace_speed=2, duration_seconds=10), 2)

    assert second.arrivals_ns.tolist() == [SECOND // 2, 3 * SECOND // 2]
    assert second.trace is not None
    assert second.trace.prompt_tokens.tolist() == [10, 30]
    first, _ = shard(Plan(loop="trace", trace=trace, duration_seconds=10), 2)
    assert first.trace is not None
    assert first.trace.blocks.tolist() == [7, 8, 8, 9, 9, 9]
    assert first.trace.block_offsets.tolist() == [0, 1, 3, 6]


@pytest.mark.parametrize(
    ("kind", "mean", "spread"), [("normal", 200, 20), ("lognormal", 200, 100), ("fixed", 200, 0)]
)
def test_lengths_have_their_mean_and_spread(kind: str, mean: float, spread: float) -> None:
    """Drawn token counts have the mean and standard deviation that were asked for."""
    lengths = Lengths(kind=kind, mean=mean, spread=spread)  # type: ignore[arg-type]
    drawn = lengths.draw(200_000, np.random.default_rng(0))

    assert np.isclose(drawn.mean(), mean, rtol=0.01)
    assert np.isclose(drawn.std(), spread, rtol=0.02, atol=0.5)


def test_lengths_stay_in_their_bounds() -> None:
    """Uniform counts take every value from low to high; others are cut there."""
    uniform = Lengths(kind="uniform", low=3, high=6).draw(1000, np.random.default_rng(0))
    cut = Lengths(kind="normal", mean=10, spread=50, low=1, high=20).draw(1000, np.random.default_rng(0))

    assert sorted(set(uniform.tolist())) == [3, 4, 5, 6]
    assert (cut.min(), cut.max()) == (1, 20)


CONTRADICTIONS = {
    "rate of a closed loop": {"users": 1, "rate": 5},
    "no users": {},
    "no rate": {"loop": "constant"},
    "ramp longer than the run": {"users": 1, "duration_seconds": 5, "ramp_seconds": 6},
    "warm-up as long as the run": {"users": 1, "duration_seconds": 5, "warmup_seconds": 5},
    "thinking in an open loop": {"loop": "constant", "rate": 1, "think_seconds": 1},
    "sessions in an open loop": {"loop": "constant", "rate": 1, "traffic": {"turns": 2}},
    "no duration": {"users": 1, "duration_seconds": 0},
    "trace without one": {"loop": "trace"},
    "salted and distinct": {"users": 1, "traffic": {"distinct": 2}},
    "prompts and bodies": {"users": 1, "traffic": {"prompts": ("a",), "bodies": (b"b",)}},
    "no burstiness": {"loop": "gamma", "rate": 1, "burstiness": 0},
    "half a user": {"loop": "constant", "rate": 1, "users": 0},
    "no requests": {"users": 1, "requests": 0},
}


@pytest.mark.parametrize("fields", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_refused_with_advice(fields: dict[str, object]) -> None:
    """A plan that contradicts itself says what is wrong and what to do."""

    def build() -> Plan:
        traffic = TrafficSpec(**fields.get("traffic", {}))  # type: ignore[arg-type]
        return Plan(**{**fields, "traffic": traffic})  # type: ignore[arg-type]

    with pytest.raises(ConfigurationError) as caught:
        build()

    assert caught.value.hint
