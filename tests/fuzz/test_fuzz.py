"""Bytes that nobody planned for, at every parser that meets a stranger: row U4 and C5 of docs/faults.md.

The fast part runs a few thousand inputs, the long one more than 10^6, by a seeded mutation fuzzer; Hypothesis
builds what a fuzzer would hardly hit.
"""

import contextlib
import json
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from faults.probes import FINE, HEAD, HOST, PROBES
from faults.upstreams import ABSURD, DONE, ERROR, EVENT, LAST, ODD_EVENTS
from fuzz import mutation, parsers
from fuzz.mutation import Target

SSE = [EVENT + LAST + DONE, EVENT.replace(b"\n", b"\r\n"), EVENT.replace(b"\n", b"\r"), *ODD_EVENTS.values()]
SSE = [event[:2000] for event in SSE]
SSE_TOKENS = [
    b"\n\n",
    b"\r\n\r\n",
    b"\r\r",
    b"\r",
    b"\n",
    b"data: ",
    b"data:",
    b":",
    b"event: x\n",
    DONE,
    b"\xef\xbb\xbf",
]
ANSWERS = [
    *SSE,
    *(event + LAST + DONE for event in (*SSE, *ABSURD.values(), EVENT + LAST[:-2])),
    EVENT + ERROR,
]
ANSWER_TOKENS = [
    *SSE_TOKENS, b'"usage":', b'"choices":', b'"finish_reason":"stop"', b'"delta":', b"null", b"[", b"]", b"{", b"}",
    b'"error":{}', b"1e999", b"-1", b"9" * 30, b'"content":"x"', b"\\ud800", b"\xff",
]  # fmt: skip
BODIES = [
    b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"prompt":"x","input":"x"}',
    b'{ "model" : "m" , "messages" : [ ] , "stream_options" : {"include_usage":true}, "prompt": 1, "input": 1}',
    b'{"prompt":"x","max_tokens":5,"user":"u","input":["a"],"messages":[]}',
    b'{"mod\\u0065l":"m","input":"x","n":1.5e3,"t":null,"prompt":[],"messages":[{}]}',
    '{"messages":[{"content":"東京 é"}],"é":1,"input":{},"prompt":{}}'.encode(),
]
BODY_TOKENS = [
    *[b" ", b"\t", b"\r\n", b'"m":1,', b'"k\\u0061":"v",', b'"model":"x",', b"0", b"-1", b"e5", b"[]", b"{}"] * 4,
    b'"messages":[],', b'"stream":1', b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\",
    b"1e999", b"NaN", b"-0", b"0" * 20, b"null", b"true", b"\xff", b"\xc3", b"[" * 600, b'"m":1,"m":1',
]  # fmt: skip
REQUESTS = [
    *PROBES.values(), *[*FINE.values(), HEAD + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{}"] * 6,
    *[b"GET /x?y HTTP/1.1\r\n" + HOST + b"\r\n"] * 6,
]  # fmt: skip
REQUEST_TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"Host: 127.0.0.1\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"5;a=b\r\n", b" ",
    b"HTTP/1.0", b"HTTP/2.0", b"HEAD /x HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"http://127.0.0.1/", b"\x00", b"\xff",
    b"Expect: 100-continue\r\n", b"X: " + b"a" * 300 + b"\r\n", b"Trailer: X\r\n", b"CONNECT a:1 HTTP/1.1\r\n",
]  # fmt: skip
OK = b"HTTP/1.1 200 OK\r\n"
RESPONSES = [
    OK + b"Content-Length: 5\r\n\r\nhello",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n",
    OK + b"\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    OK + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}" + OK,
]
RESPONSE_TOKENS = [
    *REQUEST_TOKENS,
    OK,
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"HTTP/1.1 99999 X\r\n",
    b"Content-Encoding: gzip\r\n",
]

Corpus = Sequence[bytes]
PLAIN: dict[str, tuple[Target, Corpus, Corpus, int]] = {
    "events": (parsers.split_events, SSE, SSE_TOKENS, 600_000),
    "observer": (parsers.observe, ANSWERS, ANSWER_TOKENS, 400_000),
    "bodies": (parsers.parse_body, BODIES, BODY_TOKENS, 400_000),
}
"""Target, corpus, tokens, inputs of the long run. With those below 1.8 million, 1.25 million of them an upstream's."""

