"""Admin routes of alerts and marks. What is asked amiss is a 400 that says what; nothing here decides."""

import functools
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from slipstream.core import clock
from slipstream.core.alerts import Event, Mark, MarkKind, Rule, Severity, Silence
from slipstream.core.errors import BadRequest
from slipstream.core.outbox import Message
from slipstream.gateway.admin_api import admin_only, json_response
from slipstream.gateway.json_body import json_body
from slipstream.monitoring.alerts.backtest import Backtest
from slipstream.monitoring.alerts.evaluator import RuleView

BODY_BYTES_MAX = 64 * 1024
_HOW = "`docs/alerts.md` shows one of each kind."
ROWS_MAX = 1000
T = TypeVar("T")


class Desk(Protocol):
    """What the supervisor lets these routes do."""

    def overview(self) -> Awaitable[Struct]:
        """Rules, silences, receivers and how telling goes."""
        ...

    def put_rule(self, rule: Rule) -> Awaitable[RuleView]:
        """Watch a rule."""
        ...

    def delete_rule(self, owner: str, name: str) -> Awaitable[None]:
        """Watch it no more."""
        ...

    def test(self, condition: str) -> Awaitable[Struct]:
        """What a condition says now."""
        ...

    def backtest(self, condition: str, start_wall_ns: int, end_wall_ns: int) -> Awaitable[Backtest]:
        """What it would have done."""
        ...

    def test_receiver(self, receiver: str) -> Awaitable[None]:
        """Send a test message."""
        ...

    def history(self, limit: int, before_id: int | None) -> Awaitable[Sequence[Event]]:
        """What fired and ended."""
        ...

    def put_silence(self, silence: Silence, seconds: float) -> Awaitable[Silence]:
        """Keep rules silent."""
        ...

    def end_silence(self, silence_id: str) -> Awaitable[None]:
        """End a silence."""
        ...

    def messages(self, state: str, limit: int) -> Awaitable[Sequence[Message]]:
        """Messages in a state."""
        ...

    def send_again(self, message_id: str) -> Awaitable[None]:
        """Try a dead message anew."""
        ...

    def marks(self, from_wall_ns: int, to_wall_ns: int) -> Awaitable[Sequence[Mark]]:
        """Marks of a range."""
        ...

    def mark(self, mark: Mark) -> Awaitable[Mark]:
        """Keep a mark."""
        ...

    def rule_file(self) -> str:
        """The rules for Prometheus."""
        ...


Answer = Callable[[Desk, Request], Awaitable[Response]]


class _Body(Struct, frozen=True, forbid_unknown_fields=True):
    """What a body holds: known names only."""


class RuleBody(_Body, frozen=True):
    """A rule to watch."""

    owner: str
    name: str
    condition: str
    severity: Severity = "warning"


class QuestionBody(_Body, frozen=True):
    """A condition to ask, or a receiver to send a test message to."""

    condition: str = ""
    receiver: str = ""


class BacktestBody(_Body, frozen=True):
    """A condition and the range to replay it on: seconds since 1970, or negative for so long ago."""

    condition: str
    start: float = -86400.0
    end: float = 0.0


class SilenceBody(_Body, frozen=True):
    """What to keep silent, and for how long."""

    name: str
    seconds: float
    owner: str = ""
    severity: Severity | None = None
    author: str = ""
    comment: str = ""


class MarkBody(_Body, frozen=True):
    """A mark; without a time it is now."""

    text: str
    kind: MarkKind = "note"
    author: str = ""


class MessageView(Struct, frozen=True):
    """A message as people see it; its payload stays here."""

    id: str
    receiver: str
    subject: str
    state: str
    tries: int
    error: str
    created_wall_ns: int
    due_wall_ns: int


def alert_routes(desk: Desk) -> list[BaseRoute]:
    """The routes."""

    def route(path: str, answer: Answer, method: str) -> Route:
        return Route(f"/_slipstream/{path}", admin_only(functools.partial(answer, desk)), methods=[method])

    return [
        route("alerts", _overview, "GET"),
        route("alerts/rules", _put_rule, "POST"),
        route("alerts/rules", _delete_rule, "DELETE"),
        route("alerts/test", _test, "POST"),
        route("alerts/backtest", _backtest, "POST"),
        route("alerts/history", _history, "GET"),
        route("alerts/silences", _put_silence, "POST"),
        route("alerts/silences/{id}", _end_silence, "DELETE"),
        route("alerts/messages", _messages, "GET"),
        route("alerts/messages/{id}/send", _send_again, "POST"),
        route("alerts/export", _export, "GET"),
        route("marks", _marks, "GET"),
        route("marks", _mark, "POST"),
    ]


