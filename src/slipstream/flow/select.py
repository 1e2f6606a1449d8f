"""Which model a request goes to: a table of names, and one decision. It does not talk to any model."""

import difflib
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from slipstream.core import clock
from slipstream.core.balance import ANY, Ask, Peers, Pick
from slipstream.core.breaker import RULES, BreakerRules
from slipstream.core.chat import Route
from slipstream.core.errors import BadRequest, ConfigurationError, MissingExtra, SlipstreamError
from slipstream.core.health import Condition, Endpoint, EndpointSnapshot
from slipstream.core.ports import Model

NAMES_SHOWN = 20

NAMES_BOUND = 256
"""Names that are kept for upstreams that serve whatever is asked for; the oldest makes room for the next."""


class Target(Struct, frozen=True, eq=False):
    """A model and the name that it knows itself by."""

    model: Model
    name: str
    routes: frozenset[Route] = frozenset((Route.CHAT, Route.COMPLETIONS))
    weight: float = 1.0
    """Its share of the requests beside others of that name."""
    caches_prompts: bool = False
    """Conversations stay with it."""


Place = Endpoint[Target]


class Choice(Struct, frozen=True, eq=False):
    """Where a request goes next, and the name that the model there is asked by."""

    pick: Pick[Target]
    target: Target
    name: str


class Stage(Struct, frozen=True, eq=False):
    """One model that may answer a request, and the endpoints that serve it."""

    name: str
    peers: Peers[Target]
    among: tuple[Place, ...]

    def bound(self, pick: Pick[Target]) -> Choice:
        """The choice that a pick among these is."""
        target = pick.endpoint.what
        return Choice(pick, target, self.name if target.name == "*" else target.name)


class Course(Struct, frozen=True, eq=False):
    """All that may answer a request: the model asked for, then what stands in for it."""

    stages: tuple[Stage, ...]
    only: Choice | None = None
    """The one endpoint there is, where there is nothing to choose: it is here or nowhere."""
    keeps_conversations: bool = False
    """It matters where a conversation went before."""

    def choose(self, now_ns: int, ask: Ask = ANY, *, tried: Collection[Place] = ()) -> Choice | None:
        """Where to go now, the model asked for first; None where nobody is free."""
        only = self.only
        if only is not None:
            place = only.pick.endpoint
            is_free = place.breaker.is_closed and now_ns >= place.held_until_ns
            is_able = is_free or place.may_probe(now_ns, is_last=True)
            return only if is_able and place not in tried else None
        for stage in self.stages:
            pick = stage.peers.choose(now_ns, stage.among, ask, tried=tried)
            if pick is not None:
                return stage.bound(pick)
        for stage in self.stages:
            pick = stage.peers.last_resort(now_ns, stage.among, tried=tried)
            if pick is not None:
                return stage.bound(pick)
        return None

    def ready_ns(self, now_ns: int, barred: Collection[Place] = ()) -> int | None:
        """When one of them may take a request; None = when a probe is over, or never."""
        times = [each.ready_ns(now_ns) for each in self.places() if each not in barred]
        return min((time for time in times if time is not None), default=None)

    def is_probed(self, barred: Collection[Place] = ()) -> bool:
        """Whether one of them is being tried at this moment."""
        return any(each.breaker.probe is not None for each in self.places() if each not in barred)

    def places(self) -> Iterator[Place]:
        """Every endpoint of every stage."""
        for stage in self.stages:
            yield from stage.among