LABELS = {
    "events": {"events", "too large"},
    "observer": {"served", "failed", "broke"},
    "bodies": {"request", "invalid_json", "duplicate_field", "invalid_utf8", "missing_field"},
}
"""What the fuzzer must have reached, or it has shown little."""


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", PLAIN)
def test_parser_holds_its_promise(name: str, seed: int) -> None:
    """Any bytes: a result or a typed error; see the targets for what else holds."""
    target, corpus, tokens, many = PLAIN[name]
    seen = mutation.run(target, corpus, tokens, seed=seed, count=1500 if seed == 1 else many)
    print(f"\n{name}: {seen.total()} inputs, {dict(seen)}")
    assert seen.keys() >= LABELS[name]


@pytest.mark.parametrize(("seed", "count"), [(1, 1000), pytest.param(2, 150_000, marks=pytest.mark.long)])
def test_requests_on_a_connection(seed: int, count: int) -> None:
    """Any bytes at the gateway: the same requests however they were cut, each answered, nothing unplanned."""
    with contextlib.closing(parsers.RequestFuzz()) as target:
        seen = mutation.run(target, REQUESTS, REQUEST_TOKENS, seed=seed, count=count)
    print(f"\nrequests: {seen.total()} inputs, {dict(seen)}")
    assert seen.keys() == {"served", "refused", "unfinished"}


@pytest.mark.parametrize(("seed", "count"), [(1, 1000), pytest.param(2, 250_000, marks=pytest.mark.long)])
def test_answers_of_an_upstream(seed: int, count: int) -> None:
    """Any bytes from an upstream: an answer or a typed error, the same however they were cut."""
    with contextlib.closing(parsers.ResponseFuzz()) as target:
        seen = mutation.run(target, RESPONSES, RESPONSE_TOKENS, seed=seed, count=count)
    print(f"\nanswers: {seen.total()} inputs, {dict(seen)}")
    assert seen.keys() == {"answer", "broken answer", "no answer"}


@pytest.mark.parametrize(
    ("make", "corpus"), [(parsers.RequestFuzz, REQUESTS), (parsers.ResponseFuzz, RESPONSES)]
)
def test_split_at_every_byte(make: Callable[[], parsers.RequestFuzz], corpus: Corpus) -> None:
    """Each known input in two parts, for every place of the cut, and byte by byte: always the same."""
    with contextlib.closing(make()) as target:
        for data in dict.fromkeys(corpus):
            whole = target.feed([data])
            for at in range(1, len(data)):
                assert target.feed([data[:at], data[at:]]) == whole, (data, at)
            assert target.feed([data[at : at + 1] for at in range(len(data))]) == whole, data


LINES = st.sampled_from([b"data: x", b"data", b": c", b"event: e", b"id", b"\xff", b"data:" + b"x" * 600])
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(LINES, ENDS, ENDS), max_size=12), st.randoms(use_true_random=False))
@example([(b"data: x", b"\r", b"\n")], random.Random(1))
def test_events_of_any_line_ends(parts: list[tuple[bytes, bytes, bytes]], rng: random.Random) -> None:
    """Every mixture of line ends, cut anywhere."""
    parsers.split_events(b"".join(b"".join(part) for part in parts), rng)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(max_size=12), JSON, max_size=6), st.booleans(), st.randoms(use_true_random=False)
)
def test_any_json_object_is_understood_or_refused(
    fields: dict[str, object], is_ascii: bool, rng: random.Random
) -> None:
    """Any JSON object with any whitespace: its fields as they are, or a reason."""
    text = json.dumps(fields | {"messages": [], "prompt": "", "input": ""}, ensure_ascii=is_ascii)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    parsers.parse_body(data, rng)


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    st.binary(max_size=200),
    st.randoms(use_true_random=False),
)
def test_chunks_are_put_together(chunks: list[bytes], after: bytes, rng: random.Random) -> None:
    """Any chunks are one body; what follows them never changes the request before it."""
    with contextlib.closing(parsers.RequestFuzz()) as target:
        body = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
        request = b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body
        asked, *_ = target.feed(mutation.cut(request + after, rng))
        assert asked[0] == (b"POST", b"/x", b"", b"".join(chunks))
