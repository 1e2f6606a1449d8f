"""Cases: a world with a fault of random size, load and seed; or none, or something that only looks like one."""

import random
from dataclasses import dataclass, replace

import msgspec
from world import Ask, Behind, World

from slipstream.config.settings import Local, Models, Settings, Simulated, Upstream

FAULTS = ("slow_upstream", "small_cap", "blocked_loop", "retry_storm", "starved_local")
CONTROLS = (
    "healthy",
    "long_prompts",
    "burst",
    "people_leave",
    "a_little_slower",
    "short_hiccups",
    "different_models",
    "mistyped_models",
)


@dataclass
class Case:
    kind: str
    seed: int
    world: World
    healthy: World  # the same without the fault: did it move anything?
    subject: str = ""


def base(rng: random.Random, count: int, upstreams: int) -> World:
    """A healthy service: some upstreams alike, Poisson arrivals at a moderate load."""
    script = Simulated(
        ttft_ms=rng.uniform(80, 400),
        ttft_ms_per_1k_tokens=rng.uniform(50, 400),
        itl_ms=rng.uniform(8, 30),
        spread=rng.uniform(0.1, 0.4),
        slowdown=rng.choice([0.0, 0.02, 0.05]),
    )
    tokens = rng.randint(15, 50)
    asks = arrivals(rng, count, tokens, service(script, tokens), load=rng.uniform(2, 5) * upstreams)
    behind = [Behind(f"up{at}", script) for at in range(upstreams)]
    known = {each.name: Upstream(url="http://127.0.0.1:1", models=("m",)) for each in behind}
    settings = Settings(models=Models(upstreams=known, first_token_seconds=60.0))
    return World(asks, behind, settings, cpu=rng.uniform(100e-6, 400e-6), seed=rng.randrange(10**6))


def service(script: Simulated, tokens: int) -> float:
    return (script.ttft_ms + 0.3 * script.ttft_ms_per_1k_tokens + tokens * script.itl_ms) / 1e3


def arrivals(rng: random.Random, count: int, tokens: int, seconds: float, *, load: float) -> list[Ask]:
    """Poisson, so that `load` requests are under way in the middle."""
    rate = load / seconds
    streams = rng.choice([1.0, 1.0, 0.7, 0.0])
    at, asks = 0.0, []
    for _ in range(count):
        at += rng.expovariate(rate)
        words = min(3000, max(5, int(rng.lognormvariate(5.0, 1.0))))
        length = max(2, int(tokens * rng.lognormvariate(0, 0.35)))
        asks.append(Ask(at, words, length, rng.random() < streams))
    return asks


def scaled(script: Simulated, first: float, gap: float) -> Simulated:
    return msgspec.structs.replace(
        script,
        ttft_ms=script.ttft_ms * first,
        ttft_ms_per_1k_tokens=script.ttft_ms_per_1k_tokens * first,
        itl_ms=script.itl_ms * gap,
    )


def upstream(world: World, name: str, **changes: object) -> World:
    """The same world, one upstream's settings changed."""
    models = world.settings.models
    known = {**models.upstreams, name: msgspec.structs.replace(models.upstreams[name], **changes)}
    settings = msgspec.structs.replace(
        world.settings, models=msgspec.structs.replace(models, upstreams=known)
    )
    return replace(world, settings=settings)


def make(kind: str, seed: int, count: int = 500) -> Case:
    """The case of a kind and a seed."""
    rng = random.Random(f"{kind} {seed}")
    case = MAKERS[kind](rng, count)
    case.kind, case.seed = kind, seed
    return case


def slow_upstream(rng: random.Random, count: int) -> Case:
    healthy = base(rng, count, rng.randint(2, 4))
    at = rng.randrange(len(healthy.behind))
    victim = healthy.behind[at]
    factor = rng.uniform(2.0, 5.0)
    first, gap = rng.choice([(factor, factor), (factor, 1.0), (1.0, factor), (1.0, factor)])
    slow = scaled(victim.script, first, gap)
    begins = rng.choice([0.0, 0.0, 0.4]) * healthy.asks[-1].at
    behind = [*healthy.behind]
    behind[at] = replace(victim, slow=slow, slow_from=begins)
    return Case("", 0, replace(healthy, behind=behind), healthy, victim.name)


def small_cap(rng: random.Random, count: int) -> Case:
    healthy = base(rng, count, rng.choice([1, 1, 2, 3]))
    load = mean_load(healthy) / len(healthy.behind)
    world = healthy
    cap = max(1, round(load * rng.uniform(0.85, 1.25)))
    for each in healthy.behind:
        world = upstream(world, each.name, connections=cap, wait_seconds=60.0)
    return Case("", 0, world, healthy)


def mean_load(world: World) -> float:
    script = world.behind[0].script
    busy = sum(service(script, ask.tokens) for ask in world.asks)
    return busy / world.asks[-1].at


def blocked_loop(rng: random.Random, count: int) -> Case:
    healthy = base(rng, count, rng.randint(1, 3))
    rate = count / healthy.asks[-1].at
    share = rng.uniform(0.05, 0.3)
    busy = rng.uniform(0.25, 0.6)  # of the loop's time
    hold = min(1.5, max(0.12, busy / (rate * share)))
    asks = [
        replace(ask, holds=hold * rng.uniform(0.6, 1.4) if rng.random() < share else 0.0)
        for ask in healthy.asks
    ]
    return Case("", 0, replace(healthy, asks=asks, watched=rng.random() < 0.7), healthy)


