"""From settings to running parts: the only place that names concrete classes."""

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import Struct

from slipstream.config import paths
from slipstream.config.settings import Models, Settings, Upstream
from slipstream.core.breaker import BreakerRules
from slipstream.core.budget import RetryBudget
from slipstream.core.chat import Route
from slipstream.core.errors import ConfigurationError, SlipstreamError
from slipstream.core.health import EndpointSnapshot
from slipstream.core.keys import Keyring
from slipstream.core.meters import Counters
from slipstream.core.ports import Model, RecordSink
from slipstream.core.use import USE, Announcing, UseRow
from slipstream.flow.admit import Admit
from slipstream.flow.attempt import Attempts, Patience
from slipstream.flow.flight import Flights
from slipstream.flow.handle import Way
from slipstream.flow.select import NAMES_SHOWN, Catalog, Target
from slipstream.models.assets import is_embedder_installed, is_local_installed
from slipstream.models.local import LocalModel, make_local, wait_seconds
from slipstream.models.local_process import LocalAddress
from slipstream.models.openai import OpenAIUpstream, connects_by, make_upstream
from slipstream.models.simulated import SimulatedModel
from slipstream.monitoring.prices import price_book

log = logging.getLogger(__name__)

RETIRE_SECONDS = 0.2
"""How often an upstream that was replaced is asked whether it is done."""

DISCOVER_RETRY_SECONDS = 5.0
"""How soon it is asked again after it did not answer."""

ENDPOINTS_MAX = 64
"""Endpoints that a status tells of: a worker says it every second."""

_STATES = {"closed": "ready", "half_open": "being tried"}
_EMBEDDINGS = frozenset((Route.EMBEDDINGS,))
_ALL = frozenset(Route)


class ModelInfo(Struct, frozen=True):
    """What `GET /v1/models` and `slipstream models` tell of a model."""

    name: str
    owner: str
    backend: str
    state: str
    default: bool
    alias_of: str = ""

    def details(self) -> dict[str, str | bool]:
        """What goes under `slipstream` in a model's entry."""
        details: dict[str, str | bool] = {
            "backend": self.backend,
            "state": self.state,
            "default": self.default,
        }
        if self.alias_of:
            details["alias_of"] = self.alias_of
        return details


