"""Admin routes of profiling: stalls, use of resources, profiles of the running server, tables of steps."""

import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, Protocol

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from slipstream.core.errors import BadRequest
from slipstream.gateway.admin_api import admin_only, json_response
from slipstream.gateway.json_body import json_body
from slipstream.gateway.leaving import LEFT, while_there
from slipstream.store.records import RecordFilter

PREFIX = "/_slipstream"
_HOW = 'Such as {"what": "cpu", "seconds": 10}.'
What = Literal["cpu", "memory"]
By = Literal["memray", "memray-objects", "tracemalloc"]


class ProfileBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which profile, for how many seconds, and what takes allocations down."""

    what: What
    seconds: float = 10.0
    by: By | None = None


class Desk(Protocol):
    """What the supervisor lets these routes do."""

    def stalls(self) -> Struct:
        """Stalls that are kept."""
        ...

    def use(self) -> Awaitable[Struct]:
        """How full resources and parts are."""
        ...

    def last(self, what: What) -> Struct | None:
        """The last profile, None before the first one."""
        ...

    def profile(self, what: What, seconds: float, *, by: By | None) -> Coroutine[Any, Any, Struct]:
        """A new one; cancelled, nothing looks further."""
        ...

    def steps(self, where: RecordFilter) -> Awaitable[Struct]:
        """The table of steps."""
        ...


def profiling_routes(desk: Desk) -> list[BaseRoute]:
    """The routes, for administrators only."""
    routes = _Routes(desk)
    endpoints: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "stalls": routes.stalls,
        "use": routes.use,
        "steps": routes.steps,
        "profile": routes.last,
    }
    return [
        *(Route(f"{PREFIX}/{name}", admin_only(each), methods=["GET"]) for name, each in endpoints.items()),
        Route(f"{PREFIX}/profile", admin_only(routes.profile), methods=["POST"]),
    ]


class _Routes:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def stalls(self, request: Request) -> Response:
        return json_response(self._desk.stalls())

    async def use(self, request: Request) -> Response:
        return json_response(await self._desk.use())

    async def last(self, request: Request) -> Response:
        what = request.query_params.get("what", "cpu")
        if what not in ("cpu", "memory"):
            raise BadRequest("`what` is cpu or memory.", param="what", hint=_HOW)
        return json_response(self._desk.last("cpu" if what == "cpu" else "memory"))

    async def profile(self, request: Request) -> Response:
        asked = await json_body(request, ProfileBody, _HOW)
        profile = self._desk.profile(asked.what, asked.seconds, by=asked.by)
        found = await while_there(request, profile)
        return json_response(found) if found is not None else Response(status_code=LEFT)

    async def steps(self, request: Request) -> Response:
        asked = request.query_params
        where = RecordFilter(
            model=asked.get("model") or None,
            outcome=None,
            route=asked.get("route") or None,
            upstream=asked.get("upstream") or None,
            min_duration_ns=None,
            since_wall_ns=_wall_ns(request, "from"),
            until_wall_ns=_wall_ns(request, "to"),
        )
        return json_response(await self._desk.steps(where))


def _wall_ns(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < 1e11:
        raise BadRequest(
            f"`{name}` is a number of seconds since 1970.", param=name, hint="Such as 1790000000."
        )
    return int(seconds * 1e9)
