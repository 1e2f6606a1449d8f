"""The dashboard's routes: its layout, charts of a range, the live stream, requests, added metrics.

Who may ask is decided by what each endpoint is wrapped in; the numbers come from the `Board`.
"""

import math
from collections.abc import Awaitable, Callable
from typing import get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from slipstream.core.errors import BadRequest
from slipstream.core.record import Outcome, record_json
from slipstream.core.tile import Tile
from slipstream.dashboard.board import Board, Page
from slipstream.dashboard.series import POINTS_MAX, SECOND_NS
from slipstream.store.records import RecordFilter

PREFIX = "/_slipstream/dashboard"
REQUESTS_MAX = 200
BODY_BYTES_MAX = 4096
RANGE_SECONDS_MAX = 5 * 366 * 86_400
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

Endpoint = Callable[[Request], Awaitable[Response]]


def feed_routes(board: Board, guarded: Callable[[Endpoint], Endpoint]) -> list[BaseRoute]:
    """The routes; `guarded` makes an endpoint answer only those who may see everything."""
    feed = _Feed(board)
    return [
        Route(PREFIX, guarded(feed.layout)),
        Route(f"{PREFIX}/now", guarded(feed.now)),
        Route(f"{PREFIX}/series", guarded(feed.series)),
        Route(f"{PREFIX}/live", guarded(feed.live)),
        Route(f"{PREFIX}/requests", guarded(feed.requests)),
        Route(f"{PREFIX}/tiles", guarded(feed.put_tile), methods=["POST"]),
        Route(f"{PREFIX}/tiles", guarded(feed.remove_tile), methods=["DELETE"]),
    ]


class _Feed:
    def __init__(self, board: Board) -> None:
        self._board = board

    async def layout(self, request: Request) -> Response:
        return _json(self._board.layout())

    async def now(self, request: Request) -> Response:
        return _json(self._board.numbers())

    async def series(self, request: Request) -> Response:
        start = _number(request, "from")
        end = _number(request, "to")
        points = int(_number(request, "points", 400.0))
        if not 0 <= start < end or end - start > RANGE_SECONDS_MAX:
            raise BadRequest("`from` and `to` are seconds since 1970, and `from` is earlier.", param="from")
        if not 1 <= points <= POINTS_MAX:
            raise BadRequest(f"`points` must be a whole number from 1 to {POINTS_MAX}.", param="points")
        only = [name for name in request.query_params.get("charts", "").split(",") if name]
        return _json(
            await self._board.series(int(start * SECOND_NS), int(end * SECOND_NS), points, tuple(only))
        )

    async def live(self, request: Request) -> Response:
        headers = {**_HEADERS, "x-accel-buffering": "no"}
        return StreamingResponse(self._board.live.watch(), media_type="text/event-stream", headers=headers)

    async def requests(self, request: Request) -> Response:
        asked = request.query_params
        limit = int(_number(request, "limit", 50.0))
        if not 1 <= limit <= REQUESTS_MAX:
            raise BadRequest(f"`limit` must be a whole number from 1 to {REQUESTS_MAX}.", param="limit")
        outcome = next((each for each in OUTCOMES if each == asked.get("outcome")), None)
        if outcome is None and asked.get("outcome"):
            raise BadRequest(f"`outcome` is one of {', '.join(OUTCOMES)}.", param="outcome")
        where = RecordFilter(
            model=asked.get("model") or None,
            outcome=outcome,
            route=asked.get("route") or None,
            upstream=asked.get("upstream") or None,
            min_duration_ns=_scaled(request, "min_ms", 1e6),
            since_wall_ns=_scaled(request, "from", SECOND_NS),
            until_wall_ns=_scaled(request, "to", SECOND_NS),
        )
        found = await self._board.requests(Page(limit, asked.get("before", "")[:100], where))
        return _json({"data": [record_json(record) for record in found]})

    async def put_tile(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise BadRequest("The content type must be application/json.", status=415)
        body = await request.body()
        if len(body) > BODY_BYTES_MAX:
            raise BadRequest("A metric to add takes less than 4 KB.", status=413)
        try:
            tile = msgspec.json.decode(body, type=Tile)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadRequest(f"This is not a metric to add: {error}.") from None
        return _json(self._board.tiles.put(tile))

    async def remove_tile(self, request: Request) -> Response:
        asked = request.query_params
        removed = self._board.tiles.remove(asked.get("owner", ""), asked.get("title", ""))
        return _json({"removed": removed})


def _number(request: Request, name: str, default: float | None = None) -> float:
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) < 1e12:
        raise BadRequest(f"`{name}` must be a number.", param=name)
    return value


def _scaled(request: Request, name: str, scale: float) -> int | None:
    """A number of nanoseconds, None where it is not asked."""
    return int(_number(request, name) * scale) if request.query_params.get(name) else None


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers=_HEADERS)