class Parts:
    """What serves requests: the way with its models. Built without a running loop, started on one."""

    def __init__(
        self, settings: Settings, way: Way, catalog: Catalog, local_address: Callable[[], LocalAddress]
    ) -> None:
        self.way = way
        self.catalog = catalog
        self._settings = settings
        self._local_address = local_address
        self._models: list[tuple[str, str, Model]] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._announced: list[str] = []
        self._warned: list[tuple[str, str]] = []

    def add(self, owner: str, backend: str, model: Model, targets: list[Target]) -> None:
        """Take in a model that the settings name."""
        self._models.append((owner, backend, model))
        self.catalog.offer(owner, targets)

    def renew(self, settings: Settings) -> None:
        """Take other upstreams and other patience while serving; nothing that is under way is dropped.

        An upstream whose connections are to differ gets new ones; the old serve what they have and are
        closed then. What is known of endpoints is kept. Raises `ConfigurationError`, having changed nothing.
        """
        before, after = self._settings.models.upstreams, settings.models.upstreams
        made = {
            name: make_upstream(name, each, settings.models, counters=self.way.flights.counters)
            for name, each in after.items()
            if name not in before or connects_by(before[name]) != connects_by(each)
        }
        self._settings = settings
        flights = self.way.flights
        flights.patience = flights.attempts.patience = _patience(settings.models)
        for name in before.keys() - after.keys() | made.keys() & before.keys():
            self._retire(name)
        for name, model in made.items():
            self._models.append((name, "openai", model))
            if not after[name].models:
                self._discover_soon(name, model)
        for name in before.keys() - after.keys():
            self.catalog.offer(name, ())
        for name, _, serving in self._models:
            if name in after:
                each = after[name]
                known = self.catalog.offered(name) if name in before else ()
                self.catalog.offer(name, targets(serving, each.models or known or ("*",), each))

    def renew_local(self, models: Models) -> None:
        """Take other settings of the embedded model, together with its address, which is asked for anew."""
        for model in self._locals():
            model.renew(models.local, wait_seconds=wait_seconds(models))

    async def left_local(self) -> None:
        """Return when nothing is under way any more where the embedded model was before the last change."""
        for model in self._locals():
            await model.left()

    def start(self) -> None:
        """Begin what runs beside the requests: asking upstreams for their models."""
        for owner, _, model in self._models:
            if isinstance(model, Announcing):
                self._announced.append(model.use().part)
                USE.announce(self._announced[-1], model.use)
            if isinstance(model, OpenAIUpstream) and not self._settings.models.upstreams[owner].models:
                self._discover_soon(owner, model)

    def loading(self) -> list[str]:
        """Names of the models that are configured and cannot answer yet."""
        address = self._local_address()
        return [self._settings.models.local.name] if address.state == "loading" else []

    def failed(self) -> list[str]:
        """Names of the models that are configured and do not start; they are tried again."""
        return [self._settings.models.local.name] if self._local_address().state == "failed" else []

    def endpoints(self) -> tuple[EndpointSnapshot, ...]:
        """What is known of each upstream's models; those that do not take requests come first."""
        ordered = sorted(self.catalog.snapshot(), key=lambda each: each.state == "closed")
        return tuple(ordered[:ENDPOINTS_MAX])

    def models(self) -> list[ModelInfo]:
        """Every model that can be asked for."""
        return list(self._infos())

    async def remote_models(self, owner: str) -> list[ModelInfo]:
        """The models of an upstream that is a Slipstream itself."""
        upstream = next(model for name, _, model in self._models if name == owner)
        assert isinstance(upstream, OpenAIUpstream)
        return [
            ModelInfo(
                listed.id,
                listed.owned_by,
                str(listed.slipstream.get("backend", "")),
                str(listed.slipstream.get("state", "")),
                bool(listed.slipstream.get("default", False)),
                alias_of=str(listed.slipstream.get("alias_of", "")),
            )
            for listed in await upstream.describe_models()
        ]

    async def aclose(self) -> None:
        """Stop and let go of everything."""
        tasks = [*self._tasks.values(), *self._closing]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for part in self._announced:
            USE.withdraw(part)
        for _, _, model in self._models:
            await model.aclose()

    def _locals(self) -> list[LocalModel]:
        return [model for _, _, model in self._models if isinstance(model, LocalModel)]

    def _discover_soon(self, owner: str, upstream: OpenAIUpstream) -> None:
        self._tasks[owner] = asyncio.get_running_loop().create_task(self._discover(owner, upstream))

    def _retire(self, owner: str) -> None:
        """Give an upstream nothing new to do, and close it when it is done."""
        task = self._tasks.pop(owner, None)
        if task is not None:
            task.cancel()
        for each in [each for each in self._models if each[0] == owner]:
            self._models.remove(each)
            closing = asyncio.get_running_loop().create_task(self._close_when_idle(each[2]))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close_when_idle(self, model: Model) -> None:
        assert isinstance(model, OpenAIUpstream)
        try:
            async with asyncio.timeout(self.way.flights.patience.total_seconds):
                while model.is_busy:  # noqa: ASYNC110 (it ends by many ways, and this is seldom)
                    await asyncio.sleep(RETIRE_SECONDS)
        except TimeoutError:
            log.warning("the upstream %s still had requests when its time was over", model.name)
        finally:
            await model.aclose()

    def _infos(self) -> Iterator[ModelInfo]:
        backends = {owner: backend for owner, backend, _ in self._models}
        try:
            default = self.catalog.default(Route.CHAT)
        except SlipstreamError:
            default = ""
        aliases = self._settings.models.aliases
        for name in self.catalog.names:
            owner = self.catalog.owner_of(name)
            state: str = self._local_address().state
            if backends.get(owner) != "local":
                state = _STATES.get(condition := self.catalog.condition(name), condition)
            yield ModelInfo(
                name, owner, backends.get(owner, ""), state, name == default, alias_of=aliases.get(name, "")
            )

    async def _discover(self, owner: str, upstream: OpenAIUpstream) -> None:
        """Keep the catalog true to what the upstream says it serves; until then every name is passed on."""
        known, seconds = False, self._settings.models.discover_seconds
        while True:
            try:
                names = await upstream.list_models()
            except SlipstreamError as error:
                log.warning("the upstream %s did not list its models: %s", owner, error)
                await asyncio.sleep(seconds if known else min(seconds, DISCOVER_RETRY_SECONDS))
                continue
            known = True
            self.catalog.offer(owner, targets(upstream, names, self._settings.models.upstreams[owner]))
            self._warn_unserved()
            await asyncio.sleep(seconds)

    def _warn_unserved(self) -> None:
        """Say once which names of the settings no upstream serves, now that all of them were asked."""
        unserved = self.catalog.unserved()
        for setting, name in unserved:
            if (setting, name) not in self._warned:
                log.warning("%s names the model `%s`, which nobody serves now", setting, name)
        self._warned = unserved


