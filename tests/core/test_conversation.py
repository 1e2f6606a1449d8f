"""What two requests of one conversation have in common."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.chat import Route, parse
from slipstream.core.conversation import PREFIX_BYTES, conversation_of

SYSTEM = {"role": "system", "content": 'You are ünder test, "quoted" and ] bracketed.'}
QUESTION = {"role": "user", "content": "What is 6 × 7?"}


def of(messages: list[object], tenant: str = "t", **more: object) -> int | None:
    body = msgspec.json.encode({"model": "m", "messages": messages, **more})
    return conversation_of(parse(Route.CHAT, body), tenant)


@pytest.mark.parametrize("opening", [[QUESTION], [SYSTEM, QUESTION]])
def test_all_turns_share_it(opening: list[object]) -> None:
    """The second and the tenth turn say the same as the first, whatever else the request says."""
    turns = [*opening, {"role": "assistant", "content": "42"}, {"role": "user", "content": "Sure?"}]

    assert of(opening) == of(turns) == of(turns * 10, temperature=1.5)


def test_another_conversation_is_another() -> None:
    """Another question, system prompt or tenant."""
    base = of([SYSTEM, QUESTION])
    others = [of([QUESTION]), of([SYSTEM, SYSTEM, QUESTION]), of([SYSTEM, QUESTION], "other")]

    assert len({base, *others}) == 4


def test_spaces_between_messages_do_not_matter_to_reading() -> None:
    """A body that is written with spaces and newlines is read as well."""
    opening = json.dumps([SYSTEM, QUESTION], indent=1)
    longer = json.dumps([SYSTEM, QUESTION, QUESTION], indent=1)
    first, second = (
        conversation_of(parse(Route.CHAT, b'{"messages": ' + text.encode() + b"}"), "t")
        for text in (opening, longer)
    )

    assert first == second


def test_a_very_long_beginning_is_cut() -> None:
    """Beyond a bound only the first bytes count: they stay the same while a conversation grows."""
    long = {"role": "system", "content": "x" * (2 * PREFIX_BYTES)}

    assert of([long, QUESTION]) == of([long, QUESTION, QUESTION])


@pytest.mark.parametrize("content", ["9" * 5000, "[" * 900 + "]" * 900])
def test_odd_numbers_and_depths_do_no_harm(content: str) -> None:
    """What the standard library refuses to read is hashed as it is."""
    raw = f'{{"messages":[{{"role":"user","content":{content}}}]}}'.encode()
    assert isinstance(conversation_of(parse(Route.CHAT, raw), "t"), int)


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=6))
def test_any_messages_have_one(messages: list[object]) -> None:
    """It never fails, and is the same each time."""
    assert isinstance(of(messages), int)
    assert of(messages) == of(messages)


def test_embeddings_have_none_and_completions_their_prompt() -> None:
    """Only what grows turn by turn is a conversation."""
    embeddings = parse(Route.EMBEDDINGS, b'{"input":"x"}')
    short, longer = (
        parse(Route.COMPLETIONS, msgspec.json.encode({"prompt": "a" * 2000 + more}))
        for more in ("", "b" * 500)
    )

    assert conversation_of(embeddings, "t") is None
    assert conversation_of(short, "t") == conversation_of(longer, "t")
