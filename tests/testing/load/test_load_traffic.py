"""Prompts and bodies: valid in every dialect, of the length asked for, new where salted, equal where shared."""

import msgspec
import numpy as np
import pytest

from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.plan import SECOND, Lengths, Plan, Trace, TrafficSpec, shard
from slipstream.testing.load.target import Target
from slipstream.testing.load.traffic import SALTS, WORDS, Bodies, Prompts, cut, salt


def prompts(spec: TrafficSpec, *, nonce: int = 1, workers: int = 1, number: int = 0) -> Prompts:
    return Prompts(shard(Plan(users=workers, traffic=spec), workers)[number], nonce)


def body(target: Target, spec: TrafficSpec, history: tuple[int, ...] = ()) -> dict[str, object]:
    made = Bodies(target, prompts(spec), spec.bodies).body(3, history)
    return msgspec.json.decode(made, type=dict[str, object])


def same_words(one: str, other: str) -> int:
    pairs = zip(one.split(), other.split(), strict=False)
    return next(place for place, (left, right) in enumerate(pairs) if left != right)


def test_a_salt_writes_each_number_differently() -> None:
    """Four of sixty-four words write every number below their fourth power, each in its own way."""
    assert len(set(WORDS)) == 64
    assert {len(word) for word in WORDS} == {3}
    numbers = {*range(5000), *range(SALTS - 5000, SALTS)}
    assert len({salt(number) for number in numbers}) == len(numbers)


@pytest.mark.parametrize(("start", "words"), [(0, 10), (65_530, 20), (5, 200_000)])
def test_text_is_as_long_as_asked(start: int, words: int) -> None:
    """Text cut from the pool has so many words wherever it begins, also if it is longer than the pool."""
    assert len(cut(start, words).split()) == words


def test_prompts_have_the_words_asked_for() -> None:
    """A made-up prompt has as many words as tokens were asked for, salt and shared prefix included."""
    made = prompts(TrafficSpec(prompt_tokens=Lengths(mean=100), prefix_tokens=40, prefix_groups=3))

    assert {len(made.text(number).split()) for number in range(50)} == {100}


def test_a_prefix_is_shared_in_a_run_and_new_in_the_next() -> None:
    """Prompts of a group begin alike, those of a later run otherwise."""
    spec = TrafficSpec(prompt_tokens=Lengths(mean=100), prefix_tokens=40, prefix_groups=3)
    one, other = (prompts(spec, nonce=nonce) for nonce in (1, 2))
    first = {b" ".join(one.text(number).split()[:40]) for number in range(200)}
    second = {b" ".join(other.text(number).split()[:40]) for number in range(200)}

    assert len(first) == len(second) == 3
    assert not first & second


def test_salted_prompts_are_all_different() -> None:
    """No two prompts of a run are alike, given ones neither, whichever worker sends them, nor of two runs."""
    for spec in (TrafficSpec(), TrafficSpec(prompts=("same",))):
        texts = [
            made.text(number)
            for nonce in (1, 2)
            for worker in (0, 1)
            for made in [prompts(spec, nonce=nonce, workers=2, number=worker)]
            for number in range(100)
        ]
        assert len(set(texts)) == 400


def test_unsalted_prompts_repeat_as_asked() -> None:
    """Without a salt two runs ask the same, and only so many different things as were asked for."""
    spec = TrafficSpec(salted=False, distinct=5)
    one, other = (prompts(spec, nonce=nonce) for nonce in (1, 2))

    assert [one.text(n) for n in range(20)] == [other.text(n) for n in range(20)]
    assert len({one.text(n) for n in range(20)}) == 5


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_completions", "anthropic"])
@pytest.mark.parametrize("streaming", [True, False])
def test_bodies_are_json_of_their_dialect(dialect: str, streaming: bool) -> None:
    """A body holds model, prompt, token limit and streaming as its dialect wants them, and extra fields."""
    target = Target(
        url="http://127.0.0.1:1",
        dialect=dialect,  # type: ignore[arg-type]
        model='a "b"',
        streaming=streaming,
        extra='{"temperature": 0}',
    )
    made = body(target, TrafficSpec(prompts=('say "ä"\n',), salted=False, output_tokens=Lengths(mean=9)))

    assert made["model"] == 'a "b"'
    assert made["max_tokens"] == 9
    assert made["temperature"] == 0
    assert made.get("stream", False) is streaming
    assert ("stream_options" in made) is (streaming and dialect != "anthropic")
    if dialect == "openai_completions":
        assert made["prompt"] == 'say "ä"\n'
    else:
        assert made["messages"] == [{"role": "user", "content": 'say "ä"\n'}]


