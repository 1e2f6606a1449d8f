"""What a request may ask of the embedded model: a typed allow-list with ranges, and the order made of it.

The only way from a caller's JSON into llama.cpp, whose own parameters have had memory errors
(CVE-2026-21869, a negative `n_discard`). Unknown fields are dropped; wrong types and ranges are refused.
"""

import re
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from slipstream.config.settings import Local
from slipstream.core.chat import ChatRequest, Route
from slipstream.core.errors import BadRequest
from slipstream.core.record import Record
from slipstream.core.wording import in_words

BYTES_PER_TOKEN_MAX = 256
"""A body with more bytes than this for each token of context is refused before it is decoded."""
BODY_BYTES_SPARE = 256 * 1024
"""Bytes that a body may have beside that: tools and schemas."""

Text = Annotated[str, Meta(max_length=1024 * 1024)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Stop = Annotated[str, Meta(min_length=1, max_length=256)]
Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]


class TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    """The only kind of content part that a text model takes."""

    text: Text


class FunctionCall(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a tool call asked for."""

    name: Name
    arguments: Text


class ToolCall(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A tool call of an earlier turn."""

    type: Literal["function"]
    id: Annotated[str, Meta(max_length=256)]
    function: FunctionCall


class Message(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart] | None = None
    name: Name | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=128)] | None = None
    tool_call_id: Annotated[str, Meta(max_length=256)] | None = None


class Function(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A function that the model may call."""

    name: Name
    description: Text | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class Tool(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function


class ToolName(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The name of a function."""

    name: Name


class ToolChoice(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One named tool."""

    type: Literal["function"]
    function: ToolName


class JsonSchema(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The schema that an answer must follow."""

    name: Name | None = None
    description: Text | None = None
    schema: dict[str, object] | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The form that an answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Sampling(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What both kinds of requests may say about how the answer is drawn."""

    max_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    min_p: Share | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=16)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=1024)] | None = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None


class Chat(Sampling, frozen=True, omit_defaults=True, kw_only=True):
    """The fields of a chat request that are read."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Tokens | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class Completion(Sampling, frozen=True, omit_defaults=True, kw_only=True):
    """The fields of a completion request that are read."""

    prompt: Text | Annotated[list[Text], Meta(min_length=1, max_length=1)]
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, Meta(ge=1, le=1)] | None = None


T = TypeVar("T")
_CHAT = msgspec.json.Decoder(Chat)
_COMPLETION = msgspec.json.Decoder(Completion)
_PATH = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_RANDOM_SEED = 2**32 - 1
"""llama.cpp takes this seed for "draw one yourself"."""


def order(request: ChatRequest, settings: Local, record: Record) -> bytes:
    """The body that llama.cpp gets for `request`: allowed fields, our defaults, always a stream with usage.

    Notes on the record which defaults were filled in. Raises `BadRequest` that names the field.
    """
    if len(request.body) > settings.context_tokens * BYTES_PER_TOKEN_MAX + BODY_BYTES_SPARE:
        raise too_long(f"The request is far longer than the context of {settings.context_tokens} tokens.")
    if request.route is Route.CHAT:
        chat = _decode(_CHAT, request.body)
        fields = _sampling(chat, settings, record)
        fields |= _conversation(chat, settings, record)
    else:
        completion = _decode(_COMPLETION, request.body)
        _refuse_unsupported(completion)
        fields = _sampling(completion, settings, record)
        fields["prompt"] = completion.prompt if isinstance(completion.prompt, str) else completion.prompt[0]
        fields["logprobs"] = completion.logprobs
    fields["stream"] = True
    fields["stream_options"] = {"include_usage": True}
    fields["return_progress"] = True  # else a left client is noticed only when the whole prompt is evaluated
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def too_long(message: str) -> BadRequest:
    """The error for a prompt that does not fit."""
    return BadRequest(
        message,
        code="context_length_exceeded",
        hint="Shorten it, or raise models.local.context_tokens.",
    )


def _sampling(asked: Sampling, settings: Local, record: Record) -> dict[str, object]:
    record.default_temperature = asked.temperature is None
    penalty, record.default_repeat_penalty = asked.repeat_penalty, False
    limit = asked.max_tokens
    if isinstance(asked, Chat):
        limit = asked.max_completion_tokens or limit
        if _repeats_freely(asked) and settings.repeat_penalty != 1:
            penalty, record.default_repeat_penalty = settings.repeat_penalty, True
    return {
        "max_tokens": min(limit or settings.output_tokens, settings.context_tokens),
        "temperature": settings.temperature if asked.temperature is None else asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "min_p": asked.min_p,
        "seed": None if asked.seed is None else asked.seed % _RANDOM_SEED,
        "stop": asked.stop,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
        "repeat_penalty": penalty,
        "logit_bias": asked.logit_bias,
    }


def _repeats_freely(chat: Chat) -> bool:
    """Whether nothing is said of repetition, and the form of the answer does not itself ask for it."""
    asked = (chat.repeat_penalty, chat.presence_penalty, chat.frequency_penalty, chat.response_format)
    return all(said is None for said in asked)


def _conversation(chat: Chat, settings: Local, record: Record) -> dict[str, object]:
    # Templates know the role that `developer` replaced, not the new name.
    messages = [
        msgspec.structs.replace(message, role="system") if message.role == "developer" else message
        for message in chat.messages
    ]
    record.default_system_prompt = bool(settings.system_prompt) and all(m.role != "system" for m in messages)
    if record.default_system_prompt:
        messages.insert(0, Message(role="system", content=settings.system_prompt))
    tools, choice = _tools(chat)
    return {
        "messages": messages,
        "tools": tools,
        "tool_choice": choice,
        "parallel_tool_calls": chat.parallel_tool_calls if tools else None,
        "response_format": chat.response_format,
        "logprobs": chat.logprobs,
        "top_logprobs": chat.top_logprobs if chat.logprobs else None,
    }


def _tools(chat: Chat) -> tuple[list[Tool] | None, str | None]:
    """Tools are offered, never forced: llama.cpp answers in plain text whatever is required of it."""
    choice = chat.tool_choice
    if choice == "required" or isinstance(choice, ToolChoice):
        raise BadRequest(
            "`tool_choice`: the embedded model cannot be made to call a tool.",
            param="tool_choice",
            code="unsupported_value",
            hint='Send `"tool_choice": "auto"`, or ask for the arguments with a `response_format` of the '
            "type `json_schema`, which it follows.",
        )
    return chat.tools or None, choice if chat.tools else None


def _refuse_unsupported(completion: Completion) -> None:
    """Fields whose silent loss would change what the answer means."""
    for name, given in (("echo", completion.echo), ("suffix", completion.suffix)):
        if given:
            raise BadRequest(
                f"The embedded model does not support `{name}`.", param=name, code="unsupported_value"
            )


SHOWN_MAX = 200
_LIMITS = "The embedded model takes text, one answer and one prompt a request."


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        path = _PATH.search(str(error))
        param = path[1] if path else ""
        what = in_words(error)
        what = what[: what.rindex(path[0])] if path else what
        what, param = what[:SHOWN_MAX], param[:SHOWN_MAX]  # a wrong value is part of the message
        raise BadRequest(
            f"`{param}`: {what}." if param else f"{what}.",
            param=param or None,
            code="invalid_value",
            hint=_LIMITS if param == "n" or "content" in param or param.endswith("prompt") else "",
        ) from None
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"The request body is not valid JSON: {in_words(error)}.", code="invalid_json"
        ) from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.", code="too_deep") from None
