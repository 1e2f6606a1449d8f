"""The routes of profiling: for administrators only; what is asked amiss is refused in words."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from starlette.applications import Starlette

from slipstream.config.profiling import Profiling
from slipstream.config.settings import Recording
from slipstream.core.errors import SlipstreamError
from slipstream.core.meters import Counters
from slipstream.gateway.admin_api import _refuse
from slipstream.gateway.profiling_api import Desk as DeskPort
from slipstream.gateway.profiling_api import profiling_routes
from slipstream.server.profile_desk import ProfileDesk
from slipstream.server.recording import Recorder
from slipstream.store.records import RecordFilter

ADMIN = (b"x-slipstream-role", b"admin")
USER = (b"x-slipstream-role", b"user")
JSON = (b"content-type", b"application/json")


class Told(Struct):
    """What a desk was asked."""

    what: str
    where: RecordFilter | None = None
    seconds: float = 0.0
    by: str | None = None


class Desk:
    """Answers with what it was asked."""

    def stalls(self) -> Told:
        return Told("stalls")

    async def use(self) -> Told:
        return Told("use")

    def last(self, what: str) -> Told | None:
        return Told("last") if what == "cpu" else None

    async def profile(self, what: str, seconds: float, *, by: str | None) -> Told:
        return Told(what, seconds=seconds, by=by)

    async def steps(self, where: RecordFilter) -> Told:
        return Told("steps", where)


def ask(
    method: str,
    target: str,
    headers: Sequence[tuple[bytes, bytes]] = (ADMIN, JSON),
    body: bytes = b"",
    *,
    desk: DeskPort | None = None,
) -> tuple[int, Any]:
    """One request straight into the application; status and body."""
    app = Starlette(routes=profiling_routes(desk or Desk()), exception_handlers={SlipstreamError: _refuse})
    path, _, query = target.partition("?")
    sent: list[dict[str, object]] = []
    coming: list[dict[str, object]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, object]:
        return coming.pop() if coming else await asyncio.Future()  # it stays, and says nothing more

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "path": "/_slipstream/" + path, "raw_path": b"", "query_string": query.encode(), "root_path": "",
        "headers": list(headers), "scheme": "http", "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    status = sent[0]["status"]
    assert isinstance(status, int)
    return status, msgspec.json.decode(b"".join(each.get("body", b"") for each in sent[1:]))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "stalls"), ("GET", "use"), ("GET", "steps"), ("GET", "profile"), ("POST", "profile")],
)
def test_only_administrators_are_told(method: str, path: str) -> None:
    """A stranger is not let in, a user is refused, an administrator is answered."""
    body = b'{"what":"cpu","seconds":1}'

    assert ask(method, path, [JSON], body)[0] == 401
    assert ask(method, path, [USER, JSON], body)[0] == 403
    assert ask(method, path, [ADMIN, JSON], body)[0] == 200


def test_a_profile_is_asked_for_by_kind_and_time() -> None:
    """Both reach the desk as they are; without a time it is ten seconds."""
    assert ask("POST", "profile", body=b'{"what":"memory","seconds":2.5}')[1]["seconds"] == 2.5
    assert ask("POST", "profile", body=b'{"what":"cpu"}')[1]["seconds"] == 10.0
    assert ask("POST", "profile", body=b'{"what":"memory","by":"tracemalloc"}')[1]["by"] == "tracemalloc"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"what":"disk"}',
        b'{"what":"cpu","seconds":"x"}',
        b'{"what":"cpu","x":1}',
        b'{"what":"memory","by":"magic"}',
    ],
)
def test_what_asks_for_no_profile_is_refused(body: bytes) -> None:
    """Nothing is profiled by mistake; the answer shows a right body."""
    status, told = ask("POST", "profile", body=body)

    assert status == 400
    assert told["error"]["message"].endswith('Such as {"what": "cpu", "seconds": 10}.')


@pytest.mark.parametrize("seconds", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"null", b"true", b'"nan"'])
def test_seconds_that_json_has_no_number_for_are_refused(seconds: bytes) -> None:
    """The desk is not asked."""
    status, told = ask("POST", "profile", body=b'{"what":"cpu","seconds":' + seconds + b"}")

    assert status == 400
    assert "Such as" in told["error"]["message"]


@pytest.mark.parametrize("seconds", [b"0", b"-1", b"61", b"1e300", b"0.0"])
def test_a_time_beyond_the_bounds_is_refused_with_what_would_be_right(tmp_path: Path, seconds: bytes) -> None:
    """By the real desk, through the route."""
    recorder = Recorder(tmp_path / "records.db", Recording(enabled=False), Counters())
    desk = ProfileDesk(Profiling(), (), recorder, resources=lambda: list)
    status, told = ask("POST", "profile", body=b'{"what":"cpu","seconds":' + seconds + b"}", desk=desk)

    assert status == 400
    assert "more than 0 and up to 60 seconds" in told["error"]["message"]
    assert "such as 10" in told["error"]["message"]
    assert told["error"]["param"] == "seconds"


def test_a_form_starts_no_profile() -> None:
    """A page of somebody else cannot send JSON without our leave; anything else is refused."""
    form = (b"content-type", b"text/plain")

    assert ask("POST", "profile", [ADMIN, form], b'{"what":"cpu"}')[0] == 415
    assert ask("POST", "profile", body=b" " * 5000)[0] == 413


def test_the_last_profile_is_there_or_not() -> None:
    """Before the first one there is nothing to show."""
    assert ask("GET", "profile?what=cpu")[1]["what"] == "last"
    assert ask("GET", "profile?what=memory") == (200, None)
    assert ask("GET", "profile?what=disk")[0] == 400


def test_steps_are_asked_for_by_range_and_model() -> None:
    """Seconds become nanoseconds; what is no time is refused."""
    _, told = ask("GET", "steps?from=10&to=20.5&model=sim")

    assert told["where"]["since_wall_ns"] == 10_000_000_000
    assert told["where"]["until_wall_ns"] == 20_500_000_000
    assert told["where"]["model"] == "sim"
    for wrong in ("from=x", "to=nan", "from=-1", "to=1e300"):
        assert ask("GET", f"steps?{wrong}")[0] == 400
