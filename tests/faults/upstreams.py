"""The ways in which an upstream fails, what must become of each, and a server before upstreams that fail so."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.serving import Serving
from faults import byte_server as play
from faults.byte_server import ByteServer, byte_server
from faults.raw import Answer, ask, chat
from faults.rig import Behind, backstage, gateway
from slipstream.config.settings import Simulated
from slipstream.testing.chaos import Chaos
from slipstream.testing.simulator import Simulator, run_simulator

WELL = "well"
TOKENS = 8
ANSWER_BYTES = 4 * 1024 * 1024
REDIRECTED = "http://127.0.0.1:9/latest/meta-data"


# Before the first byte: script of the simulator, or fault of the proxy -> status, code, attempts.

BEFORE = {
    "sim:cut": (502, "upstream_closed", 2),
    "sim:close": (502, "upstream_closed", 2),
    "sim:error=500": (500, "simulated", 2),
    "sim:error=503": (503, "simulated", 2),
    "sim:error=529": (529, "simulated", 2),
    "sim:error=400": (400, "simulated", 1),
    "sim:error=404": (404, "simulated", 1),
    "sim:error=401": (502, "upstream_refused_key", 2),
    "sim:hang": (504, "upstream_timeout", 1),
    "sim:slow_header=30": (504, "upstream_timeout", 1),
    "sim:drip=20": (504, "upstream_timeout", 1),
    "sim:header_flood=5000": (502, "upstream_header_too_large", 2),
    f"sim:redirect={REDIRECTED}": (502, "upstream_failed", 2),
    "chaos:http_reset": (502, "upstream_closed", 2),
    "chaos:http_fin": (502, "upstream_closed", 2),
    "chaos:http_garbage": (502, "upstream_malformed", 2),
    "chaos:http_header_flood": (502, "upstream_header_too_large", 2),
    "chaos:http_trickle": (504, "upstream_timeout", 1),
    "chaos:http_redirect": (502, "upstream_failed", 2),
    "chaos:http_gzip_bomb": (502, "upstream_malformed", 2),
    "chaos:http_content_type": (502, "upstream_malformed", 2),
    "chaos:sse_reset@0": (502, "upstream_broke", 2),
    "chaos:refuse,mode=stop": (502, "connect_failed", 2),
    "chaos:refuse,mode=close": (502, "upstream_closed", 2),
    "bytes:closed port": (502, "connect_failed", 2),
    "bytes:two lengths": (502, "upstream_malformed", 2),
    "bytes:length and chunked": (502, "upstream_malformed", 2),
    "bytes:endless header": (502, "upstream_header_too_large", 2),
    "bytes:switches protocols": (502, "upstream_malformed", 2),
}

AGAIN = ("chaos:http_reset,times=1", "chaos:http_fin,times=1", "chaos:http_garbage,times=1")
"""The first try fails, the second is served."""

# After the first byte -> tokens that came, code of the error event.

AFTER = {
    "sim:cut@0": (0, "upstream_broke"),
    "sim:cut@1": (1, "upstream_broke"),
    "sim:cut@5": (5, "upstream_broke"),
    f"sim:cut@{TOKENS}": (TOKENS, "upstream_broke"),
    "sim:close@0": (0, "upstream_broke"),
    "sim:close@3": (3, "upstream_broke"),
    "sim:hang@2": (2, "upstream_timeout"),
    "sim:early_head,hang@0": (0, "upstream_timeout"),
    "sim:no_done,no_finish": (TOKENS, "upstream_broke"),
    "sim:long_line=10000000@3": (3, "event_too_large"),
    "chaos:sse_reset@1": (0, "upstream_broke"),
    "chaos:sse_reset@4": (3, "upstream_broke"),
    "chaos:sse_reset@done": (TOKENS, "upstream_broke"),
    "chaos:sse_fin@4": (3, "upstream_broke"),
    "chaos:sse_fin@done": (TOKENS, "upstream_broke"),
    "chaos:sse_hang@4": (3, "upstream_timeout"),
    "chaos:sse_long_line@2": (1, "event_too_large"),
    "bytes:empty stream": (0, "upstream_broke"),
}

UNSTREAMED = {
    "chaos:http_body_flood": (502, "answer_too_large", 1),
    "bytes:5 GB": (502, "answer_too_large", 1),
}
"""As `BEFORE`, of answers that are no streams."""

# Odd, and served whole.

WHOLE = (
    "sim:no_done",
    "sim:two_done",
    "sim:comments",
    "sim:newline=crlf",
    "sim:newline=cr",
    "sim:split=1",
    "sim:no_usage",
    "sim:usage_in_choice",
    "sim:malformed@3",
    "chaos:split:down,mean=1",
    "chaos:sse_end@done",
    "chaos:sse_double_done",
)

EVENT = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"sea"},"finish_reason":null}]}\n\n'
LAST = b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"out of memory"}}\n\n'

ODD_EVENTS = {
    "half json": b'data: {"choices":[{"delta":{"content":"se\n\n',
    "nan": b'data: {"choices":[{"delta":{"content":"a"},"logprobs":NaN}]}\n\n',
    "infinity": b'data: {"usage":{"prompt_tokens":1e999}}\n\n',
    "bad utf-8": b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n',
    "lone surrogate": b'data: {"choices":[{"delta":{"content":"\\ud800"}}]}\n\n',
    "nul": b'data: {"choices":[{"delta":{"content":"\\u0000\x00"}}]}\n\n',
    "array": b"data: [1,2]\n\n",
    "number": b"data: 1\n\n",
    "text": b"data: hello\n\n",
    "no data": b"event: ping\n\n",
    "comment": b": ping\n\n",
    "retry": b"retry: 5\nid: 7\n\n",
    "two lines of data": b'data: {"choices":\ndata: []}\n\n',
    "no space": b'data:{"choices":[]}\n\n',
    "byte order mark": b'\xef\xbb\xbfdata: {"choices":[]}\n\n',
    "choices null": b'data: {"choices":null}\n\n',
    "choices an object": b'data: {"choices":{}}\n\n',
    "delta a string": b'data: {"choices":[{"delta":"x"}]}\n\n',
    "usage a string": b'data: {"choices":[],"usage":"many"}\n\n',
    "finish reason huge": b'data: {"choices":[{"delta":{},"finish_reason":"' + b"x" * 100_000 + b'"}]}\n\n',
    "deep": b"data: " + b"[" * 100_000 + b"\n\n",
    "duplicate keys": b'data: {"choices":[],"choices":[]}\n\n',
    "blank lines": b"\n\n\n\n\n\n",
}  # fmt: skip


GZIPPED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n"
    b"content-length: 23\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV*\xcaU\x02\x00\x1b\x17\xf1\xb0\x00"
)
ABSURD = {
    "usage negative": b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":-1,"completion_tokens":-9}}\n\n',
    "usage huge": b'data: {"choices":[{"delta":{}}],"usage":{"completion_tokens":' + b"9" * 400 + b"}}\n\n",
}


def plays() -> dict[str, tuple[play.Step, ...]]:
    """What the byte server does, by model."""
    head = play.HEAD
    scripts: dict[str, tuple[play.Step, ...]] = {
        "two lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}", "fin"),
        "length and chunked": (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            "fin",
        ),
        "endless header": (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000, "hang"),
        "switches protocols": (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "hang"),
        "empty stream": (head + b"0\r\n\r\n",),
        "broken after done": (head + play.chunk(EVENT) + play.chunk(LAST) + play.chunk(DONE), 0.1, "reset"),
        "error event": (play.stream(EVENT, ERROR),),
        "gzip": (GZIPPED,),
        "5 GB": (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000000000\r\n\r\n{",
            "hang",
        ),
        "html": (play.body(b"<script>alert(1)</script>", "text/html"),),
        "html error": (play.body(b"<h1>Bad Gateway</h1>", "text/html", "502 Bad Gateway"),),
        "redirects": (
            f"HTTP/1.1 307 Temporary Redirect\r\nlocation: {REDIRECTED}\r\ncontent-length: 0\r\n\r\n".encode(),
        ),
        "first event split": (head, b"3\r\nda", 0.02, b"t\r\n", play.chunk(EVENT[3:]), play.chunk(LAST + DONE), b"0\r\n\r\n"),
        "first event not utf-8": (play.stream(ODD_EVENTS["bad utf-8"], EVENT, LAST, DONE),),
        "hangs after done": (head + play.chunk(EVENT) + play.chunk(LAST) + play.chunk(DONE), "hang"),
        "broken after its error": (head + play.chunk(EVENT) + play.chunk(ERROR), 0.1, "reset"),
        "a byte at a time": (head + play.chunk(EVENT), *([play.chunk(b"d"), 0.25] * 40)),
        "zeros before its length": (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: " + b"0" * 5000 + b"2\r\n\r\n{}",
        ),
        "flood": (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
            itertools.repeat(play.chunk(b" " * 65536)),
        ),
        "many events": (play.stream(*([EVENT] * 5000), LAST, DONE),),
    }  # fmt: skip
    for name, event in (ODD_EVENTS | ABSURD).items():
        scripts[name] = (play.stream(EVENT, event, EVENT, LAST, DONE),)
    for name, value in RETRY_AFTER.items():
        scripts[name] = (
            b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n"
            + (b"retry-after: " + value + b"\r\n" if value else b"")
            + b'content-length: 47\r\n\r\n{"error":{"message":"slow down","code":"slow"}} ',
        )
    return scripts


RETRY_AFTER = {
    "429 seconds": b"7",
    "429 date": b"Wed, 21 Oct 2026 07:28:00 GMT",
    "429 nonsense": b"soon",
    "429 huge": b"1000000000",
    "429 negative": b"-5",
    "429 silent": b"",
}


@dataclass
class House:
    """The server under test and what stands behind it."""

    server: Serving
    simulator: Simulator
    bytes: ByteServer

    def ask(self, model: str, **fields: object) -> Answer:
        """A chat call on a connection of its own."""
        return ask(self.server.url, chat(model, **fields))

    def record(self, answer: Answer) -> dict[str, object]:
        """What the server recorded of it."""
        return self.server.record(answer.headers[b"x-request-id"].decode())


@contextlib.contextmanager
def ill_house(folder: Path) -> Iterator[House]:
    """A server before an upstream for each of the tables' rows."""
    with backstage() as stage:
        simulator = stage.open(run_simulator(Simulated(output_tokens=TOKENS)))
        served = stage.open(byte_server())
        served.plays.update(plays())
        base = f"http://127.0.0.1:{served.port}/v1"
        behind = [Behind(f"{simulator.url}/v1", WELL), Behind("http://127.0.0.1:9/v1", "bytes:closed port")]
        behind += [Behind(base, name) for name in served.plays]
        behind += [Behind(f"{simulator.url}/v1", f"m#unicode{more}") for more in ("", ",split=1")]
        for name in (*BEFORE, *AGAIN, *AFTER, *UNSTREAMED, *WHOLE):
            kind, _, what = name.partition(":")
            if kind == "sim":
                behind.append(Behind(f"{simulator.url}/v1", f"m#{what}"))
            elif kind == "chaos":
                chaos = stage.open(Chaos(simulator.url, faults=[what], seed=1))
                behind.append(Behind(f"{chaos.url}/v1", name))
        with gateway(folder, behind, MODELS__ANSWER_BYTES=str(ANSWER_BYTES)) as server:
            yield House(server, simulator, served)


def model_of(name: str) -> str:
    """The model that plays a row."""
    kind, _, what = name.partition(":")
    if kind == "sim":
        return f"m#{what}"
    return what if kind == "bytes" and what != "closed port" else name
