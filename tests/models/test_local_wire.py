"""The allow-list between a caller's JSON and llama.cpp."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.config.settings import Local
from slipstream.core.chat import Route, parse
from slipstream.core.errors import BadRequest
from slipstream.core.record import Record
from slipstream.models.local_wire import order

SETTINGS = Local(system_prompt="Be brief.", temperature=0.25, output_tokens=100, context_tokens=512)
QUESTION = [{"role": "user", "content": "Hi"}]
ALLOWED = {
    "messages",
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "logit_bias",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "logprobs",
    "top_logprobs",
    "stream",
    "stream_options",
    "return_progress",
}
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text()
JSON = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def ordered(
    route: Route = Route.CHAT, *, settings: Local = SETTINGS, record: Record | None = None, **fields: object
):
    if route is Route.CHAT:
        fields.setdefault("messages", QUESTION)
    body = json.dumps(fields).encode()
    return msgspec.json.decode(order(parse(route, body), settings, record or Record()))


@given(
    st.dictionaries(
        st.sampled_from(sorted(ALLOWED | {"n_discard", "grammar", "n", "x"})) | st.text(), JSON, max_size=6
    )
)
def test_nothing_but_allowed_fields_in_range_gets_through(fields: dict[str, object]) -> None:
    """Whatever a caller sends: refused with 400, or what llama.cpp gets is of the list and in its ranges."""
    fields["messages"] = QUESTION
    try:
        request = parse(Route.CHAT, json.dumps(fields).encode())
        sent = msgspec.json.decode(order(request, SETTINGS, Record()))
    except BadRequest:
        return
    assert set(sent) <= ALLOWED - {"prompt"}
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}
    assert 0 <= sent["temperature"] <= 2
    assert 1 <= sent["max_tokens"] <= SETTINGS.context_tokens
    assert 0 <= sent.get("seed", 0) < 2**32 - 1
    assert 0 <= sent.get("top_p", 0) <= 1
    assert 0 <= sent.get("top_k", 0) <= 1_000_000
    assert all(math.isfinite(bias) and abs(bias) <= 100 for bias in sent.get("logit_bias", {}).values())


@pytest.mark.parametrize(
    "name", ["n_discard", "n_keep", "grammar", "id_slot", "cache_prompt", "samplers", "lora", "ignore_eos"]
)
def test_llama_cpp_own_fields_are_dropped(name: str) -> None:
    """A field that is not on the list never reaches the child."""
    assert name not in ordered(**{name: -1})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"n": 2}, "n"),
        ({"seed": 1.5}, "seed"),
        ({"stop": [""]}, "stop[...]"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": {"type": "function", "function": {"name": "absent"}}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, object], param: str) -> None:
    """Wrong types and ranges are refused with 400 and the name of the field."""
    with pytest.raises(BadRequest) as caught:
        ordered(**fields)
    wanted = param.split("[", 1)[0]
    assert (caught.value.status, (caught.value.param or "").split("[", 1)[0].split(".", 1)[0]) == (
        400,
        wanted.split(".")[0],
    )
    assert wanted in caught.value.message


def test_defaults_are_filled_in_and_noted() -> None:
    """A request without system prompt and temperature gets ours, and the record says so."""
    record = Record()
    sent = ordered(record=record)
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (sent["temperature"], sent["max_tokens"]) == (0.25, 100)
    assert (record.default_system_prompt, record.default_temperature) == (True, True)


def test_what_the_request_says_wins() -> None:
    """Its own system prompt, temperature and bound stay; `developer` is the system role's new name."""
    record = Record()
    messages = [{"role": "developer", "content": "Rhyme."}, *QUESTION]
    sent = ordered(record=record, messages=messages, temperature=0, max_completion_tokens=7, max_tokens=9)
    assert sent["messages"][0] == {"role": "system", "content": "Rhyme."}
    assert (sent["temperature"], sent["max_tokens"]) == (0, 7)
    assert (record.default_system_prompt, record.default_temperature) == (False, False)


TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("a", "b")
]


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_tools_are_offered(choice: str | None) -> None:
    """Tools go to the model as they are, with the choice left to it."""
    sent = ordered(tools=TOOLS, tool_choice=choice)
    assert (sent["tools"], sent.get("tool_choice")) == (TOOLS, choice)


@pytest.mark.parametrize("tools", [TOOLS, None])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "b"}}])
def test_a_call_cannot_be_required(choice: object, tools: object) -> None:
    """What would be answered in plain text all the same is refused, with what works instead."""
    with pytest.raises(BadRequest) as refused:
        ordered(tools=tools, tool_choice=choice)
    assert (refused.value.param, refused.value.code) == ("tool_choice", "unsupported_value")
    assert "json_schema" in refused.value.hint


def test_nulls_count_as_absent() -> None:
    """Clients send null for what they leave open."""
    assert ordered(stop=None, seed=None, top_p=None, tools=None) == ordered()


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ["a", "b"]},
        {"prompt": [1, 2]},
        {"prompt": "a", "echo": True},
        {"prompt": "a", "suffix": "b"},
    ],
)
def test_a_completion_has_one_prompt_of_text(fields: dict[str, object]) -> None:
    """Several prompts, token ids, echo and suffix are refused instead of silently answered otherwise."""
    with pytest.raises(BadRequest):
        ordered(Route.COMPLETIONS, **fields)


def test_a_completion_takes_one_prompt_in_either_form() -> None:
    """Text, or a list of one text."""
    assert (
        ordered(Route.COMPLETIONS, prompt=["a"])["prompt"]
        == ordered(Route.COMPLETIONS, prompt="a")["prompt"]
        == "a"
    )


def test_a_body_far_beyond_the_context_is_refused_undecoded() -> None:
    """Megabytes of prompt never reach the tokenizer."""
    with pytest.raises(BadRequest) as caught:
        ordered(messages=[{"role": "user", "content": "x" * 1_000_000}])
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 1.1),
        ({"repeat_penalty": 1.3}, 1.3),
        ({"frequency_penalty": 0.5}, None),
        ({"response_format": {"type": "json_object"}}, None),
    ],
)
def test_repetition_is_discouraged_unless_something_is_said_of_it(
    fields: dict[str, object], expected: float | None
) -> None:
    """A small model at temperature 0 repeats itself for ever; what the request says goes before."""
    body = msgspec.json.encode({"messages": [{"role": "user", "content": "hi"}], **fields})
    record = Record()
    ordered = msgspec.json.decode(order(parse(Route.CHAT, body), Local(), record))
    assert ordered.get("repeat_penalty") == expected
    assert record.default_repeat_penalty is (expected == 1.1)
