"""From llama.cpp's events to OpenAI's."""

import json

import pytest

from slipstream.core.chat import Route
from slipstream.core.errors import BadRequest, SlipstreamError, Unavailable, UpstreamFailed
from slipstream.models.local_events import Assembly, ChildError, Translator, failure, read
from slipstream.net.sse import data_of


def event(**fields: object) -> bytes:
    return json.dumps({"id": "chatcmpl-1", "created": 5, "model": "/secret/path.gguf", **fields}).encode()


def delta(**fields: object) -> bytes:
    return event(choices=[{"index": 0, "delta": fields, "finish_reason": None}])


def test_what_is_llama_cpp_own_does_not_get_out() -> None:
    """The model's path is replaced by its public name."""
    out = Translator(Route.CHAT, "public").events(read(delta(content="Hi")))
    assert json.loads(data_of(out[0])) == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 5,
        "model": "public",
        "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None, "logprobs": None}],
    }


def test_progress_is_not_passed_on() -> None:
    """Events about the prompt's evaluation are for us."""
    progress = event(
        choices=[{"index": 0, "delta": {"role": "assistant"}}], prompt_progress={"total": 9, "processed": 3}
    )
    assert Translator(Route.CHAT, "m").events(read(progress)) == []


def test_usage_is_an_event_of_its_own() -> None:
    """Also where llama.cpp puts it beside the last choice, so that it can be dropped whole."""
    both = event(
        choices=[{"text": "", "finish_reason": "stop"}], usage={"prompt_tokens": 1}, timings={"prompt_n": 1}
    )
    first, second = (
        json.loads(data_of(one)) for one in Translator(Route.COMPLETIONS, "m").events(read(both))
    )
    assert (first["choices"][0]["finish_reason"], "usage" in first, first["id"]) == ("stop", False, "cmpl-1")
    assert (second["choices"], second["usage"]["prompt_tokens"], second["timings"]["prompt_n"]) == ([], 1, 1)


def test_tool_calls_are_put_together() -> None:
    """Pieces of a call are joined by index; a message with calls and no text has null content."""
    assembly = Assembly(Route.CHAT, "m")
    for piece in (
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}},
        {"index": 1, "id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 0, "function": {"arguments": ":1}"}},
    ):
        assembly.add(read(delta(tool_calls=[piece])))
    assembly.add(read(event(choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])))
    choice = json.loads(assembly.body())["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
            {"id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}},
        ],
    }


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"choices":3}', b"[" * 100_000])
def test_what_is_no_event_is_a_typed_error(data: bytes) -> None:
    """Garbage from the child is its failure, not ours."""
    with pytest.raises(UpstreamFailed):
        read(data)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (ChildError(400, "too long", "exceed_context_size_error"), BadRequest, "context_length_exceeded"),
        (ChildError(400, "bad schema", "invalid_request_error"), BadRequest, "bad_request"),
        (ChildError(503, "loading", "unavailable_error"), Unavailable, "model_loading"),
        (ChildError(500, "oops", "server_error"), UpstreamFailed, "local_model_error"),
    ],
)
def test_errors_of_the_child_are_typed(error: ChildError, kind: type[SlipstreamError], code: str) -> None:
    """Each says who must act; inside a stream as well as instead of one."""
    assert (type(failure(error)), failure(error).code) == (kind, code)
    with pytest.raises(kind):
        read(
            json.dumps({"error": {"code": error.code, "message": error.message, "type": error.type}}).encode()
        )