def test_a_later_turn_sends_the_turns_before_it() -> None:
    """A session's turn repeats its earlier prompts as they were, with answers of the length asked for."""
    spec = TrafficSpec(output_tokens=Lengths(mean=7))
    target = Target(url="http://127.0.0.1:1")
    earlier = body(target, spec)["messages"]
    later = msgspec.json.decode(Bodies(target, prompts(spec), ()).body(8, (3,)))["messages"]

    assert [each["role"] for each in later] == ["user", "assistant", "user"]
    assert later[:1] == earlier
    assert len(later[1]["content"].split()) == 7


WRONG_TARGETS = {
    "extra fields that are no object": {"extra": "temperature=0"},
    "a list of extra fields": {"extra": "[1]"},
    "a line break in a header": {"headers": (("x-a", "1\r\nx-b: 2"),)},
    "a key that HTTP cannot carry": {"key": "ключ"},
    "a line break in the key": {"key": "a\nb"},
    "no scheme": {"url": "127.0.0.1:8000"},
    "a password in the address": {"url": "http://a:b@127.0.0.1:1"},
    "a path with a space": {"url": "http://127.0.0.1:1/a b"},
    "a method that is none": {"dialect": "http", "method": "GET /x"},
}


@pytest.mark.parametrize("fields", WRONG_TARGETS.values(), ids=WRONG_TARGETS)
def test_what_no_request_can_be_made_of_is_refused(fields: dict[str, object]) -> None:
    """A target that cannot be asked is refused where it is named, before anything is sent."""
    with pytest.raises(ConfigurationError):
        Target(**{"url": "http://127.0.0.1:1", **fields})  # type: ignore[arg-type]


def test_recorded_prompts_share_text_where_blocks_are_equal() -> None:
    """Prompts of a trace have its lengths, and the same text as far as their block ids are the same."""
    trace = Trace(
        arrivals_ns=np.arange(3) * SECOND,
        prompt_tokens=np.array([1024, 1000, 600], np.int32),
        output_tokens=np.array([4, 5, 6], np.int32),
        blocks=np.array([1, 2, 1, 3, 4, 5]),
        block_offsets=np.array([0, 2, 4, 6]),
    )
    part = shard(Plan(loop="trace", trace=trace), 1)[0]
    made = Prompts(part, nonce=9)
    texts = [made.text(number).decode() for number in range(3)]
    common = [same_words(texts[0], texts[other]) for other in (1, 2)]

    assert [len(text.split()) for text in texts] == [1024, 1000, 600]
    assert [made.output_tokens(number) for number in range(3)] == [4, 5, 6]
    assert 512 <= common[0] < 520
    assert common[1] < 8


@pytest.mark.parametrize(
    ("url", "dialect", "path"),
    [
        ("http://h:1", "openai_chat", "/v1/chat/completions"),
        ("http://h:1/v1/", "openai_chat", "/v1/chat/completions"),
        ("http://h:1/x/v1/chat/completions", "openai_chat", "/x/v1/chat/completions"),
        ("http://h:1/x", "openai_completions", "/x/v1/completions"),
        ("http://h:1", "anthropic", "/v1/messages"),
        ("http://h:1/a?b=c", "http", "/a?b=c"),
        ("http://h:1", "http", "/"),
    ],
)
def test_a_url_may_be_a_base_or_the_route(url: str, dialect: str, path: str) -> None:
    """Whatever part of the address is given, the dialect's route is asked for."""
    assert Target(url=url, dialect=dialect).path == path  # type: ignore[arg-type]


def test_only_named_hosts_are_targets() -> None:
    """Loopback may be asked, another host only if it was named."""
    Target(url="http://127.0.0.9:1").check_allowed(())
    Target(url="http://[::1]:1").check_allowed(())
    Target(url="http://example.com").check_allowed(("example.com",))
    with pytest.raises(ConfigurationError, match="was not named"):
        Target(url="http://example.com").check_allowed(("example.org",))
