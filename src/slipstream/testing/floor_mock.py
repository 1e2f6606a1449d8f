"""A mock upstream of prebuilt bytes: the cheapest server that a proxy can be measured in front of.

    python -m slipstream.testing.floor_mock [PORT]

A POST is answered with one JSON completion; with `"stream":true` in its body, with 64 chunks as server-sent
events, each in a write of its own. The word `paced` anywhere in the body puts 2 ms between them, so that a
slower proxy does not find several in one read. A GET is answered with a list of one model, `m`. It is for
drivers of ours: no pipelining, no checks, no simulated times (that is `slipstream simulate`).
"""

import asyncio
import sys
from typing import cast

import httptools

from slipstream.testing.floor_process import serve_as_child

CHUNKS = 64
"""Chunks with a token in one streamed answer; the end of the stream comes in one write more."""

PACE_SECONDS = 0.002

BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"hello there"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
)
"""The JSON completion."""
_EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"hello "},"finish_reason":null}]}\n\n'
)
_FINISH = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)


def json_answer(body: bytes) -> bytes:
    """A whole HTTP answer with a JSON body."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


ANSWER = json_answer(BODY)
LIST = b'{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"floor"}]}'
"""What is answered to `GET /v1/models`, and to any other GET."""
_LIST = json_answer(LIST)
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
STREAM = (
    _HEAD + _chunk(_EVENT),
    *[_chunk(_EVENT)] * (CHUNKS - 1),
    _chunk(_FINISH) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n",
)
"""The writes of a streamed answer; head and first chunk are one."""


class MockUpstream(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._position = 0
        self._pace = 0.0
        self._is_gone = False
        self._is_streaming = False
        self._is_last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A proxy is there."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has left; a stream under way ends."""
        self._is_gone = True

    def data_received(self, data: bytes) -> None:
        """Feed the parser; whoever speaks something else than HTTP is dropped."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        """A request starts."""
        self._body = b""

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self._body += body

    def on_message_complete(self) -> None:
        """It is whole: answer."""
        body = self._body
        if self._parser.get_method() != b"POST":
            self._transport.write(_LIST)
        elif b'"stream":true' in body or b'"stream": true' in body:
            self._pace = PACE_SECONDS if b"paced" in body else 0.0
            self._position = 0
            self._is_streaming = True
            self._stream()
        else:
            self._transport.write(ANSWER)
        self._is_last = not self._parser.should_keep_alive()
        if self._is_last and not self._is_streaming:
            self._transport.close()

    def _stream(self) -> None:
        if self._is_gone:
            return
        self._transport.write(STREAM[self._position])
        self._position += 1
        if self._position == len(STREAM):
            self._is_streaming = False
            if self._is_last:
                self._transport.close()
        elif self._pace:
            self._loop.call_later(self._pace, self._stream)
        else:
            self._loop.call_soon(self._stream)


if __name__ == "__main__":
    sys.exit(serve_as_child(MockUpstream, *map(int, sys.argv[1:2])))
