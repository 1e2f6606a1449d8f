"""Admin routes of the doctor: what it asks of a live server, and that its settings be read again."""

from collections.abc import Awaitable
from typing import Protocol

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from slipstream.gateway.admin_api import admin_only, json_response


class Desk(Protocol):
    """What the supervisor lets these routes do."""

    def view(self) -> Struct:
        """Settings in force, the file they stand in, stalls."""
        ...

    def renew(self) -> Awaitable[Struct]:
        """Read the settings again."""
        ...


def doctor_routes(desk: Desk) -> list[BaseRoute]:
    """The routes."""

    async def view(request: Request) -> Response:
        return json_response(desk.view())

    async def renew(request: Request) -> Response:
        return json_response(await desk.renew())

    return [
        Route("/_slipstream/doctor", admin_only(view)),
        Route("/_slipstream/settings/reload", admin_only(renew), methods=["POST"]),
    ]
