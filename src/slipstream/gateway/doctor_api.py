"""Admin routes of the doctor: what it asks of a live server, its runs for the pages, and its ledger."""

from collections.abc import Awaitable
from typing import Literal, Protocol

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from slipstream.gateway.admin_api import admin_only, json_response
from slipstream.gateway.json_body import json_body

VerifyBy = Literal["replay", "live"]
PREFIX = "/_slipstream"
_HOW = 'Such as {"since": "1h"}, or {"since": "1h", "apply": 1, "verify_seconds": 60}.'


class RunBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What the doctor is to do: look, or do what cause `apply` advises and verify it (0 seconds = not).

    `expect`: the setting that is to be changed, or `SETTING=VALUE`; nothing is done where that cause advises
    another by then.
    """

    since: str
    apply: int | None = None
    verify_seconds: float = 60.0
    verify_by: VerifyBy = "replay"
    expect: str = ""


class Settings(Protocol):
    """What the supervisor lets the command line do."""

    def view(self) -> Struct:
        """Settings in force, the file they stand in, stalls."""
        ...

    def renew(self) -> Awaitable[Struct]:
        """Read the settings again."""
        ...


class Desk(Protocol):
    """What the supervisor lets the page do."""

    def state(self) -> Struct:
        """The run under way, or the last one."""
        ...

    def start(
        self,
        since: str,
        apply: int | None,
        verify_seconds: float,
        *,
        verify_by: VerifyBy,
        expect: str,
    ) -> Struct:
        """Begin a run."""
        ...

    def cancel(self) -> Awaitable[Struct]:
        """End it, with its change taken back."""
        ...

    def ledger(self) -> Awaitable[Struct | None]:
        """What was advised, and what came of it."""
        ...


def doctor_routes(settings: Settings, desk: Desk) -> list[BaseRoute]:
    """The routes, for administrators only."""

    async def view(request: Request) -> Response:
        return json_response(settings.view())

    async def renew(request: Request) -> Response:
        return json_response(await settings.renew())

    async def state(request: Request) -> Response:
        return json_response(desk.state())

    async def start(request: Request) -> Response:
        asked = await json_body(request, RunBody, _HOW)
        run = desk.start(
            asked.since, asked.apply, asked.verify_seconds, verify_by=asked.verify_by, expect=asked.expect
        )
        return json_response(run, 202)

    async def cancel(request: Request) -> Response:
        return json_response(await desk.cancel())

    async def ledger(request: Request) -> Response:
        return json_response(await desk.ledger())

    return [
        Route(f"{PREFIX}/doctor", admin_only(view)),
        Route(f"{PREFIX}/settings/reload", admin_only(renew), methods=["POST"]),
        Route(f"{PREFIX}/doctor/run", admin_only(state), methods=["GET"]),
        Route(f"{PREFIX}/doctor/run", admin_only(start), methods=["POST"]),
        Route(f"{PREFIX}/doctor/run", admin_only(cancel), methods=["DELETE"]),
        Route(f"{PREFIX}/ledger", admin_only(ledger)),
    ]
