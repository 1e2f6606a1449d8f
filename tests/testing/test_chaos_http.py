"""The HTTP tracker and the event cutter: wherever the reads fall, they see the same messages."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.testing.chaos_http import Body, End, Framer, Head, Opaque
from slipstream.testing.chaos_sse import EventCutter, bad_utf8, half

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n3;x=y\r\nefg\r\n0\r\nX: 1\r\n\r\n"
)
MESSAGES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    CHUNKED,
    b"HTTP/1.0 404\nContent-Length: 2\n\nno",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnot a chunk",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 101 Switching\r\n\r\n\x81\x05hello",
    b"\x16\x03\x01 TLS",
    b"HTTP/2 200\r\n\r\n",
    b"",
]


def no_body(head):
    return head.status in {204, 304} or head.status < 200


def reads_of(data, cuts):
    points = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(points)]


def follow(framer, reads):
    """The parts, neighbouring bodies and opaque bytes joined: what does not depend on the reads."""
    parts = [part for read in reads for part in framer.feed(read)] + framer.eof()
    joined = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Body) and isinstance(last, Body):
            joined[-1] = Body(last.raw + part.raw, last.data + part.data)
        elif isinstance(part, Opaque) and isinstance(last, Opaque):
            joined[-1] = Opaque(last.raw + part.raw)
        else:
            joined.append(part)
    return joined


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.sampled_from(MESSAGES), max_size=4), st.lists(st.integers(0, 400), max_size=40))
def test_messages_are_the_same_wherever_the_reads_fall(messages, cuts):
    """Parts do not depend on the reads, and joined they are the stream."""
    data = b"".join(messages)
    whole = follow(Framer(responses=True, bodiless=no_body), [data])
    split = follow(Framer(responses=True, bodiless=no_body), reads_of(data, cuts))
    assert split == whole
    assert b"".join(part.raw for part in whole) == data


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20), st.booleans())
def test_any_bytes_come_out_as_they_went_in(data, cuts, responses):
    """The tracker never raises and never loses or makes a byte."""
    prefix = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" if responses else b"POST / HTTP/1.1\r\n"
    parts = follow(Framer(responses=responses), reads_of(prefix + data, cuts))
    assert b"".join(part.raw for part in parts) == prefix + data


def test_chunks_are_taken_out_of_their_framing():
    """The data of a chunked body, and its end with the trailers."""
    head, body, end = follow(Framer(responses=True), [CHUNKED])
    assert isinstance(head, Head)
    assert head.chunked
    assert body.data == b"abcdefg"
    assert end == End(b"0\r\nX: 1\r\n\r\n")


def test_a_body_without_length_ends_with_the_connection():
    """Only the end of the stream ends it."""
    framer = Framer(responses=True)
    assert framer.feed(b"HTTP/1.0 200 OK\r\n\r\nabc")[1:] == [Body(b"abc", b"abc")]
    assert framer.eof() == [End(b"")]


@pytest.mark.parametrize(
    "endless",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 12_000,
        CHUNKED[:47] + b"0" * 5000,
        CHUNKED[:-2] + b"a: b\r\n" * 12_000,
    ],
)
def test_what_is_kept_back_is_bounded(endless):
    """A head, size line or trailer without end is passed on, not collected."""
    framer = Framer(responses=True)
    parts = framer.feed(endless)
    assert isinstance(parts[-1], Opaque)
    assert len(b"".join(part.raw for part in parts)) == len(endless)


def test_requests_are_told_apart_in_a_pipeline():
    """Heads with their bodies, one after the other."""
    stream = (
        b"POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcHEAD /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n"
    )
    parts = follow(Framer(responses=False), [stream])
    assert [part.start for part in parts if isinstance(part, Head)] == [
        b"POST /a HTTP/1.1",
        b"HEAD /b HTTP/1.1",
        b"GET /c HTTP/1.1",
    ]


LINE_END = st.sampled_from([b"\n", b"\r\n", b"\r"])
PAYLOAD = st.sampled_from([b'{"a": 1}', b"[DONE]", "ü€😀".encode(), b"", b" x "])


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.lists(st.tuples(st.sampled_from([b"data: ", b"data:", b": ", b"id: "]), PAYLOAD, LINE_END, LINE_END)),
    st.lists(st.integers(0, 300), max_size=30),
)
def test_events_are_the_same_wherever_the_reads_fall(lines, cuts):
    """Every line end of the standard, mixed; joined, the events are the stream."""
    data = b"".join(b"".join(line) for line in lines)

    def events(reads):
        cutter = EventCutter()
        return [event for read in reads for event in cutter.feed(read)], cutter.rest()

    found, rest = events([data])
    assert events(reads_of(data, cuts)) == (found, rest)
    assert b"".join(event.raw for event in found) + rest == data


def test_comments_are_no_events():
    """A keep-alive comment has no data, so it does not count towards `@k`."""
    found = EventCutter().feed(b": ping\n\ndata: a\ndata: b\n\nid: 7\n\ndata: [DONE]\n\n")
    assert [event.data for event in found] == [None, b"a\nb", None, b"[DONE]"]
    assert [event.done for event in found] == [False, False, False, True]


def test_an_event_without_end_is_not_collected():
    """Beyond 1 MiB it is passed as it comes, uncounted, and the next event counts again."""
    cutter = EventCutter()
    found = [event for _ in range(40) for event in cutter.feed(b"data: " + b"x" * 65536)]
    assert found
    assert all(event.data is None for event in found)
    *_, last, after = cutter.feed(b"\n\ndata: y\n\n")
    assert (last.data, after.data) == (None, b"y")


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.binary(min_size=2, max_size=40).filter(lambda data: b"\n" not in data and b"\r" not in data),
    st.integers(),
)
def test_broken_events_are_whole_events_with_broken_data(data, seed):
    """Half: a true prefix. Bad UTF-8: no decoder takes it. Both still end as events do."""
    (cut,) = EventCutter().feed(half(data, random.Random(seed)))
    assert cut.data is not None
    assert data.startswith(cut.data.rstrip(b"\n"))
    assert len(cut.data) < len(data)
    bad = bad_utf8(b"ascii " + bytes(each & 0x7F for each in data), random.Random(seed))
    with pytest.raises(UnicodeDecodeError):
        bad.decode()