async def _overview(desk: Desk, request: Request) -> Response:
    return json_response(await desk.overview())


async def _put_rule(desk: Desk, request: Request) -> Response:
    body = await _body(request, RuleBody)
    return json_response(await desk.put_rule(Rule(body.owner, body.name, body.condition, body.severity)))


async def _delete_rule(desk: Desk, request: Request) -> Response:
    await desk.delete_rule(request.query_params.get("owner", ""), request.query_params.get("name", ""))
    return json_response({})


async def _test(desk: Desk, request: Request) -> Response:
    body = await _body(request, QuestionBody)
    if bool(body.condition) is bool(body.receiver):
        raise BadRequest("Give either a `condition` or a `receiver`.")
    if body.receiver:
        await desk.test_receiver(body.receiver)
        return json_response({"delivered": body.receiver})
    return json_response(await desk.test(body.condition))


async def _backtest(desk: Desk, request: Request) -> Response:
    body = await _body(request, BacktestBody)
    start, end = _moment(body.start, "start"), _moment(body.end, "end")
    return json_response(await desk.backtest(body.condition, start, end))


async def _history(desk: Desk, request: Request) -> Response:
    before = _number(request, "before", 0, 2**62)
    found = await desk.history(_number(request, "limit", 100, ROWS_MAX), before or None)
    return json_response({"data": found})


async def _put_silence(desk: Desk, request: Request) -> Response:
    body = await _body(request, SilenceBody)
    if not math.isfinite(body.seconds):
        raise BadRequest("`seconds` is a number.", param="seconds")
    asked = Silence("", body.name, 0, 0, body.owner, body.severity or "", body.author, body.comment)
    return json_response(await desk.put_silence(asked, body.seconds))


async def _end_silence(desk: Desk, request: Request) -> Response:
    await desk.end_silence(request.path_params["id"])
    return json_response({})


async def _messages(desk: Desk, request: Request) -> Response:
    state = request.query_params.get("state", "dead")
    if state not in {"waiting", "sent", "dead"}:
        raise BadRequest("`state` is `waiting`, `sent` or `dead`.", param="state")
    found = await desk.messages(state, _number(request, "limit", 100, ROWS_MAX))
    return json_response({"data": [_view(message) for message in found]})


async def _send_again(desk: Desk, request: Request) -> Response:
    await desk.send_again(request.path_params["id"])
    return json_response({})


async def _export(desk: Desk, request: Request) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(desk.rule_file(), media_type="application/yaml", headers=headers)


async def _marks(desk: Desk, request: Request) -> Response:
    start = _moment(_seconds(request, "from", -86400.0), "from")
    end = _moment(_seconds(request, "to", 0.0), "to")
    return json_response({"data": await desk.marks(start, end)})


async def _mark(desk: Desk, request: Request) -> Response:
    body = await _body(request, MarkBody)
    return json_response(await desk.mark(Mark(0, body.kind, body.text, body.author)))


def _view(message: Message) -> MessageView:
    return MessageView(
        message.id,
        message.receiver,
        message.subject,
        message.state,
        message.tries,
        message.error,
        message.created_wall_ns,
        message.due_wall_ns,
    )


async def _body(request: Request, kind: type[T]) -> T:
    return await json_body(request, kind, _HOW, most=BODY_BYTES_MAX)


def _number(request: Request, name: str, default: int, largest: int) -> int:
    asked = request.query_params.get(name, str(default))
    if not asked.isascii() or not asked.isdecimal() or len(asked) > 19 or int(asked) > largest:
        raise BadRequest(f"`{name}` must be a whole number up to {largest}.", param=name)
    return int(asked)


def _seconds(request: Request, name: str, default: float) -> float:
    try:
        return float(request.query_params.get(name, default))
    except ValueError:
        raise BadRequest(f"`{name}` is a time in seconds.", param=name) from None


def _moment(seconds: float, name: str) -> int:
    """Nanoseconds since 1970; what is not above zero counts from now."""
    if not math.isfinite(seconds) or abs(seconds) > 9e9:
        raise BadRequest(
            f"`{name}` is a time in seconds since 1970, or negative for so long ago.", param=name
        )
    return int(seconds * 1e9) if seconds > 0 else clock.wall_ns() + int(seconds * 1e9)
