"""What a load test may be told, and what is said about contradictions."""

import pytest

from slipstream.config.settings import LoadTesting
from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.config import LoadConfig, read_config, scaled

GUIDE = {"concurrent_users": 50, "duration": 300, "ramp_up": 30, "requests_per_second": 10}


def test_the_guides_config() -> None:
    """The guide's four keys are taken as they stand; whole numbers are seconds."""
    config = read_config(GUIDE)

    assert (config.concurrent_users, config.duration, config.ramp_up) == (50, 300.0, 30.0)
    assert config.requests_per_second == 10.0
    assert read_config(config) is config


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"duration": 10}, "neither"),
        ({"concurrent_users": 5, "duration": 10, "ramp_up": 11}, "ramps up"),
        ({"concurrent_users": 5, "requests_per_second": 5, "think_time": 1}, "think_time"),
        ({"concurrent_users": 5, "arrivals": "poisson"}, "without a rate"),
        ({"requests_per_second": 5, "arrivals": "poisson", "burstiness": 2}, "burstiness"),
        ({"requests_per_second": 0.1, "duration": 5}, "first request"),
        ({"concurrent_users": 1, "duration": 5, "warm_up": 5}, "warm-up"),
        ({"concurrent_users": 1, "prompt": "Hello", "prompt_tokens": 9}, "prompt"),
        ({"trace": "t.csv", "requests_per_second": 5}, "trace"),
        ({"concurrent_users": 1, "trace_speed": 2}, "trace"),
        ({"concurrent_users": 0}, "concurrent_users"),
        ({"concurrent_users": 2.5}, "concurrent_users"),
        ({"concurrent_users": 1, "duration": "long"}, "duration"),
        ({"concurrent_users": 1, "duration": float("nan")}, "duration"),
        ({"concurrent_users": 1, "duration": -1}, "duration"),
        ({"concurent_users": 1}, "concurrent_users"),
        ([1], "mapping"),
    ],
)
def test_contradictions_are_told(given: object, said: str) -> None:
    """One clear sentence and what to write; nothing runs."""
    with pytest.raises(ConfigurationError) as caught:
        read_config(given)

    assert said in str(caught.value)
    assert caught.value.hint


def test_times_are_scaled_and_rates_are_not() -> None:
    """testing.time_scale shortens a test, it does not change what it asks of the server."""
    config = scaled(read_config(GUIDE), LoadTesting(time_scale=0.01))

    assert (config.duration, config.ramp_up) == (3.0, pytest.approx(0.3))
    assert (config.concurrent_users, config.requests_per_second) == (50, 10.0)
    assert (config.prompt_tokens, config.output_tokens) == (64, 16)


@pytest.mark.parametrize(
    ("config", "caps", "named"),
    [
        (LoadConfig(concurrent_users=11), LoadTesting(users=10), "testing.users"),
        (LoadConfig(requests_per_second=11), LoadTesting(rate=10), "testing.rate"),
        (LoadConfig(concurrent_users=1, duration=11), LoadTesting(seconds=10), "testing.seconds"),
        (LoadConfig(requests_per_second=100, duration=11), LoadTesting(requests=1000), "testing.requests"),
    ],
)
def test_caps_are_told(config: LoadConfig, caps: LoadTesting, named: str) -> None:
    """What is beyond a cap is refused by its name."""
    with pytest.raises(ConfigurationError, match=named):
        scaled(config, caps)
