"""What is read out of answers does not depend on how the network cut them, nor on their line ends."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.testing.load.answers import StreamAnswer, answer_for
from slipstream.testing.load.samples import ERRORS

ROLE = '{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}'
FINISH = '{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
USAGE = '{"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":%d,"total_tokens":1}}'


def content(text: str, *, spaced: bool = False) -> str:
    if spaced:
        return f'{{"id": "c", "choices": [{{"index": 0, "delta": {{"content": {text}}}, "finish_reason": null}}]}}'
    return f'{{"id":"c","choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}]}}'


def heard(pieces: list[bytes]) -> StreamAnswer:
    answer = answer_for("openai_chat", streaming=True)
    assert isinstance(answer, StreamAnswer)
    for now, piece in enumerate(pieces, 1):
        answer.now = now
        answer.on_body(piece)
    return answer


def stream(payloads: list[str], newline: str = "\n") -> bytes:
    return "".join(f"data: {payload}{newline}{newline}" for payload in payloads).encode()


TEXTS = st.lists(
    st.sampled_from(['"a"', '""', '"\\"content\\":\\"x"', '"\\n\\n"', '"ä"', "null"]), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(texts=TEXTS, newline=st.sampled_from(["\n", "\r\n", "\r"]), spaced=st.booleans(), data=st.data())
def test_cuts_change_nothing(texts: list[str], newline: str, spaced: bool, data: st.DataObject) -> None:
    """However a stream is cut, chunks with text are counted, empty ones not, and the usage is found."""
    payloads = [ROLE, *(content(text, spaced=spaced) for text in texts), FINISH, USAGE % 7, "[DONE]"]
    whole = stream(payloads, newline)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    answer = heard([piece for piece in pieces if piece])
    expected = sum(text not in {'""', "null"} for text in texts)

    assert answer.close(200) == 0
    assert answer.chunks == expected
    assert len(answer.gaps) == max(0, expected - 1)
    assert sum(answer.gaps) == (answer.last - answer.first if expected else 0)
    assert (answer.prompt, answer.output) == (9, 7)


@given(texts=TEXTS)
def test_events_read_one_by_one_are_timed_one_by_one(texts: list[str]) -> None:
    """The first and last content are those of the reads that brought them."""
    answer = heard([stream([payload]) for payload in [ROLE, *map(content, texts), FINISH, "[DONE]"]])
    places = [place for place, text in enumerate(texts, 2) if text not in {'""', "null"}]

    assert answer.close(200) == 0
    assert (answer.first, answer.last) == ((places[0], places[-1]) if places else (-1, -1))
    assert answer.gaps == [after - before for before, after in pairwise(places)]


@given(junk=st.binary(max_size=200))
def test_junk_is_never_a_good_answer(junk: bytes) -> None:
    """Bytes that are no stream end as an error by name, whatever they are."""
    answer = heard([junk]) if junk else heard([])

    assert ERRORS[answer.close(200)] in {"malformed_stream", "incomplete", "error_event", "too_large"}


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ('{"choices": [', "malformed_stream"),
        ('{"error": {"message": "no"}}', "error_event"),
        ('{"usage": {"completion_tokens": -4}}', "malformed_stream"),
        ("", "incomplete"),
    ],
)
def test_a_stream_that_breaks_is_named_by_its_first_fault(payload: str, error: str) -> None:
    """What was wrong first is the error, though a good end follows; without an end it is incomplete."""
    rest = [FINISH, "[DONE]"] if payload else []
    answer = heard([stream([content('"a"'), *([payload] if payload else []), *rest])])

    assert ERRORS[answer.close(200)] == error


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning", "content", "refusal"])
def test_all_that_a_model_says_is_content(member: str) -> None:
    """Reasoning counts as the model's first token, as AIPerf has it; a role alone does not."""
    payload = f'{{"choices":[{{"delta":{{"{member}":"hm"}}}}]}}'
    answer = heard([stream([ROLE]), stream([payload]), stream([FINISH, "[DONE]"])])

    assert answer.close(200) == 0
    assert (answer.chunks, answer.first) == (1, 2)


def test_usage_in_the_last_content_event_is_found() -> None:
    """Tokens that stand only beside the last text are read, although such events are not decoded on the way."""
    last = content('"b"').replace(
        '"finish_reason":null}]', '"finish_reason":"stop"}],"usage":{"completion_tokens":2}'
    )
    answer = heard([stream([content('"a"')]), stream([last]), stream(["[DONE]"])])

    assert answer.close(200) == 0
    assert (answer.chunks, answer.output) == (2, 2)
