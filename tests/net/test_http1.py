"""The parsing of answers, without sockets: how the bytes are cut on the way makes no difference."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.upstream import answer, chunked
from slipstream.net.http1 import Connection
from slipstream.net.response import Response


class Wire(asyncio.Transport):
    """A transport that swallows what is written."""

    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


Seen = tuple[int, tuple[tuple[bytes, bytes], ...], bytes, str]


def seen(loop: asyncio.AbstractEventLoop, pieces: list[bytes]) -> Seen:
    """What a caller sees of an answer that arrives in these pieces, then the connection ends."""
    connection = Connection(loop, 4096, lambda *_: None, lambda *_: None)
    connection.connection_made(Wire())
    response = connection.send(b"GET / HTTP/1.1\r\n\r\n", b"")
    for piece in pieces:
        connection.data_received(piece)
    connection.eof_received()
    connection.connection_lost(None)
    return response.status, response.headers, *loop.run_until_complete(_read(response))


async def _read(response: Response) -> tuple[bytes, str]:
    got = b""
    if response.whole is not None:
        got = response.whole
    else:
        while response._pieces:
            got += (await anext(response)).data
    return got, response.error.code if response.error is not None else ""


HEADER = st.sampled_from(
    ["X-A: 1", "x-b:2", "Content-Type: text/event-stream", "X-Empty:", "Set-Cookie: a", "Set-Cookie: b"]
)
BODY = st.binary(max_size=40)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    interim = b"".join(
        draw(
            st.lists(
                st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nl: x\r\n\r\n"]),
                max_size=2,
            )
        )
    )
    headers = draw(st.lists(HEADER, max_size=3))
    framed = draw(
        st.one_of(
            BODY.map(lambda body: answer(body, "200 OK", *headers)),
            st.lists(BODY.filter(bool), max_size=4).map(
                lambda parts: chunked(*parts, trailers=b"X-T: 1\r\n")
            ),
            BODY.map(lambda body: b"HTTP/1.1 200 OK\r\n\r\n" + body),
            st.just(b"HTTP/1.1 204 No Content\r\n\r\n"),
            BODY,
        )
    )
    tail = draw(st.sampled_from([b"", b"H", b"junk", answer(b"second")]))
    end = draw(st.integers(0, len(framed)))
    return interim + (framed + tail if draw(st.booleans()) else framed[:end])


@given(answers(), st.data())
def test_cuts_do_not_matter(stream: bytes, data: st.DataObject) -> None:
    """Whole, in any pieces, or byte by byte: the same head, body and error."""
    loop = asyncio.new_event_loop()
    try:
        whole = seen(loop, [stream])
        assert seen(loop, [bytes([byte]) for byte in stream]) == whole
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert seen(loop, [piece for piece in pieces if piece]) == whole
    finally:
        loop.close()


@pytest.mark.parametrize(
    "stream",
    [
        answer(b"hello", "200 OK", "X: 1"),
        chunked(b"he", b"llo", trailers=b"X: 1\r\n") + b"junk",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello",
    ],
)
def test_every_single_cut(stream: bytes) -> None:
    """Cut in two at every byte."""
    loop = asyncio.new_event_loop()
    try:
        whole = seen(loop, [stream])
        assert whole[2] == b"hello"
        for at in range(1, len(stream)):
            assert seen(loop, [stream[:at], stream[at:]]) == whole
    finally:
        loop.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_hundred_thousand_random_answers() -> None:
    """Arbitrary bytes and damaged answers: a result or a typed error, never a crash."""
    import random

    chance = random.Random(3)
    good = [
        answer(b"hello", "200 OK", "X: 1"),
        chunked(b"he", b"llo", trailers=b"X: 1\r\n"),
        b"HTTP/1.1 200 OK\r\n\r\nx",
    ]
    loop = asyncio.new_event_loop()
    try:
        for _ in range(100_000):
            stream = bytearray(chance.choice(good))
            for _ in range(chance.randrange(4)):
                stream[chance.randrange(len(stream))] = chance.randrange(256)
            at = chance.randrange(len(stream))
            status, _headers, body, code = seen(
                loop, [piece for piece in (bytes(stream[:at]), bytes(stream[at:])) if piece]
            )
            assert status or code
            assert len(body) <= len(stream)
    finally:
        loop.close()
