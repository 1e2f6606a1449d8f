"""The drivers of the gateway benchmark: wrk for whole answers, an own small one for streams."""

import asyncio
import json
import re
import resource
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httptools
from gateway_process import PATH

from slipstream.testing.floor_mock import CHUNKS

PROMPT = "x" * 800
JSON_BODY = f'{{"model":"m","messages":[{{"role":"user","content":"{PROMPT}"}}],"max_tokens":16}}'
STREAM_BODY = JSON_BODY[:-1] + ',"stream":true}'
PACED_BODY = STREAM_BODY.replace(PROMPT, "paced " + PROMPT)
STREAMS = 4
"""Paced streams at a time: 64 chunks, 2 ms apart, so that each chunk is relayed on its own."""

REPORT = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\\nREPORT {"requests":%d,"us":%d,"errors":%d,"p50_us":%g,"p99_us":%g}\\n',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50.0), latency:percentile(99.0)))
end
"""


@dataclass(frozen=True)
class Burst:
    """What wrk saw."""

    requests: int
    us: int
    errors: int
    p50_us: float
    p99_us: float
    wrk_cpu_us: float

    @property
    def rate(self) -> float:
        return self.requests / self.us * 1e6


def script(folder: Path, name: str, headers: Mapping[str, str]) -> Path:
    """What wrk sends, as a file."""
    fields = {"content-type": "application/json", **headers}
    lines = [f'wrk.headers["{field}"]="{value}"' for field, value in fields.items()]
    path = folder / f"{name}.lua"
    path.write_text("\n".join(['wrk.method="POST"', *lines, f"wrk.body=[[{JSON_BODY}]]", REPORT]))
    return path


def wrk(port: int, lua: Path, connections: int, seconds: int) -> Burst:
    """One run. wrk inherits the core of its caller."""
    url = f"http://127.0.0.1:{port}{PATH}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(lua), url]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"REPORT (\{.*\})", done.stdout)
    assert found is not None, done.stdout
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Burst(**json.loads(found[1]), wrk_cpu_us=cpu * 1e6)


@dataclass
class Streams:
    """What the streaming driver saw; `failed` counts answers without their end."""

    first_us: list[float] = field(default_factory=list)
    whole: int = 0
    failed: int = 0


class Caller(asyncio.Protocol):
    """One connection, one stream at a time."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.loop = asyncio.get_running_loop()
        self.gone = False
        self.done: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.end(False)

    def ask(self, request: bytes) -> "asyncio.Future[bool]":
        """Resolves to whether the stream came whole; `first_ns` is when its first event came."""
        self.done = self.loop.create_future()
        self.first_ns = 0
        self.tail = b""
        self.transport.write(request)  # type: ignore[attr-defined]
        return self.done

    def data_received(self, data: bytes) -> None:
        self.now_ns = time.perf_counter_ns()
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self.first_ns and b"data:" in body:
            self.first_ns = self.now_ns
        self.tail = (self.tail + body)[-64:]

    def on_message_complete(self) -> None:
        self.end(self.parser.get_status_code() == 200 and b"[DONE]" in self.tail)

    def end(self, whole: bool) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(whole)


def request_of(port: int, body: str, headers: Mapping[str, str]) -> bytes:
    fields = {"host": f"127.0.0.1:{port}", "content-type": "application/json", **headers}
    fields["content-length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {PATH} HTTP/1.1\r\n{head}\r\n{body}".encode()


async def first_tokens(port: int, request: bytes, seconds: float, *, kept: bool) -> Streams:
    """One stream after the other; time from the request (new: from before the connect) to its first event."""
    seen = Streams()
    caller: Caller | None = None
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        start_ns = time.perf_counter_ns()
        if caller is None or caller.gone or not kept:
            if caller is not None:
                caller.transport.close()
            _, caller = await asyncio.get_running_loop().create_connection(Caller, "127.0.0.1", port)
            start_ns = time.perf_counter_ns() if kept else start_ns
        await take(caller, request, seen, start_ns)
    if caller is not None:
        caller.transport.close()
    return seen


async def take(caller: Caller, request: bytes, seen: Streams, start_ns: int) -> None:
    try:
        whole = await asyncio.wait_for(caller.ask(request), 10)
    except TimeoutError:
        whole = False
        caller.transport.abort()  # type: ignore[attr-defined]
    if whole and caller.first_ns:
        seen.first_us.append((caller.first_ns - start_ns) / 1e3)
        seen.whole += 1
    else:
        seen.failed += 1


async def paced(port: int, request: bytes, seconds: float) -> Streams:
    """Some streams at a time, whose chunks come one by one."""
    seen = Streams()

    async def one() -> None:
        _, caller = await asyncio.get_running_loop().create_connection(Caller, "127.0.0.1", port)
        while time.perf_counter() < until and not caller.gone:
            await take(caller, request, seen, time.perf_counter_ns())
        caller.transport.close()

    until = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(STREAMS):
            group.create_task(one())
    return seen


def median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


def busy_ticks(core: int) -> tuple[int, int]:
    """Busy and all ticks of a core so far; of two calls the quotient of the differences says how busy it was."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            numbers = list(map(int, ticks[:8]))
            return sum(numbers) - numbers[3] - numbers[4], sum(numbers)
    return 0, 0


def chunks(seen: Streams) -> int:
    """Tokens relayed in whole streams."""
    return seen.whole * CHUNKS
