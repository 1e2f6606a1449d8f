"""Which model a request goes to: a table of names, and one decision. It does not talk to any model."""

import difflib
from collections.abc import Collection, Iterable, Iterator

from msgspec import Struct

from slipstream.core.chat import Route
from slipstream.core.errors import BadRequest, ConfigurationError
from slipstream.core.ports import Model

NAMES_SHOWN = 20


class Target(Struct, frozen=True, eq=False):
    """A model and the name that it knows itself by."""

    model: Model
    name: str
    routes: frozenset[Route] = frozenset((Route.CHAT, Route.COMPLETIONS))


class Catalog:
    """The models that can be asked for. Changed only by `offer`, which replaces what one owner serves."""

    def __init__(self, *, default: str = "", aliases: dict[str, str] | None = None) -> None:
        self._default = default
        self._aliases = dict(aliases or {})
        self._by_owner: dict[str, tuple[Target, ...]] = {}
        self._by_name: dict[str, tuple[Target, ...]] = {}
        self._any: tuple[Target, ...] = ()

    def offer(self, owner: str, targets: Iterable[Target]) -> None:
        """Say what `owner` serves now. A target named `*` serves whatever is asked for."""
        self._by_owner[owner] = tuple(targets)
        by_name: dict[str, tuple[Target, ...]] = {}
        for offered in self._by_owner.values():
            for target in offered:
                by_name[target.name] = (*by_name.get(target.name, ()), target)
        self._any = by_name.pop("*", ())
        self._by_name = by_name

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

    def models(self) -> Iterator[Model]:
        """Every model, in the order of the settings."""
        for offered in self._by_owner.values():
            for target in offered[:1]:
                yield target.model

    def default(self, route: Route) -> str:
        """The model of requests that name none: the settings' one, else the first that serves `route`."""
        if self._default and route is not Route.EMBEDDINGS:
            return self._default
        for name, targets in self._by_name.items():
            if any(route in target.routes for target in targets):
                return name
        if self._any:
            return "*"
        raise ConfigurationError(
            "No model is configured that serves this request.",
            hint="Start with `slipstream serve --upstream URL`, or install the embedded one: "
            'pip install "slipstream[local]" and `slipstream pull`.',
            status=503,
        )

    def choose(self, asked: str, route: Route, *, tried: Collection[Target] = ()) -> Target:
        """The target for a request; one that was not tried yet where there is one.

        Raises `BadRequest` (404) for a name that nobody serves, and (400) for a model that cannot
        serve the route.
        """
        name = self._aliases.get(asked, asked) or self.default(route)
        named = self._by_name.get(name) or self._any
        if not named:
            raise self._unknown(asked)
        able = [target for target in named if route in target.routes]
        if not able:
            raise BadRequest(
                f"The model `{name}` does not serve /v1/{route.value}.", param="model", code="wrong_model"
            )
        for target in able:
            if target not in tried:
                return self._bound(target, name)
        return self._bound(able[0], name)

    @staticmethod
    def _bound(target: Target, name: str) -> Target:
        return target if target.name != "*" or name == "*" else Target(target.model, name, target.routes)

    def _unknown(self, asked: str) -> BadRequest:
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
