"""A live server that still loads its model is waited for."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from slipstream.config.live import LiveServer
from slipstream.testing.load.readiness import until_loaded

LOADING = b'{"ready":false,"draining":false,"loading":["tiny"],"failed":[]}'
FAILED = b'{"ready":false,"draining":false,"loading":[],"failed":["tiny"]}'
READY = b'{"ready":true,"draining":false,"loading":[],"failed":[]}'


def asked(answers: Sequence[tuple[int, bytes]], *, stop_at: int = 0) -> int:
    """How often a server that gives these answers, the last again and again, is asked until the wait is over."""
    count = 0

    async def main() -> None:
        stop = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            try:
                while True:
                    request = await reader.readuntil(b"\r\n\r\n")
                    assert request.startswith(b"GET /readyz ")
                    status, body = answers[min(count, len(answers) - 1)]
                    count += 1
                    if count == stop_at:
                        stop.set()
                    writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            live = LiveServer(
                pid=1, url=url, control="", token="", started_wall_ns=0, version="", settings=""
            )
            await until_loaded(live, stop)

    asyncio.run(main())
    return count


def test_a_model_that_loads_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """It is asked until nothing loads any more; that it is waited for is said once."""
    with caplog.at_level(logging.WARNING):
        assert asked([(503, LOADING), (503, LOADING), (200, READY)]) == 3

    assert [record.getMessage().partition(" is ")[2] for record in caplog.records] == [
        "loading tiny; the test begins when it has"
    ]


@pytest.mark.parametrize("answer", [(200, READY), (503, FAILED), (404, b"what?"), (503, b"no JSON")])
def test_others_are_not(answer: tuple[int, bytes]) -> None:
    """One that is ready, failed, or knows no such route is asked once."""
    assert asked([answer]) == 1


def test_whoever_stops_does_not_wait() -> None:
    assert asked([(503, LOADING)], stop_at=2) == 2


def test_nobody_is_there() -> None:
    """A server that is gone, and none at all: the test itself will tell."""
    gone = LiveServer(
        pid=1, url="http://127.0.0.1:1", control="", token="", started_wall_ns=0, version="", settings=""
    )
    asyncio.run(until_loaded(gone))
    asyncio.run(until_loaded(None))