def retry_storm(rng: random.Random, count: int) -> Case:
    healthy = base(rng, count, rng.choice([1, 2, 3]))
    at = rng.randrange(len(healthy.behind))
    victim = healthy.behind[at]
    load = mean_load(healthy) / len(healthy.behind)
    rate = count / healthy.asks[-1].at / len(healthy.behind)
    how = rng.choice(["together", "rate", "errors"])
    behind = [*healthy.behind]
    if how == "together":
        behind[at] = replace(victim, refuses_at=max(1, round(load * rng.uniform(0.6, 1.0))))
    elif how == "rate":
        behind[at] = replace(victim, refuses_rate=max(1, round(rate * rng.uniform(0.4, 0.9))))
    else:
        error = rng.uniform(0.15, 0.45)
        behind[at] = replace(victim, script=msgspec.structs.replace(victim.script, error_rate=error))
    return Case("", 0, replace(healthy, behind=behind), healthy, victim.name)


def starved_local(rng: random.Random, count: int) -> Case:
    healthy = base(rng, count, 1)
    script = healthy.behind[0].script
    slots = max(2, round(mean_load(healthy) * rng.uniform(0.85, 1.2)))
    models = Models(local=Local(slots=slots), first_token_seconds=600.0)
    world = replace(
        healthy,
        behind=[Behind("local", msgspec.structs.replace(script, slots=slots))],
        settings=Settings(models=models),
    )
    free = replace(world, behind=[Behind("local", msgspec.structs.replace(script, slots=0))])
    return Case("", 0, world, free, "local")


def control(rng: random.Random, count: int) -> Case:
    healthy = base(rng, count, rng.randint(1, 4))
    return Case("", 0, healthy, healthy)


def long_prompts(rng: random.Random, count: int) -> Case:
    """Half-way the prompts get longer: slower, and nothing is wrong."""
    case = control(rng, count)
    half = count // 2
    factor = rng.uniform(2, 4)
    asks = [
        replace(a, words=min(6000, int(a.words * factor))) if i > half else a
        for i, a in enumerate(case.world.asks)
    ]
    return replace(case, world=replace(case.world, asks=asks))


def burst(rng: random.Random, count: int) -> Case:
    """For a while twice as many come; there is room for all."""
    case = control(rng, count)
    asks, at, before = [], 0.0, 0.0
    for i, ask in enumerate(case.world.asks):
        gap = ask.at - before
        before = ask.at
        at += gap / 2 if count // 3 < i < count // 2 else gap
        asks.append(replace(ask, at=at))
    return replace(case, world=replace(case.world, asks=asks))


def people_leave(rng: random.Random, count: int) -> Case:
    """Every seventh leaves early."""
    case = control(rng, count)
    asks = [
        replace(ask, leaves=rng.uniform(0.05, 1.0)) if rng.random() < 0.15 else ask for ask in case.world.asks
    ]
    return replace(case, world=replace(case.world, asks=asks))


def a_little_slower(rng: random.Random, count: int) -> Case:
    """One upstream is slower, by what nobody would mend."""
    healthy = base(rng, count, rng.randint(2, 4))
    victim = healthy.behind[0]
    slow = scaled(victim.script, rng.uniform(1.05, 1.2), rng.uniform(1.05, 1.2))
    world = replace(healthy, behind=[replace(victim, script=slow), *healthy.behind[1:]])
    return Case("", 0, world, world)


def different_models(rng: random.Random, count: int) -> Case:
    """Two upstreams, each with a model of its own; the big one takes three times as long, and should."""
    healthy = base(rng, count, 2)
    small, big = healthy.behind
    behind = [
        replace(small, model="small"),
        replace(big, model="big", script=scaled(small.script, 3.0, 3.0)),
    ]
    world = replace(healthy, behind=behind)
    for each in behind:
        world = upstream(world, each.name, models=(each.model,))
    asks = [replace(ask, model="big" if rng.random() < 0.4 else "small") for ask in world.asks]
    world = replace(world, asks=asks)
    return Case("", 0, world, world)


def short_hiccups(rng: random.Random, count: int) -> Case:
    """The loop is held now and then, for moments; an upstream fails once in a hundred times."""
    case = control(rng, count)
    asks = [
        replace(ask, holds=rng.uniform(0.01, 0.12) if rng.random() < 0.02 else 0.0) for ask in case.world.asks
    ]
    first = case.world.behind[0]
    behind = [
        replace(first, script=msgspec.structs.replace(first.script, error_rate=0.01)),
        *case.world.behind[1:],
    ]
    return replace(case, world=replace(case.world, asks=asks, behind=behind))


def mistyped_models(rng: random.Random, count: int) -> Case:
    """One request in twenty asks for a model that there is not, and is refused in no time."""
    case = control(rng, count)
    asks = [replace(ask, model="m-turbo") if rng.random() < 0.05 else ask for ask in case.world.asks]
    world = replace(case.world, asks=asks)
    return replace(case, world=world, healthy=world)


MAKERS = {
    "slow_upstream": slow_upstream,
    "small_cap": small_cap,
    "blocked_loop": blocked_loop,
    "retry_storm": retry_storm,
    "starved_local": starved_local,
    "healthy": control,
    "long_prompts": long_prompts,
    "burst": burst,
    "people_leave": people_leave,
    "a_little_slower": a_little_slower,
    "short_hiccups": short_hiccups,
    "different_models": different_models,
    "mistyped_models": mistyped_models,
}
