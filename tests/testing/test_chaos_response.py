"""Faults on responses as a machine: the same seed and the same bytes give the same answer, however read."""

import gzip
import itertools

import pytest
from chaos_rig import DONE, SSE_HEAD, event, stream, unchunk
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.testing.chaos_faults import HttpFault
from slipstream.testing.chaos_response import Choice, RequestLog, Responses
from slipstream.testing.chaos_set import FaultSet
from slipstream.testing.chaos_toxics import Cut, Hold

GET = b"GET /v1/models HTTP/1.1\r\n\r\n"
JSON = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}'
EVENTS = [event(number) for number in range(4)]
ALL = [
    "http_hang", "http_hang,ms=9", "http_reset", "http_fin", "http_status,code=500", "http_redirect",
    "http_garbage", "http_gzip_bomb,mb=1", "http_body_flood,mb=1", "http_header_flood,count=20",
    "http_content_type", "http_trickle,bytes_per_second=1000000", "sse_reset@2", "sse_fin@done", "sse_end@1",
    "sse_hang@1", "sse_hang@1,ms=50", "sse_half@1", "sse_bad_utf8@2", "sse_long_line@0,mb=1", "sse_double_done",
    "sse_reset@0", "sse_half@9", "sse_reset@99",
]  # fmt: skip


def answer(data, *lines, request=GET, seed=1, reads=None, fin=False):
    """What the machine makes of a server's bytes: times in ms and pieces, neighbours of one time joined."""
    faults = FaultSet(seed)
    faults.replace(lines, 0)

    def draw(number, target):
        named = [fault for fault in faults.all() if isinstance(fault, HttpFault)]
        struck = [
            (fault, faults.draw(fault, 0, number))
            for fault in named
            if target.startswith(fault.path.encode())
        ]
        return [(fault, dice) for fault, dice in struck if dice is not None]

    log = RequestLog()
    list(log.push(0, request))
    machine = Responses(log, Choice(lambda: bool(lines), draw, faults.take, lambda: None))
    out = []
    for piece in [*(reads or [data]), *([Cut.FIN] if fin else [])]:
        for at, made in machine.push(0, piece):
            when = at / 1_000_000
            if out and out[-1][0] == when and isinstance(made, bytes) and isinstance(out[-1][1], bytes):
                out[-1] = (when, out[-1][1] + made)
            else:
                out.append((when, made))
            if isinstance(made, Cut):
                return out, dict(faults.hits)
    return out, dict(faults.hits)


def joined(out):
    return b"".join(piece for _, piece in out if isinstance(piece, bytes))


CASES = {
    "lines": st.lists(st.sampled_from(ALL), min_size=1, max_size=3, unique=True),
    "data": st.sampled_from([JSON, stream(4), stream(2) + JSON, JSON + stream(3)]),
    "points": st.lists(st.integers(0, 900), max_size=25),
    "seed": st.integers(0, 50),
}


def check_splits(lines, data, points, seed):
    bounds = sorted({min(point, len(data)) for point in points} | {0, len(data)})
    reads = [data[start:end] for start, end in itertools.pairwise(bounds)]
    whole = answer(data, *lines, request=GET * 2, seed=seed, fin=True)
    split = answer(data, *lines, request=GET * 2, seed=seed, fin=True, reads=reads)
    assert joined(split[0]) == joined(whole[0])
    assert [piece for _, piece in split[0] if not isinstance(piece, bytes)] == [
        piece for _, piece in whole[0] if not isinstance(piece, bytes)
    ]
    assert split[1] == whole[1]


@settings(max_examples=100, deadline=None)
@given(**CASES)
def test_decisions_do_not_depend_on_how_the_bytes_come(lines, data, points, seed):
    """Split anywhere: the same bytes, the same cut or hold at the same place, the same hits."""
    check_splits(lines, data, points, seed)


@pytest.mark.long
@settings(max_examples=8000, deadline=None)
@given(**CASES)
def test_decisions_do_not_depend_on_how_the_bytes_come_many_times(lines, data, points, seed):
    """The same with the full count."""
    check_splits(lines, data, points, seed)


def test_split_at_every_single_byte_changes_nothing():
    """A whole stream byte by byte, with a fault that frames it anew."""
    data = stream(4)
    whole = answer(data, "sse_bad_utf8@2", "sse_double_done")
    split = answer(data, "sse_bad_utf8@2", "sse_double_done", reads=[bytes([each]) for each in data])
    assert joined(split[0]) == joined(whole[0])


