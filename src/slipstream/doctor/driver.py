"""Made-up load for verifying: requests of recorded lengths, at recorded times, to a server on loopback.

An open loop: a request leaves at its time, however those before it fare. Bounded in requests and in time.
"""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from slipstream.config.live import LiveServer
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, SlipstreamError
from slipstream.doctor.outcome import Took
from slipstream.doctor.replay_model import Asked
from slipstream.net.client import ClientOptions, HttpClient

REQUESTS_MAX = 20_000
CONNECTIONS = 512
ANSWER_SECONDS = 120.0
ANSWER_BYTES = 64 * 1024 * 1024
WORDS_PER_TOKEN = 0.75
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


async def drive(server: LiveServer, asked: Sequence[Asked]) -> list[Took]:
    """Send them and wait for all answers; what each client met, in order.

    Raises `ConfigurationError` for a server that is not on loopback.
    """
    if urlsplit(server.url).hostname not in LOOPBACK:
        raise ConfigurationError(
            "Made-up load is sent to a server on loopback only.", hint="Apply with --verify 0."
        )
    client = HttpClient(server.url, ClientOptions(connections=CONNECTIONS, waiting=REQUESTS_MAX))
    first = asked[0].at if asked else 0.0
    begun_ns = clock.monotonic_ns()
    try:
        async with asyncio.TaskGroup() as clients:
            tasks = []
            for each in asked[:REQUESTS_MAX]:
                due = each.at - first
                await asyncio.sleep(max(0.0, due - (clock.monotonic_ns() - begun_ns) / 1e9))
                tasks.append(clients.create_task(_ask(client, server, each, due)))
    finally:
        await client.aclose()
    return [task.result() for task in tasks]


async def _ask(client: HttpClient, server: LiveServer, asked: Asked, due: float) -> Took:
    prompt = "word " * max(1, round(asked.prompt * WORDS_PER_TOKEN))
    body = msgspec.json.encode(
        {
            "model": asked.model,
            "messages": [{"role": "user", "content": prompt}],
            "stream": asked.stream,
            "max_tokens": asked.output,
        }
    )
    headers = ((b"authorization", b"Bearer " + server.token.encode()), (b"content-type", b"application/json"))
    begun_ns = clock.monotonic_ns()
    is_served = False
    name = ""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            response = await client.request("POST", "/v1/chat/completions", headers, body)
            try:
                said = await response.read(ANSWER_BYTES)
            finally:
                response.close()
        name = response.header(b"x-request-id").decode("ascii", "replace")
        is_served = response.status == 200 and (not asked.stream or b"[DONE]" in said[-64:])
    except (SlipstreamError, TimeoutError):
        is_served = False
    return Took(due, (clock.monotonic_ns() - begun_ns) / 1e9, is_served, request=name)
