"""Waits for a live server of ours that still loads its model: what it answers meanwhile says nothing."""

import asyncio
import logging

import msgspec
from msgspec import Struct

from slipstream.config.live import LiveServer
from slipstream.core import clock
from slipstream.core.errors import SlipstreamError
from slipstream.net.client import HttpClient

log = logging.getLogger(__name__)

SECONDS_MAX = 120.0
PAUSE_SECONDS = 0.2
BODY_BYTES_MAX = 64 * 1024


class _Ready(Struct):
    loading: list[str] = []


async def until_loaded(server: LiveServer | None, stop: asyncio.Event | None = None) -> None:
    """Return when `/readyz` names nothing that is loading, when stopped, or after `SECONDS_MAX`.

    A server that fails or is gone is not waited for: the test tells what it answers. None = nobody.
    """
    if server is None:
        return
    latest = clock.monotonic_ns() + round(SECONDS_MAX * 1e9)
    is_told = False
    client = HttpClient(server.url)
    try:
        while clock.monotonic_ns() < latest and not (stop and stop.is_set()):
            loading = await _loading(client)
            if not loading:
                return
            if not is_told:
                is_told = True
                log.warning("%s is loading %s; the test begins when it has", server.url, ", ".join(loading))
            await asyncio.sleep(PAUSE_SECONDS)
    except (SlipstreamError, msgspec.MsgspecError):
        return
    finally:
        await client.aclose()


async def _loading(client: HttpClient) -> list[str]:
    """What it still loads."""
    response = await client.request("GET", "/readyz", ())
    try:
        body = await response.read(BODY_BYTES_MAX)
    finally:
        response.close()
    return msgspec.json.decode(body, type=_Ready).loading if response.status == 503 else []