def build_parts(
    settings: Settings,
    *,
    sink: RecordSink,
    counters: Counters,
    keyring: Callable[[], Keyring],
    local_address: Callable[[], LocalAddress],
    upstream_keys: Mapping[str, str] | None = None,
    salt: bytes = b"",
) -> Parts:
    """Build what `settings` ask for. Opens nothing; raises `ConfigurationError` for what cannot be built.

    A default, alias or fallback that nobody serves is refused here, unless an upstream is yet to be asked
    for its models: then it is warned of when that is known.

    `upstream_keys` holds keys of upstreams that stand in no file and no variable; `salt` keys the hashes
    in records and is drawn here where none is given.
    """
    models = settings.models
    parts = bare_parts(
        settings, sink=sink, counters=counters, keyring=keyring, local_address=local_address, salt=salt
    )
    for name, upstream in models.upstreams.items():
        model = make_upstream(
            name, upstream, models, key=(upstream_keys or {}).get(name, ""), counters=counters
        )
        parts.add(name, "openai", model, targets(model, upstream.models or ("*",), upstream))
    for name, simulated in models.simulated.items():
        script = SimulatedModel(name, simulated)
        parts.add(name, "simulated", script, [Target(script, name, _ALL)])
    if local_enabled(settings):
        local = make_local(models, local_address, counters)
        parts.add("local", "local", local, [Target(local, models.local.name)])
    if embedder_enabled(settings):
        from slipstream.models.embedder import EmbedderModel

        embedder = EmbedderModel(models.embedder, paths.data_folder(settings))
        parts.add("embedder", "embedder", embedder, [Target(embedder, models.embedder.name, _EMBEDDINGS)])
    for setting, named in parts.catalog.unserved():
        raise _unserved(settings, setting, named, parts.catalog.names)
    return parts


def bare_parts(
    settings: Settings,
    *,
    sink: RecordSink,
    counters: Counters,
    keyring: Callable[[], Keyring],
    local_address: Callable[[], LocalAddress],
    salt: bytes = b"",
    chance: Callable[[], float] | None = None,
) -> Parts:
    """The way as `settings` want it, without any model yet: what a replay shares with the server.

    `chance` gives numbers in [0, 1) for the choice among upstreams; by default each worker has its own.
    """
    models = settings.models
    catalog = Catalog(
        default=models.default,
        aliases=models.aliases,
        fallbacks=models.fallbacks,
        chance=chance or random.Random().random,  # noqa: S311 (spreads load; each worker its own way)
        rules=_rules(models),
    )
    patience = _patience(models)
    budget = RetryBudget(models.retry_share, models.retry_minimum)
    attempts = Attempts(catalog, patience, counters, budget=budget)
    flights = Flights(attempts, patience, counters, backlog_bytes=models.backlog_bytes)
    way = Way(Admit(keyring), flights, sink, salt or os.urandom(16), price_book(settings).cost)
    return Parts(settings, way, catalog, local_address)


def resource_rows() -> Callable[[], list[UseRow]]:
    """Gives the USE rows of this process and all below it (`core.defaults`)."""
    from slipstream.monitoring.use_rows import ResourceRows  # a worker never asks, and spares psutil

    return ResourceRows()


def _patience(models: Models) -> Patience:
    return Patience(
        models.attempts,
        models.first_token_seconds,
        models.idle_seconds,
        models.total_seconds,
        wait_seconds=models.wait_seconds,
        waiting=models.waiting,
        retry_after_seconds=models.retry_after_seconds,
    )


def _rules(models: Models) -> BreakerRules:
    return BreakerRules(
        consecutive=models.breaker_failures,
        error_rate=models.breaker_error_rate,
        open_seconds=models.breaker_open_seconds,
        open_seconds_max=max(models.breaker_open_seconds, models.breaker_open_seconds_max),
    )


def _unserved(settings: Settings, setting: str, name: str, known: tuple[str, ...]) -> ConfigurationError:
    """The error for a name in the settings that no model of theirs has."""
    if name in ("local", settings.models.local.name):
        hint = 'The embedded model is not served: see `slipstream pull`, or set models.local.enabled to "on".'
    else:
        real = [each for each in known if each not in settings.models.aliases]
        hint = f"Known models: {', '.join(real[:NAMES_SHOWN]) or 'none'}."
    return ConfigurationError(f"{setting} names the model `{name}`, which nobody serves.", hint=hint)


def targets(model: Model, names: Iterable[str], upstream: Upstream) -> list[Target]:
    """What an upstream serves, by the names of its models."""
    return [
        Target(model, name, _ALL, weight=upstream.weight, caches_prompts=upstream.caches_prompts)
        for name in names
    ]


def local_enabled(settings: Settings) -> bool:
    """Whether the embedded model is to run: asked for, or nothing else is configured and it is installed."""
    local = settings.models.local
    if local.enabled != "auto":
        return local.enabled == "on"
    if settings.models.upstreams or settings.models.simulated:
        return False
    return is_local_installed(local, paths.data_folder(settings))


def embedder_enabled(settings: Settings) -> bool:
    """Whether the embedder is served: asked for, or installed and no upstream serves embeddings."""
    embedder = settings.models.embedder
    if embedder.enabled != "auto":
        return embedder.enabled == "on"
    if settings.models.upstreams:
        return False
    return is_embedder_installed(embedder)
