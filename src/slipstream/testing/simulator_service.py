"""What the simulator answers to a request, and what it has prepared for the next one like it.

Knows routes, scripts and slots; no socket and no timer.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from slipstream.config.settings import Simulated
from slipstream.core import clock
from slipstream.core.chat import ChatRequest, Route, parse
from slipstream.core.errors import BadRequest, SlipstreamError
from slipstream.models import simulated_answer as answer
from slipstream.models.simulated import Slots, Tally, script_of
from slipstream.models.simulated_plan import Plan, acts, identity_of, make_plan
from slipstream.models.simulated_script import NOTHING, Script, parse_script
from slipstream.testing.simulator_wire import Framing, Write, message, writes

PREPARED_MAX = 256
PREPARED_BODY_BYTES = 16 * 1024
PREPARED_ANSWER_BYTES = 64 * 1024
"""Bounds of what is kept prebuilt: requests, size of each, size of each answer."""

DEFAULT_MODEL = "simulated"
"""The name of the model where neither the settings nor the request give one."""

_ROUTES = {f"/v1/{route.value}".encode(): route for route in Route}
_GET = {b"/v1/models", b"/healthz", b"/stats"}
_MARK = "f" * 16
_JSON = Framing()


class Request(Struct, frozen=True):
    """A request as it came off the wire; `refusal` = it is none, and that is the answer."""

    method: bytes
    path: bytes
    script: str = ""
    body: bytes = b""
    framing: Framing = _JSON
    refusal: SlipstreamError | None = None


class Stats(Struct, frozen=True):
    """What `GET /stats` says. `in_flight` hold a slot, `queued` wait for one."""

    requests: int
    in_flight: int
    queued: int
    served: int
    aborted: int
    refused: int
    connections: int
    faults: dict[str, int]


class Prepared(Struct, frozen=True):
    """An answer as one piece of bytes; each sending replaces the id in it by its own."""

    data: bytes
    mark: bytes
    route: Route


class Service:
    """One simulated server: its settings, its slots, its counts.

    Args:
        settings: times, slots, seed.
        models: names that it serves; empty = any.
        script: what every request is told that brings no script of its own.
    """

    def __init__(self, settings: Simulated, *, models: tuple[str, ...] = (), script: str = "") -> None:
        self.settings = settings
        self.models = models
        self.tally = Tally()
        self.slots: Slots[object] = Slots(settings.slots)
        self.connections = 0
        self.prepared_second = 0
        self._default: Script = NOTHING
        self._timeless = False
        self._prepared: dict[tuple[bytes, bytes], Prepared | None] = {}
        self._accepted = frozenset(models)
        self.behave(script)

    def behave(self, script: str) -> None:
        """From now on requests without a script of their own follow this one; empty = none."""
        settings = self.settings
        self._default = parse_script(script)
        delay = settings.ttft_ms or settings.ttft_ms_per_1k_tokens or settings.itl_ms
        self._timeless = not (delay or settings.error_rate or self._default.items)

    def stats(self) -> Stats:
        """All counts as they are now."""
        tally = self.tally
        return Stats(
            requests=tally.requests,
            in_flight=self.slots.running,
            queued=self.slots.waiting,
            served=tally.served,
            aborted=tally.aborted,
            refused=tally.refused,
            connections=self.connections,
            faults={name: count for name, count in tally.faults.items() if count},
        )

    def quick(self, path: bytes, body: bytes) -> bytes | None:
        """The whole answer in one piece, where it takes no time and no turn; None = it has to be played."""
        if not self._timeless or not self.slots.free:
            return None
        second = clock.wall_ns() // 1_000_000_000
        if second != self.prepared_second:  # `created` stands in the prepared bytes
            self.prepared_second = second
            self._prepared.clear()
        key = (path, body)
        prepared = self._prepared.get(key)
        if prepared is None:
            if path not in _ROUTES or len(body) > PREPARED_BODY_BYTES:
                return None
            prepared = self._prepare(path, body)
            if prepared is None:
                return None
            if len(self._prepared) >= PREPARED_MAX:
                self._prepared.clear()
            self._prepared[key] = prepared
        tally = self.tally
        identity = identity_of(self.settings.seed, tally.requests, prepared.route)
        tally.requests += 1
        tally.served += 1
        return prepared.data.replace(prepared.mark, identity.encode())

    def plan(self, request: Request) -> Plan:
        """Settle the answer to a request to a model. Raises `SlipstreamError` for what it refuses."""
        wanted, script = self._read(request.path, request.body, request.script)
        script = self._default if script is None else script
        return self.tally.begin(wanted, script, self.settings, usage=wanted.include_usage)

    def play(self, plan: Plan, framing: Framing) -> Iterator[Write]:
        """The writes of a planned answer."""
        return writes(plan, acts(plan, lambda: self.slots.running), framing)

    def control(self, request: Request) -> bytes | None:
        """The answer to what does not ask a model; None = it does."""
        framing = request.framing
        if request.refusal is not None:
            return self.refuse(request.refusal, framing)
        path = request.path
        if path in _ROUTES:
            return None if request.method == b"POST" else _wrong_method(b"POST", framing)
        if path not in _GET:
            error = BadRequest(
                f"There is no {path[:100].decode(errors='replace')}.", status=404, code="not_found"
            )
            return self.refuse(error, framing)
        if request.method not in (b"GET", b"HEAD"):
            return _wrong_method(b"GET, HEAD", framing)
        if path == b"/stats":
            return message(200, msgspec.json.encode(self.stats()), framing=framing)
        if path == b"/v1/models":
            return message(200, self._list_models(), framing=framing)
        return message(200, b'{"status":"ok"}', framing=framing)

    def refuse(self, error: SlipstreamError, framing: Framing) -> bytes:
        """The answer to a request that is refused."""
        self.tally.refused += 1
        body = answer.error(error.status, error.message, kind=error.kind, code=error.code, param=error.param)
        wait = error.retry_after_seconds
        headers = () if wait is None else ((b"retry-after", b"%d" % wait),)
        return message(error.status, body, framing=framing, headers=headers)

    def _read(self, path: bytes, body: bytes, header: str) -> tuple[ChatRequest, Script | None]:
        request, script = script_of(parse(_ROUTES[path], body), header)
        if not request.model:
            request = request.replacing({"model": msgspec.json.encode((*self.models, DEFAULT_MODEL)[0])})
        if self._accepted and request.model not in self._accepted:
            known = ", ".join(self.models)
            raise BadRequest(
                f"The model `{request.model[:100]}` does not exist here; there are: {known}.",
                status=404,
                param="model",
                code="model_not_found",
            )
        return request, script

    def _prepare(self, path: bytes, body: bytes) -> Prepared | None:
        """Play the answer to an imagined request with a known id, all at once."""
        try:
            request, script = self._read(path, body, "")
            if script is not None:
                return None
            prefix = identity_of(0, 0, request.route)[:-16]
            plan = make_plan(
                request,
                NOTHING,
                self.settings,
                index=0,
                created=self.prepared_second,
                usage=request.include_usage,
                identity=prefix + _MARK,
            )
        except SlipstreamError:
            return None  # it will be refused where refusals are written
        data = b"".join(write.data for write in writes(plan, acts(plan, lambda: 1), _JSON))
        if len(data) > PREPARED_ANSWER_BYTES:
            return None
        return Prepared(data, (prefix + _MARK).encode(), request.route)

    def _list_models(self) -> bytes:
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": "slipstream"}
            for name in self.models or (DEFAULT_MODEL,)
        ]
        return msgspec.json.encode({"object": "list", "data": models})


def _wrong_method(allowed: bytes, framing: Framing) -> bytes:
    body = answer.error(405, "This path takes another method.", code="method_not_allowed")
    return message(405, body, framing=framing, headers=((b"allow", allowed),))