@pytest.mark.parametrize("data", [JSON, stream(4), b"not http at all"])
def test_a_response_that_no_fault_fell_on_is_byte_for_byte_the_servers(data):
    """Armed but not struck: not a byte differs."""
    assert joined(answer(data, "sse_reset@2,rate=0", "http_garbage,rate=0")[0]) == data
    assert joined(answer(data, "http_garbage,path=/other")[0]) == data


def test_faults_on_events_leave_other_answers_alone():
    """No event stream, no strike; nor one whose encoding hides the events."""
    assert answer(JSON, "sse_reset@0", "sse_double_done") == ([(0, JSON)], {})
    packed = SSE_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") + b"0\r\n\r\n"
    assert answer(packed, "sse_reset@0") == ([(0, packed)], {})


def body(out):
    raw = joined(out)
    assert raw.startswith(SSE_HEAD)
    return unchunk(raw.removeprefix(SSE_HEAD))


@pytest.mark.parametrize("k", [0, 1, 4])
def test_a_cut_comes_after_exactly_k_events(k):
    """Not a byte of event k."""
    for line, cut in [("sse_reset", Cut.RESET), ("sse_fin", Cut.CLOSE)]:
        out, hits = answer(stream(4), f"{line}@{k}")
        assert (body(out), out[-1][1], hits) == (b"".join(EVENTS[:k]), cut, {line: 1})


def test_a_cut_before_done_needs_not_know_how_many_events_there_are():
    """`@done` strikes when `[DONE]` is next, and never where it does not come."""
    out, _ = answer(stream(4), "sse_reset@done")
    assert (body(out), out[-1][1]) == (b"".join(EVENTS), Cut.RESET)
    assert answer(stream(4, done=False), "sse_reset@done")[1] == {}


def test_half_json_is_one_broken_event_among_whole_ones():
    """Event k is cut off; those around it are untouched."""
    out, _ = answer(stream(4), "sse_half@1")
    before, broken, *after = body(out).split(b"\n\n")
    assert before + b"\n\n" == EVENTS[0]
    assert EVENTS[1].startswith(broken)
    assert len(broken) < len(EVENTS[1].strip())
    assert b"\n\n".join(after) == b"".join([*EVENTS[2:], DONE])


def test_done_comes_twice():
    """And the body still ends well."""
    out, hits = answer(stream(2), "sse_double_done")
    assert body(out) == b"".join([*EVENTS[:2], DONE, DONE])
    assert joined(out).endswith(b"0\r\n\r\n")
    assert hits == {"sse_double_done": 1}


def test_an_event_stream_with_a_length_is_framed_anew():
    """A changed body would not fit its Content-Length."""
    events = b"".join([*EVENTS, DONE])
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
    out, _ = answer(head % len(events) + events, "sse_double_done")
    new_head, _, rest = joined(out).partition(b"\r\n\r\n")
    assert b"content-length" not in new_head.lower()
    assert b"transfer-encoding: chunked" in new_head
    assert unchunk(rest) == events + DONE