class Catalog:
    """The models that can be asked for. Changed only by `offer`, which replaces what one owner serves.

    Args:
        default: the model of requests that name none.
        aliases: other names of models.
        fallbacks: what answers, in order, where a model has no endpoint left; names as in requests, or an
            owner's, which stands for the first model it serves.
        chance: numbers in [0, 1), for every random choice; by default the same ones each time.
        rules: when an endpoint is left alone, and for how long.
    """

    def __init__(
        self,
        *,
        default: str = "",
        aliases: Mapping[str, str] | None = None,
        fallbacks: Mapping[str, Sequence[str]] | None = None,
        chance: Callable[[], float] | None = None,
        rules: BreakerRules = RULES,
    ) -> None:
        self.chance = chance or random.Random(0).random  # noqa: S311 (spreads load, hides nothing)
        self._rules = rules
        self._aliases = dict(aliases or {})
        self._default = self._aliases.get(default, default)
        self._fallbacks = {name: tuple(names) for name, names in (fallbacks or {}).items()}
        self._by_owner: dict[str, tuple[Target, ...]] = {}
        self._places: dict[tuple[str, str], Place] = {}
        self._by_name: dict[str, Peers[Target]] = {}
        self._any: tuple[tuple[str, Target], ...] = ()
        self._bound: dict[str, Peers[Target]] = {}
        self._courses: dict[tuple[str, Route], Course] = {}

    def offer(self, owner: str, targets: Iterable[Target]) -> None:
        """Say what `owner` serves now. A target named `*` serves whatever is asked for.

        What is known of an endpoint (an owner's model of one name) outlives a new offer of it.
        """
        self._by_owner[owner] = tuple(targets)
        offered = [(each, target) for each, targets in self._by_owner.items() for target in targets]
        named: dict[str, list[tuple[str, Target]]] = {}
        for each, target in offered:
            named.setdefault(target.name, []).append((each, target))
        self._any = tuple(named.pop("*", ()))
        known, self._places = self._places, {}
        self._by_name = {name: self._peers(name, group, known) for name, group in named.items()}
        self._bound = {name: self._peers(name, self._any, known) for name in self._bound if self._any}
        self._courses.clear()

    def offered(self, owner: str) -> tuple[str, ...]:
        """The names that an owner serves now."""
        return tuple(target.name for target in self._by_owner.get(owner, ()))

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that can be asked for, aliases last."""
        return (*self._by_name, *(alias for alias in self._aliases if alias not in self._by_name))

    def owner_of(self, name: str) -> str:
        """Who serves `name`, empty if nobody."""
        resolved = self._aliases.get(name, name)
        for owner, offered in self._by_owner.items():
            if any(target.name == resolved for target in offered):
                return owner
        return ""

    def unserved(self) -> list[tuple[str, str]]:
        """Settings that name what nobody serves, each with the name; none while somebody serves all."""
        if self._any:
            return []
        named = [("models.default", self._default)] if self._default else []
        named += [(f"models.aliases.{alias}", name) for alias, name in self._aliases.items()]
        for asked, names in self._fallbacks.items():
            named += [(f"models.fallbacks.{asked}", name) for name in (asked, *names)]
        return [(setting, name) for setting, name in named if not self._is_served(name, setting)]

    def models(self) -> Iterator[Model]:
        """Every model, in the order of the settings."""
        for offered in self._by_owner.values():
            for target in offered[:1]:
                yield target.model

    def default(self, route: Route) -> str:
        """The model of requests that name none: the settings' one, else the first that serves `route`."""
        if self._default and route is not Route.EMBEDDINGS:
            return self._default
        for name, peers in self._by_name.items():
            if any(route in each.what.routes for each in peers.endpoints):
                return name
        if self._any:
            return "*"
        if route is Route.EMBEDDINGS and self._by_name:
            raise MissingExtra("The embedder", "semantic")
        raise ConfigurationError(
            "No model is configured that serves this request.",
            hint="Start with `slipstream serve --upstream URL`, or install the embedded one: "
            'pip install "slipstream[local]" and `slipstream pull`.',
            status=503,
        )

    def course(self, asked: str, route: Route) -> Course:
        """All that may answer a request for `asked`.

        Raises `BadRequest` (404) for a name that nobody serves, and (400) for a model that cannot
        serve the route.
        """
        known = self._courses.get((asked, route))
        return known if known is not None else self._plot(asked, route)

    def condition(self, name: str) -> Condition:
        """How the model of that name is: `closed` while one of its endpoints takes requests."""
        now_ns = clock.monotonic_ns()
        peers = self._by_name.get(self._aliases.get(name, name))
        states = [each.condition(now_ns)[0] for each in peers.endpoints] if peers is not None else []
        return "closed" if not states or "closed" in states else states[0]

    def snapshot(self) -> list[EndpointSnapshot]:
        """Every endpoint as it is now."""
        now_ns = clock.monotonic_ns()
        return [place.snapshot(now_ns) for place in self._places.values()]

    def _plot(self, asked: str, route: Route) -> Course:
        name = self._aliases.get(asked, asked) or self.default(route)
        stages: list[Stage] = []
        first = self._stage(name, route)
        if first is not None:
            stages.append(first)
        for each in self._fallbacks.get(asked) or self._fallbacks.get(name) or ():
            stage = self._stage(self._stand_in(each, route), route)
            if stage is not None and stage.among and all(stage.peers is not other.peers for other in stages):
                stages.append(stage)
        if not stages:
            raise self._unknown(asked or name)
        if first is not None and not first.among:
            raise BadRequest(
                f"The model `{name}` does not serve /v1/{route.value}.", param="model", code="wrong_model"
            )
        among = stages[0].among
        is_plain = len(stages) == 1 and len(among) == 1
        course = Course(
            tuple(stages),
            only=stages[0].bound(Pick(among[0])) if is_plain else None,
            keeps_conversations=any(stage.peers.caches_prompts for stage in stages),
        )
        if len(self._courses) >= 4 * NAMES_BOUND:
            self._courses.clear()
        self._courses[asked, route] = course
        return course

    def _is_served(self, name: str, setting: str) -> bool:
        if setting.startswith("models.fallbacks."):
            is_owner = bool(self._by_owner.get(name))
            return is_owner or self._aliases.get(name, name) in self._by_name
        return name in self._by_name

    def _stage(self, name: str, route: Route) -> Stage | None:
        peers = self._by_name.get(name) or self._bind(name)
        if peers is None:
            return None
        return Stage(name, peers, tuple(each for each in peers.endpoints if route in each.what.routes))

    def _stand_in(self, name: str, route: Route) -> str:
        """The model that a fallback's name means."""
        name = self._aliases.get(name, name)
        if name not in self._by_name:
            for target in self._by_owner.get(name, ()):
                if route in target.routes:
                    return target.name
        return name

    def _bind(self, name: str) -> Peers[Target] | None:
        """The endpoints of a name that is served only because everything is."""
        if not self._any:
            return None
        peers = self._bound.get(name)
        if peers is None:
            if len(self._bound) >= NAMES_BOUND:
                oldest = next(iter(self._bound))
                for gone in self._bound.pop(oldest).endpoints:
                    self._places.pop((gone.label, oldest), None)
                self._courses.clear()
            peers = self._bound[name] = self._peers(name, self._any, {})
        return peers

    def _peers(
        self, name: str, offered: Iterable[tuple[str, Target]], known: Mapping[tuple[str, str], Place]
    ) -> Peers[Target]:
        places: list[Place] = []
        for owner, target in offered:
            place = known.get((owner, name)) or self._endpoint(target, owner, name)
            place.what, place.weight, place.caches_prompts = target, target.weight, target.caches_prompts
            self._places[owner, name] = place
            if place not in places:
                places.append(place)
        return Peers(places, chance=self.chance)

    def _endpoint(self, target: Target, owner: str, name: str) -> Place:
        return Endpoint(target, owner, name, rules=self._rules, chance=self.chance)

    def _unknown(self, asked: str) -> SlipstreamError:
        known = self.names
        nearest = difflib.get_close_matches(asked, known, n=1)
        suggestion = f"Did you mean `{nearest[0]}`? " if nearest else ""
        shown = ", ".join(known[:NAMES_SHOWN]) + (" …" if len(known) > NAMES_SHOWN else "")
        return BadRequest(
            f"The model `{asked[:256]}` does not exist here.",
            hint=f"{suggestion}Known: {shown or 'none yet'}.",
            param="model",
            code="model_not_found",
            status=404,
        )
