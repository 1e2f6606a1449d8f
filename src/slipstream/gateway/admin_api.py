"""The routes behind the supervisor's Unix socket: records, status, login. Who asks is in the headers.

The worker that passed the request on has checked the key and says in headers whose it was; nobody else
reaches this socket.
"""

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from slipstream.core.errors import BadRequest, NotAllowed, SlipstreamError
from slipstream.core.record import Record, record_json
from slipstream.gateway.control import KEY_ID, ROLE
from slipstream.gateway.errors import error_body
from slipstream.gateway.guard import SESSION_COOKIE

RECENT_MAX = 500
LOGIN_FAILED = "/#login-failed"
"""Where a browser goes whose login link is not good (any more)."""

Endpoint = Callable[[Request], Awaitable[Response]]


class Control(Protocol):
    """What the supervisor lets its routes see."""

    async def find_record(self, request_id: str) -> Record | None:
        """The record of a request, None if it is not known (yet)."""
        ...

    async def recent(self, limit: int) -> Sequence[Record]:
        """The latest records, newest first."""
        ...

    def status(self) -> dict[str, object]:
        """How every part is doing."""
        ...

    def login(self, token: str) -> str | None:
        """Spend a one-time token; the session's cookie value, or None."""
        ...

    def invite(self) -> str:
        """A link that opens the pages once."""
        ...


def control_app(control: Control, pages: Sequence[BaseRoute] = ()) -> Starlette:
    """The application behind the socket: admin routes, then `pages`."""
    routes: list[BaseRoute] = [
        Route("/_slipstream/requests/{request_id}", _checked(functools.partial(_request, control))),
        Route("/_slipstream/requests", _checked(functools.partial(_requests, control))),
        Route("/_slipstream/status", _checked(functools.partial(_status, control))),
        Route("/_slipstream/links", _checked(functools.partial(_invite, control)), methods=["POST"]),
        Route("/login", functools.partial(_login, control)),
        *pages,
    ]
    return Starlette(
        routes=routes, exception_handlers={SlipstreamError: _refuse, 404: _missing, 405: _missing}
    )


def _checked(endpoint: Endpoint) -> Endpoint:
    """Only for those whom a worker has let in; what is theirs to see is the endpoint's matter."""

    async def checked(request: Request) -> Response:
        if not request.headers.get(ROLE.decode()):
            raise NotAllowed(
                "This page asks for a key.", hint="Send one, or let a browser in with `slipstream open`."
            )
        return await endpoint(request)

    return checked


def admin_only(endpoint: Endpoint) -> Endpoint:
    """Only for administrators, and for whoever opens the pages where no key is asked for."""

    async def checked(request: Request) -> Response:
        require_admin(request)
        return await endpoint(request)

    return _checked(checked)


def _is_admin(request: Request) -> bool:
    return request.headers.get(ROLE.decode()) == "admin"


async def _request(control: Control, request: Request) -> Response:
    record = await control.find_record(request.path_params["request_id"])
    own = record is not None and (_is_admin(request) or record.key_id == request.headers.get(KEY_ID.decode()))
    if record is None or not own:  # the same answer for both: an id tells a stranger nothing
        raise BadRequest(
            "No such request is recorded.",
            hint="A record is there within a second of its answer; old ones go by record.keep_days.",
            code="not_found",
            status=404,
        )
    return json_response(record_json(record))


async def _requests(control: Control, request: Request) -> Response:
    require_admin(request)
    asked = request.query_params.get("limit", "50")
    if not asked.isdecimal() or not 1 <= int(asked) <= RECENT_MAX:
        raise BadRequest(
            f"`limit` must be a whole number from 1 to {RECENT_MAX}.", param="limit", code="invalid_value"
        )
    return json_response({"data": [record_json(record) for record in await control.recent(int(asked))]})


async def _status(control: Control, request: Request) -> Response:
    require_admin(request)
    return json_response(control.status())


async def _invite(control: Control, request: Request) -> Response:
    require_admin(request)
    return json_response({"url": control.invite()}, 201)


async def _login(control: Control, request: Request) -> Response:
    cookie = control.login(request.query_params.get("token", ""))
    if cookie is None and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(LOGIN_FAILED, status_code=303)  # a person: the page says how to get in
    if cookie is None:
        raise NotAllowed(
            "This link was used already, or is not one of ours.",
            hint="`slipstream open` makes a new one; or send a key as `Authorization: Bearer KEY`.",
        )
    response = RedirectResponse("/", status_code=303)
    response.set_cookie(SESSION_COOKIE.decode(), cookie, httponly=True, samesite="strict", path="/")
    return response


def require_admin(request: Request) -> None:
    """Raise `NotAllowed` (403) for whoever is let in, but is no admin."""
    if not _is_admin(request):
        raise NotAllowed("This needs an admin key.", hint="`slipstream keys create NAME --admin`", status=403)


def json_response(value: object, status: int = 200) -> Response:
    """A value as an answer that nobody keeps."""
    return Response(
        msgspec.json.encode(value),
        status,
        media_type="application/json",
        headers={"cache-control": "no-store", "x-content-type-options": "nosniff"},
    )


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, SlipstreamError)
    return Response(error_body(error), error.status, media_type="application/json")


async def _missing(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    refused = BadRequest(
        f"{request.url.path} does not exist here.",
        hint="The chat page is /, the dashboard /dashboard, the API is below /v1/.",
        code="not_found",
        status=status,
    )
    return Response(error_body(refused), status, media_type="application/json")