def test_an_event_stream_that_ends_with_the_connection_stays_so():
    """No chunk framing is put in where the client was told of none."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    out, _ = answer(head + EVENTS[0] + DONE + b"data: torn", "sse_double_done", fin=True)
    assert joined(out) == head + EVENTS[0] + DONE + DONE + b"data: torn"
    out, _ = answer(head + EVENTS[0] + DONE, "sse_end@1", fin=True)
    assert (joined(out), out[-1][1]) == (head + EVENTS[0], Cut.CLOSE)


def test_a_hang_holds_the_head_or_the_rest():
    """The hold stands exactly before what it holds back."""
    out, _ = answer(JSON, "http_hang")
    assert [piece for _, piece in out] == [Hold("http_hang"), JSON]
    out, _ = answer(stream(4), "sse_hang@2")
    assert body(out[:1]) == b"".join(EVENTS[:2])
    assert out[1][1] == Hold("sse_hang")


def test_a_pause_shifts_everything_after_it():
    """50 ms of silence after the first event, none before."""
    out, _ = answer(stream(4), "sse_hang@1,ms=50")
    assert [when for when, _ in out] == [0, 50]
    assert body(out[:1]) == EVENTS[0]


def test_trickle_paces_the_body_and_not_the_head():
    """Seven bytes at 10 a second take 0.7 s."""
    out, _ = answer(JSON, "http_trickle,bytes_per_second=10")
    assert out[0] == (0, JSON[:-7])
    assert [when for when, _ in out[1:]] == [100 * n for n in range(1, 8)]


@pytest.mark.parametrize(
    ("line", "start", "has"),
    [
        ("http_status,code=429,retry_after=1000000000", b"HTTP/1.1 429 ", b"\r\nretry-after: 1000000000\r\n"),
        ('http_status,retry_after="Wed, 21 Oct 2026 07:28:00 GMT"', b"HTTP/1.1 503 ", b"21 Oct 2026"),
        ("http_status,code=599", b"HTTP/1.1 599 ", b'"code": "chaos"'),
        (
            "http_redirect,location=http://169.254.169.254/",
            b"HTTP/1.1 302 ",
            b"\r\nlocation: http://169.254.169.254/",
        ),
    ],
)
def test_an_answer_made_up_replaces_the_servers_and_ends_the_connection(line, start, has):
    """Its own head and body, none of the server's bytes, then a clean end."""
    out, _ = answer(JSON, line)
    assert joined(out).startswith(start)
    assert has in joined(out)
    assert b'{"a":1}' not in joined(out)
    assert out[-1][1] is Cut.CLOSE


def test_spoiled_heads_keep_the_body():
    """Garbage, a flood of headers, another content type: the body is the server's."""
    out, _ = answer(JSON, "http_garbage")
    assert not joined(out).startswith(b"HTTP")
    assert joined(out).partition(b"\r\n")[2] == JSON.partition(b"\r\n")[2]
    out, _ = answer(JSON, "http_header_flood,count=300,size=40")
    head, _, rest = joined(out).partition(b"\r\n\r\n")
    assert (len(head.split(b"\r\n")), rest) == (303, b'{"a":1}')
    assert {len(line) for line in head.split(b"\r\n")[1:301]} == {40}
    out, _ = answer(JSON, "http_content_type,value=text/html; charset=utf-8")
    assert joined(out).count(b"ontent-") == 2
    assert b"content-type: text/html; charset=utf-8\r\n" in joined(out)


def test_floods_have_the_size_they_claim():
    """The bomb inflates and the flood runs to exactly `mb` MiB."""
    out, _ = answer(JSON, "http_gzip_bomb,mb=3")
    assert gzip.decompress(joined(out).partition(b"\r\n\r\n")[2]) == bytes(3 << 20)
    out, _ = answer(JSON, "http_body_flood,mb=2")
    assert joined(out).partition(b"\r\n\r\n")[2] == b" " * (2 << 20)


def test_several_faults_fall_on_one_response():
    """A flood of headers, a broken event and a cut, in one answer."""
    out, hits = answer(stream(4), "http_header_flood,count=2", "sse_bad_utf8@0", "sse_reset@1")
    assert hits == {"http_header_flood": 1, "sse_bad_utf8": 1, "sse_reset": 1}
    assert out[-1][1] is Cut.RESET


def test_the_answer_to_head_has_no_body():
    """The next response is found right behind it."""
    head = JSON.removesuffix(b'{"a":1}')
    request = b"HEAD / HTTP/1.1\r\n\r\n" + GET  # sent as one pipeline, answered in one read
    out, _ = answer(head + JSON, "http_garbage,path=/v1", request=request)
    assert joined(out).startswith(head)
    assert not joined(out).removeprefix(head).startswith(b"HTTP")


def test_rate_is_the_share_of_responses():
    """One in ten of 2,000, give or take four standard deviations, and the same ones for the same seed."""
    data, request = JSON * 1000, GET * 1000
    struck = [answer(data, "http_content_type,rate=0.1", request=request, seed=seed) for seed in (1, 1, 2)]
    assert struck[0] == struck[1] != struck[2]
    total = struck[0][1]["http_content_type"] + struck[2][1]["http_content_type"]
    assert 146 < total < 254


def test_an_unanswered_pipeline_is_bounded():
    """Beyond 1,024 open requests the tracker gives up and passes bytes; it does not guess."""
    out, hits = answer(JSON, "http_garbage", request=GET * 1100)
    assert (joined(out), hits) == (JSON, {})
