"""What is seen of an answer as it passes."""

import pytest

from slipstream.core.chat import Route, parse
from slipstream.core.errors import UpstreamFailed
from slipstream.core.ports import Chunk, Head
from slipstream.core.record import Record
from slipstream.flow.observe import DONE, Observer

ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""},"index":0}]}\n\n'
WORD = b'data: {"choices":[{"delta":{"content":"hi"},"index":0}]}\n\n'
STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop","index":0}]}\n\n'
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}\n\n'
)


def observer(fields: str = "", *, streamed: bool = True, status: int = 200) -> tuple[Observer, Record]:
    record = Record(origin_ns=1000)
    made = Observer(parse(Route.CHAT, b'{"messages":[]%b}' % fields.encode()), record)
    made.begin(Head(status, streamed=streamed))
    return made, record


def see(made: Observer, *events: bytes, at: int) -> tuple[bytes, ...]:
    passed = made.see(Chunk(events, 1000 + at))
    return passed.events if passed is not None else ()


def test_a_whole_stream() -> None:
    """First token, last token, gaps, usage and finish are taken down; the usage event is kept back."""
    made, record = observer()
    assert see(made, ROLE, at=5) == (ROLE,)
    assert see(made, WORD, at=10) == (WORD,)
    assert see(made, WORD, at=14) == (WORD,)
    assert see(made, STOP, USAGE, DONE, at=20) == (STOP, DONE)
    assert made.end() == b""
    assert (record.first_byte_ns, record.first_token_ns, record.last_token_ns) == (5, 10, 14)
    assert (record.chunk_gap_mean_ns, record.chunk_gap_p95_ns, record.chunk_gap_max_ns) == (4, 4, 4)
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (9, 2, 4)
    assert (record.finish_reason, record.outcome, record.tokens_estimated) == ("stop", "served", False)


def test_who_asks_for_usage_gets_it() -> None:
    """The usage event passes if the caller asked for it."""
    made, _ = observer(',"stream_options":{"include_usage":true}')
    assert see(made, USAGE, at=1) == (USAGE,)


def test_usage_beside_a_choice_passes() -> None:
    """Some servers put usage into an event that also carries text: that one is never dropped."""
    both = b'data: {"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":1}}\n\n'
    made, record = observer()
    assert see(made, both, at=1) == (both,)
    assert record.prompt_tokens == 1


def test_served_before_it_is_passed_on() -> None:
    """The outcome is promoted when the terminal event is seen: who leaves right after it was served."""
    made, record = observer()
    see(made, WORD, at=1)
    assert record.outcome == "aborted"
    see(made, DONE, at=2)
    assert record.outcome == "served"


def test_without_usage_tokens_are_counted_and_marked() -> None:
    """Events with text stand in for tokens, and the record says that it is an estimate."""
    made, record = observer()
    see(made, WORD, WORD, STOP, DONE, at=1)
    made.end()
    assert (record.output_tokens, record.tokens_estimated) == (2, True)


def test_a_finished_stream_without_done_gets_one() -> None:
    """A server that forgets [DONE] after a finish reason is forgiven, and the client gets its [DONE]."""
    made, record = observer()
    see(made, WORD, STOP, at=1)
    assert made.end() == DONE
    assert record.outcome == "served"


def test_a_stream_that_just_ends_has_failed() -> None:
    """No finish reason and no [DONE]: never a silent 200."""
    made, record = observer()
    see(made, WORD, at=1)
    with pytest.raises(UpstreamFailed):
        made.end()
    assert record.outcome == "aborted"


def test_an_error_event_makes_it_failed() -> None:
    """An upstream that ends with an error event has failed, [DONE] or not."""
    made, record = observer()
    see(made, WORD, b'data: {"error":{"message":"out of memory"}}\n\n', DONE, at=1)
    made.end()
    assert record.outcome == "failed"


@pytest.mark.parametrize(
    "event", [b"data: {half\n\n", b": comment\n\n", b"event: x\ndata: [1,2]\n\n", b"\n\n"]
)
def test_what_is_not_understood_passes(event: bytes) -> None:
    """It is not for us to judge an event; the client's own parser may know it."""
    made, _ = observer()
    assert see(made, event, at=1) == (event,)


def test_an_unstreamed_answer() -> None:
    """Usage and finish reason are read from the body, in as many pieces as it came."""
    made, record = observer(streamed=False)
    see(made, b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],', at=1)
    see(made, b'"usage":{"prompt_tokens":7,"completion_tokens":1}}', at=2)
    made.end()
    assert (record.prompt_tokens, record.output_tokens, record.finish_reason) == (7, 1, "stop")
    assert record.outcome == "served"


def test_an_upstreams_error_answer() -> None:
    """4xx of an upstream is refused, 5xx failed."""
    for status, outcome in ((400, "refused"), (503, "failed")):
        made, record = observer(streamed=False, status=status)
        see(made, b'{"error":{}}', at=1)
        made.end()
        assert (record.outcome, record.status) == (outcome, status)


def test_gaps_are_bounded() -> None:
    """A stream of any length keeps a bounded sample of its gaps, and exact mean and max."""
    made, record = observer()
    for index in range(5000):
        see(made, WORD, at=index * 10)
    see(made, STOP, DONE, at=50_000)
    made.end()
    assert record.chunk_gap_mean_ns == record.chunk_gap_max_ns == record.chunk_gap_p95_ns == 10
    assert len(made._gaps) <= 512
