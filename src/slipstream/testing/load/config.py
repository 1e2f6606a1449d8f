"""What a load test is told, checked: the guide's `test_config` and its further keys.

Knows what contradicts what, and what to write instead; it builds no request and no plan.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from slipstream.config.settings import LoadTesting
from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.goodput import objectives

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Arrivals = Literal["constant", "poisson", "gamma"]


class LoadConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load test, as asked for; times in seconds.

    With `requests_per_second` it is an open loop: requests are due at their times whatever the server
    does, and `concurrent_users` bounds those in flight; one that is due without a free user is sent late,
    and its wait counts in its response time. Without it, each user sends, waits for the answer, thinks,
    and sends again.
    """

    concurrent_users: Count | None = None
    duration: Positive = 60.0
    ramp_up: Annotated[float, Meta(ge=0)] = 0.0
    """Inside `duration`: users or rate grow from nothing to their full number."""
    requests_per_second: Positive | None = None
    arrivals: Arrivals = "constant"
    burstiness: Positive = 1.0
    """Shape of gamma arrivals: 1 is Poisson, less is burstier."""
    think_time: Annotated[float, Meta(ge=0)] = 0.0
    max_requests: Count | None = None
    warm_up: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds at the start whose requests are left out of every figure."""
    timeout: Positive = 60.0
    """Longest a request may take from when it is sent."""
    model: str = ""
    prompt: str = ""
    """Sent as it is (salted unless `cached`); empty = synthetic prompts of `prompt_tokens`."""
    prompt_tokens: Count | None = None
    output_tokens: Count | None = None
    """None = as the settings say."""
    prompt_spread: Annotated[float, Meta(ge=0)] = 0.0
    output_spread: Annotated[float, Meta(ge=0)] = 0.0
    """Standard deviations of the lengths, in tokens: they are log-normal then, as real ones nearly are."""
    shared_prefix: Annotated[int, Meta(ge=0)] = 0
    """So many tokens at the beginning are the same in all made-up prompts, as a system prompt is."""
    turns: Count = 1
    """Of a session; each turn sends all before it again. Users only."""
    body: str = ""
    """The body of each request of a target with the dialect `http`."""
    stream: bool = True
    cached: bool = False
    """Send the same `distinct` prompts again and again, in every run, so that caches may answer."""
    distinct: Count = 10
    slo: tuple[str, ...] = ()
    """What a good request keeps, such as `ttft<500ms`."""
    seed: int = 0
    trace: str = ""
    """File of recorded traffic whose times and lengths are played; it takes the place of users and rate."""
    trace_speed: Positive = 1.0
    """The recorded times are divided by it."""
    name: str = ""


def read_config(given: "Mapping[str, object] | LoadConfig") -> LoadConfig:
    """A checked config. Raises `ConfigurationError` that names the key, and what to write."""
    if not isinstance(given, LoadConfig):
        if not isinstance(given, Mapping):
            raise ConfigurationError(
                f"A test config is a mapping, not {type(given).__name__}.",
                hint='Write it like {"concurrent_users": 10, "duration": 60}.',
            )
        given = _read(given)
    _check(given)
    return given


def scaled(config: LoadConfig, settings: LoadTesting) -> LoadConfig:
    """The config with its times on the settings' scale and the settings' lengths, within their caps.

    Raises `ConfigurationError` for what is beyond a cap.
    """
    scale = settings.time_scale
    config = msgspec.structs.replace(
        config,
        duration=config.duration * scale,
        ramp_up=config.ramp_up * scale,
        think_time=config.think_time * scale,
        warm_up=config.warm_up * scale,
        prompt_tokens=config.prompt_tokens or (None if config.prompt else settings.prompt_tokens),
        output_tokens=config.output_tokens or settings.output_tokens,
    )
    for asked, most, setting in (
        (config.duration, settings.seconds, "seconds"),
        (config.concurrent_users or 0, settings.users, "users"),
        (config.requests_per_second or 0, settings.rate, "rate"),
        (config.max_requests or 0, settings.requests, "requests"),
        ((config.requests_per_second or 0) * config.duration, settings.requests, "requests"),
    ):
        if asked > most:
            raise ConfigurationError(
                f"The test asks for {asked:g}, and testing.{setting} allows {most:g}.",
                hint=f"Ask for less, or set testing.{setting} = {asked:g}.",
            )
    return config


def _read(given: Mapping[str, object]) -> LoadConfig:
    names = LoadConfig.__struct_fields__
    for key in given:
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1)
            meant = f"Did you mean `{close[0]}`? " if close else ""
            raise ConfigurationError(
                f"A load test has no setting `{key}`.", hint=f"{meant}There are: {', '.join(names)}."
            )
    try:
        return msgspec.convert(dict(given), LoadConfig)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"The test config is wrong: {error}.", hint="Times are seconds, rates are requests per second."
        ) from None


def _check(config: LoadConfig) -> None:
    """Refuse what contradicts itself."""
    open_loop = config.requests_per_second is not None
    if config.trace and (open_loop or config.think_time or config.arrivals != "constant" or config.prompt):
        _refuse("plays a trace, which says when what is sent, and has arrivals of its own", "one of the two")
    if config.trace_speed != 1 and not config.trace:
        _refuse("has trace_speed without a trace", "trace")
    if not open_loop and config.concurrent_users is None and not config.trace:
        _refuse(
            "says neither how many users nor how many requests", "concurrent_users or requests_per_second"
        )
    if config.ramp_up > config.duration:
        _refuse(
            f"ramps up for {config.ramp_up:g} s in a test of {config.duration:g} s",
            "a ramp_up inside duration",
        )
    if config.warm_up >= config.duration:
        _refuse("is over before its warm-up is", "a warm_up shorter than duration")
    if open_loop and config.think_time:
        _refuse(
            "has think_time and requests_per_second: users who think make no fixed rate",
            "one of the two",
        )
    if not open_loop and config.arrivals != "constant":
        _refuse(f"has {config.arrivals} arrivals without a rate", "requests_per_second")
    if config.arrivals != "gamma" and config.burstiness != 1.0:
        _refuse(f"has burstiness with {config.arrivals} arrivals", 'arrivals = "gamma"')
    if config.requests_per_second is not None and config.requests_per_second * config.duration < 1:
        _refuse("is over before its first request is due", "a longer duration or a higher rate")
    objectives(config.slo)  # a mistake in them is told before the test, not after
    _check_traffic(config)


def _check_traffic(config: LoadConfig) -> None:
    lengths = config.prompt_tokens is not None or config.prompt_spread or config.shared_prefix
    if config.prompt and lengths:
        _refuse("has a prompt and a length for synthetic ones", "one of the two")
    if config.trace and (lengths or config.output_spread):
        _refuse("plays a trace, which has lengths of its own", "one of the two")
    if config.turns > 1 and (config.requests_per_second is not None or config.trace):
        _refuse("has sessions of several turns without users who hold them", "concurrent_users alone")
    if config.distinct != LoadConfig().distinct and not config.cached:
        _refuse("has a number of distinct prompts, and salts that make each of them differ", "cached = true")
    if config.body and (config.prompt or lengths or config.turns > 1):
        _refuse("has a body and prompts that would stand in it", "one of the two")


def _refuse(what: str, instead: str) -> None:
    raise ConfigurationError(f"The test contradicts itself: it {what}.", hint=f"Give {instead}.")
