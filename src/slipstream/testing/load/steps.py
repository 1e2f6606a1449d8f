"""Where requests spent their time, by the server's own records: joined by request id after a run.

Only a live server of ours has them. The wait in the client, the network, the gateway, the upstream.
"""

import asyncio

import numpy as np

from slipstream.config.live import LiveServer
from slipstream.core.errors import SlipstreamError
from slipstream.core.record import Record, record_from_json
from slipstream.net.client import HttpClient
from slipstream.testing.load.samples import Samples
from slipstream.testing.load.summary import Latency, StepTimes, latency

JOINED_MAX = 300
"""Records that are fetched; drawn evenly over the run."""
UPSTREAM = frozenset({"open", "first_byte", "relay", "embed"})
"""Steps in which a request waits for the model behind the gateway; all others are the gateway's own."""
WAITS_MAX, PAUSE_SECONDS = 20, 0.05
"""A record is there within 0.1 s of its answer. So often in all the records of a run are waited for: a
server that keeps none is not asked for long."""
MISSING_MAX = 10
"""Records in a row that are not there until no more are asked for."""
RECORD_BYTES_MAX = 1024 * 1024


async def step_times(samples: Samples, server: LiveServer) -> StepTimes | None:
    """Join requests with good answers to the server's records; None where none of them is known there."""
    rows = [
        (int(row), request_id)
        for row, request_id in zip(samples.request_rows, samples.request_ids, strict=True)
        if samples.error[row] == 0
    ]
    if len(rows) > JOINED_MAX:
        rows = [rows[int(place)] for place in np.linspace(0, len(rows) - 1, JOINED_MAX)]
    client = HttpClient(server.url)
    try:
        joined = await _joined(client, server, rows)
    except SlipstreamError:
        return None  # the server has gone: the run's own figures stand
    finally:
        await client.aclose()
    return _told(samples, joined) if joined else None


async def _joined(
    client: HttpClient, server: LiveServer, rows: list[tuple[int, str]]
) -> list[tuple[int, Record]]:
    """The records of those requests, the last first: where they are there, all are."""
    joined: list[tuple[int, Record]] = []
    waits = missing = 0
    for row, name in reversed(rows):
        record = await _record(client, server, name)
        while record is None and not joined and waits < WAITS_MAX:
            waits += 1
            await asyncio.sleep(PAUSE_SECONDS)
            record = await _record(client, server, name)
        missing = 0 if record is not None else missing + 1
        if missing >= MISSING_MAX:
            break
        if record is not None:
            joined.append((row, record))
    return joined


async def _record(client: HttpClient, server: LiveServer, request_id: str) -> Record | None:
    authorization = b"Bearer " + server.token.encode()
    response = await client.request(
        "GET", f"/_slipstream/requests/{request_id}", ((b"authorization", authorization),)
    )
    try:
        body = await response.read(RECORD_BYTES_MAX)
    finally:
        response.close()
    return record_from_json(body) if response.status == 200 else None


def _told(samples: Samples, joined: list[tuple[int, Record]]) -> StepTimes:
    parts: dict[str, list[float]] = {"client_wait": [], "network": [], "gateway": [], "upstream": []}
    steps: dict[str, list[float]] = {}
    for row, record in joined:
        service = int(samples.done_ns[row] - samples.sent_ns[row])
        upstream = sum(step.duration_ns for step in record.steps if step.name in UPSTREAM)
        parts["client_wait"].append((samples.sent_ns[row] - samples.intended_ns[row]) / 1e6)
        parts["network"].append(max(0, service - record.duration_ns) / 1e6)
        parts["gateway"].append(max(0, record.duration_ns - upstream) / 1e6)
        parts["upstream"].append(upstream / 1e6)
        for step in record.steps:
            steps.setdefault(step.name, []).append(step.duration_ns / 1e6)
    return StepTimes(joined=len(joined), parts=_latencies(parts), steps=_latencies(steps))


def _latencies(times: dict[str, list[float]]) -> dict[str, Latency]:
    return {name: latency(np.array(values, dtype=np.float64)) for name, values in times.items()}
