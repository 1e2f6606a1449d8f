"""Framing of server-sent events."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.errors import UpstreamFailed
from slipstream.net.sse import EventSplitter, data_of

BREAKS = [b"\n", b"\r\n", b"\r"]
TEXT = st.sampled_from(
    [b"data: x", b"data:", b"event: e", b": hi", b"id: 1", b"data: \xc3\xa4", b"x", b"", b" "]
)
STREAM = st.lists(st.tuples(TEXT, st.sampled_from(BREAKS)), max_size=30).map(
    lambda lines: b"".join(a + b for a, b in lines)
)


def split(stream: bytes, cuts: list[int], limit: int = 10_000) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter(limit)
    events: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += splitter.feed(stream[start:end])
    return events, splitter.rest()


@given(STREAM, st.data())
def test_cuts_do_not_matter(stream: bytes, data: st.DataObject) -> None:
    """However the stream is cut, the same events come out, and every byte of it."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    whole = split(stream, [])
    assert split(stream, cuts) == whole
    assert split(stream, list(range(len(stream)))) == whole
    assert b"".join(whole[0]) + whole[1] == stream


@given(st.binary(max_size=200), st.data())
def test_any_bytes_go_through(stream: bytes, data: st.DataObject) -> None:
    """Nothing crashes it, nothing is lost."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    events, rest = split(stream, cuts)
    assert b"".join(events) + rest == stream
    for event in events:
        data_of(event)


def reference(stream: bytes) -> list[bytes]:
    """Payloads as the standard's algorithm reads them, line by line; None for an unfinished event."""
    payloads: list[bytes] = []
    lines: list[bytes] = []
    for line in re.findall(rb"([^\r\n]*)(?:\r\n|\n|\r)", stream):
        if line:
            lines.append(line)
        else:
            values = [
                x.split(b":", 1)[1].removeprefix(b" ") if b":" in x else b""
                for x in lines
                if x.split(b":")[0] == b"data"
            ]
            if values:
                payloads.append(b"\n".join(values))
            lines = []
    return payloads


@given(STREAM)
def test_payloads_are_those_of_the_standard(stream: bytes) -> None:
    """What a browser would dispatch is what `data_of` gives, in order."""
    events, _ = split(stream + b"\n\n:", [])
    assert [data for event in events if (data := data_of(event))] == [
        data for data in reference(stream + b"\n\n") if data
    ]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\r\n\n", b"\n\r\n"])
def test_event_comes_out_with_its_last_byte(end: bytes) -> None:
    """No event waits for the one behind it."""
    splitter = EventSplitter(100)
    event = b"data: x" + end
    assert [out for byte in event[:-1] for out in splitter.feed(bytes([byte]))] == []
    assert splitter.feed(event[-1:]) == [event]
    assert splitter.feed(event) == [event]
    assert splitter.rest() == b""


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("start", [b"", b"data: ok\n\n"])
@pytest.mark.parametrize("end", [b"", b"\n\n", b"\r\n\r\n"])
def test_event_beyond_the_limit(step: int, start: bytes, end: bytes) -> None:
    """The events before it come out, then it is an error, and stays one."""
    stream = start + b"x" * 101 + end
    splitter = EventSplitter(100)
    events: list[bytes] = []
    with pytest.raises(UpstreamFailed) as caught:  # noqa: PT012
        for at in range(0, len(stream), step):
            events += splitter.feed(stream[at : at + step])
        splitter.rest()
    assert caught.value.code == "event_too_large"
    assert events == ([start] if start else [])
    with pytest.raises(UpstreamFailed):
        splitter.feed(b"")


def test_event_at_the_limit_passes() -> None:
    """The limit itself is allowed."""
    event = b"x" * 98 + b"\n\n"
    assert EventSplitter(100).feed(event) == [event]


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"data:  x\n\n", b" x"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\r\ndata\r\n\r\n", b"a\n"),
        (b"data: a\rdata: b\r\r", b"a\nb"),
        (b"event: x\nid: 1\ndata: a\n\n", b"a"),
        (b": comment\n\n", b""),
        (b"\n\n", b""),
        (b"\n\ndata: a\n\n", b"a"),
        (b"\xef\xbb\xbfdata: a\n\n", b"a"),
        (b"data: a\rignored\n\n", b"a"),
        (b"database: x\n\n", b""),
        (b"data: unfinished", b"unfinished"),
    ],
)
def test_data_of(event: bytes, data: bytes) -> None:
    """The payload by the standard's rules."""
    assert data_of(event) == data
