"""Recorded traffic for tests of the doctor: made by the real way on virtual time, upstreams of known times."""

import random
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from slipstream.config.settings import Models, Settings, Upstream
from slipstream.core.pool import PoolLimits
from slipstream.core.record import Record
from slipstream.core.stalls import StallSeen
from slipstream.doctor.evidence import Evidence, gather
from slipstream.doctor.refusals import NEVER, Refusing
from slipstream.doctor.replay import Traffic, replay
from slipstream.doctor.replay_model import Asked, Served
from slipstream.doctor.service_model import Line, ServiceModel

FOREVER_NS = 10**15
START_NS = 1_700_000_000 * 1_000_000_000


def times(first: float = 0.2, pace: float = 0.01, *, crowd: float = 0.0, spread: float = 0.2) -> ServiceModel:
    """An upstream: seconds to the first token and a token, `crowd` seconds for each further request."""
    rng = random.Random(5)
    residuals = tuple(rng.lognormvariate(0, spread) for _ in range(400))
    return ServiceModel(
        Line((first, 0.0001, crowd), residuals),
        Line((pace, 0.0), tuple(rng.lognormvariate(0, spread / 2) for _ in range(400))),
        None,
        100,
        400,
    )


def asks(count: int, rate: float, *, seed: int = 1, tokens: int = 30) -> tuple[Asked, ...]:
    """Poisson arrivals of streamed requests of various lengths."""
    rng = random.Random(seed)
    at, made = 0.0, []
    for _ in range(count):
        at += rng.expovariate(rate)
        made.append(Asked(at, "m", rng.randint(5, 800), rng.randint(5, 2 * tokens), True))
    return tuple(made)


def served(model: ServiceModel, *, connections: int = 256, refusing: Refusing = NEVER) -> Served:
    return Served(model, refusing, PoolLimits(connections, 1024, 60 * 10**9, FOREVER_NS, FOREVER_NS))


def settings(upstreams: Mapping[str, Mapping[str, object]]) -> Settings:
    known = {
        name: Upstream(url="http://127.0.0.1:1", models=("m",), **more) for name, more in upstreams.items()
    }
    return Settings(models=Models(upstreams=known))


def happened(
    asked: Sequence[Asked],
    upstreams: Mapping[str, ServiceModel],
    *,
    more: Mapping[str, Mapping[str, object]] | None = None,
    refusing: Mapping[str, Refusing] | None = None,
    seed: int = 3,
) -> tuple[list[Record], Settings]:
    """Records as the store would have them, and the settings under which it happened."""
    known = settings({name: (more or {}).get(name, {}) for name in upstreams})
    behind = {
        name: served(
            model,
            connections=known.models.upstreams[name].connections,
            refusing=(refusing or {}).get(name, NEVER),
        )
        for name, model in upstreams.items()
    }
    done = replay(Traffic(tuple(asked), behind, dict.fromkeys(upstreams, ("m",))), known, seed=seed)
    return [replace(each, arrived_wall_ns=each.arrived_wall_ns + START_NS) for each in done.records], known


def evidence(
    asked: Sequence[Asked],
    upstreams: Mapping[str, ServiceModel],
    *,
    stalls: Sequence[StallSeen] = (),
    **options: object,
) -> Evidence:
    records, known = happened(asked, upstreams, **options)  # type: ignore[arg-type]
    return gather(records, known, stalls)
