"""From llama.cpp's stream to OpenAI's: each event re-made from typed fields, or all of them put together.

What llama.cpp adds for itself (paths, progress) does not get out; its `timings` do. It knows no connection.
"""

import msgspec
from msgspec import Struct

from slipstream.core.chat import Route
from slipstream.core.errors import BadRequest, SlipstreamError, Unavailable, UpstreamFailed
from slipstream.models.local_wire import too_long

DONE = b"data: [DONE]\n\n"


class FunctionDelta(Struct, omit_defaults=True):
    """A piece of a function call."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Struct, omit_defaults=True):
    """A piece of a tool call; pieces of one `index` belong together."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None


class Delta(Struct, omit_defaults=True):
    """What an event adds to a chat answer."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class TopLogprob(Struct):
    """A token that might have been drawn, and its log-probability."""

    token: str
    logprob: float


class TokenLogprob(Struct):
    """A token that was drawn."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class Logprobs(Struct):
    """Log-probabilities of the tokens of one event."""

    content: list[TokenLogprob] = []


class Choice(Struct):
    """The one choice of an event."""

    finish_reason: str | None = None
    delta: Delta | None = None
    text: str | None = None
    logprobs: Logprobs | None = None


class Timings(Struct):
    """What llama.cpp measured of a request. Times in milliseconds."""

    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0


class PromptDetails(Struct):
    """Of the prompt's tokens."""

    cached_tokens: int = 0


class Usage(Struct):
    """Tokens of a request."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None


class Progress(Struct):
    """How much of the prompt was evaluated; of interest only by being there."""


class ChildError(Struct):
    """An error as llama.cpp words it."""

    code: int = 500
    message: str = ""
    type: str = ""


class Event(Struct):
    """One event of llama.cpp's stream."""

    id: str = ""
    created: int = 0
    choices: list[Choice] = []
    usage: Usage | None = None
    timings: Timings | None = None
    error: ChildError | None = None
    prompt_progress: Progress | None = None


class ErrorBody(Struct):
    """The body of an answer that is an error."""

    error: ChildError


_EVENT = msgspec.json.Decoder(Event)
_ERROR = msgspec.json.Decoder(ErrorBody)


def read(data: bytes) -> Event:
    """Decode one event's data. Raises `UpstreamFailed` for what is no event, and for an error event."""
    try:
        event = _EVENT.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        raise UpstreamFailed(
            "The embedded model sent something that is no event.", code="local_model_broke"
        ) from None
    if event.error is not None:
        raise failure(event.error)
    if event.prompt_progress is not None:  # its choice repeats the role, and would pass for the first token
        event.choices = []
    return event


def read_error(body: bytes) -> ChildError:
    """The error of an answer; one without words where the body is none."""
    try:
        return _ERROR.decode(body).error
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return ChildError()


def failure(error: ChildError) -> SlipstreamError:
    """What an error of llama.cpp means to whoever must act."""
    words = error.message[:500] or "no reason given"
    if error.type == "exceed_context_size_error":
        return too_long(f"The prompt does not fit: {words}.")
    if error.code == 503:
        return Unavailable(
            "The embedded model is still loading.", code="model_loading", retry_after_seconds=1.0
        )
    if error.code in (400, 413, 422):
        return BadRequest(
            f"The embedded model refused the request: {words}.",
            hint="Change what it names, or leave it out.",
        )
    return UpstreamFailed(f"The embedded model failed: {words}", code="local_model_error")


class ChunkChoice(Struct):
    """The choice of a streamed chat event, as OpenAI has it."""

    delta: Delta
    finish_reason: str | None
    logprobs: Logprobs | None
    index: int = 0


class TextChoice(Struct):
    """The choice of a completion, streamed or not."""

    text: str
    finish_reason: str | None
    logprobs: "LegacyLogprobs | None"
    index: int = 0


class LegacyLogprobs(Struct):
    """Log-probabilities in the form that the completions API has."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class Message(Struct, omit_defaults=True):
    """A whole chat answer."""

    role: str
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    refusal: str | None = None


class MessageChoice(Struct):
    """The choice of a whole chat answer."""

    message: Message
    finish_reason: str | None
    logprobs: Logprobs | None
    index: int = 0


class Answer(Struct, omit_defaults=True):
    """The envelope of everything that goes out."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChunkChoice] | list[TextChoice] | list[MessageChoice]
    usage: Usage | None = None
    timings: Timings | None = None


class Translator:
    """Re-makes the events of one answer. `model` is the public name."""

    def __init__(self, route: Route, model: str) -> None:
        self._chat = route is Route.CHAT
        self._model = model
        self._offset = 0

    def events(self, event: Event) -> list[bytes]:
        """What goes out for one event: none for mere progress; usage always as an event of its own."""
        made = [self._choice(choice) for choice in event.choices]
        answers = [self._answer(event, [one]) for one in made]
        if event.usage is not None:
            answers.append(self._answer(event, [], usage=event.usage))
        return [b"data: %b\n\n" % msgspec.json.encode(answer) for answer in answers]

    def _choice(self, choice: Choice) -> ChunkChoice | TextChoice:
        if self._chat:
            return ChunkChoice(choice.delta or Delta(), choice.finish_reason, choice.logprobs)
        text = choice.text or ""
        made = TextChoice(text, choice.finish_reason, legacy(choice.logprobs, self._offset))
        self._offset += len(text)
        return made

    def _answer(
        self, event: Event, choices: list[ChunkChoice | TextChoice], *, usage: Usage | None = None
    ) -> Answer:
        return Answer(
            public_id(event.id, chat=self._chat),
            "chat.completion.chunk" if self._chat else "text_completion",
            event.created,
            self._model,
            choices,  # type: ignore[arg-type]  # all of one kind
            usage,
            event.timings if usage is not None else None,
        )


class Assembly:
    """Puts the events of one answer together into the JSON of an answer that was not streamed."""

    def __init__(self, route: Route, model: str) -> None:
        self._chat = route is Route.CHAT
        self._model = model
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, ToolCallDelta] = {}
        self._logprobs: list[TokenLogprob] | None = None
        self._finish: str | None = None
        self._last = Event()
        self._usage: Usage | None = None
        self._timings: Timings | None = None

    def add(self, event: Event) -> None:
        """Take in one event."""
        self._last = event
        self._usage = event.usage or self._usage
        self._timings = event.timings or self._timings
        for choice in event.choices:
            self._finish = choice.finish_reason or self._finish
            if choice.text:
                self._text.append(choice.text)
            if choice.logprobs is not None:
                self._logprobs = (self._logprobs or []) + choice.logprobs.content
            if choice.delta is not None:
                self._add_delta(choice.delta)

    def body(self) -> bytes:
        """The whole answer."""
        logprobs = None if self._logprobs is None else Logprobs(self._logprobs)
        text = "".join(self._text)
        choices: list[MessageChoice] | list[TextChoice]
        if self._chat:
            calls = [self._calls[index] for index in sorted(self._calls)]
            message = Message(
                "assistant",
                text if text or not calls else None,
                reasoning_content="".join(self._reasoning) or None,
                tool_calls=calls or None,
            )
            choices = [MessageChoice(message, self._finish, logprobs)]
        else:
            choices = [TextChoice(text, self._finish, legacy(logprobs, 0))]
        answer = Answer(
            public_id(self._last.id, chat=self._chat),
            "chat.completion" if self._chat else "text_completion",
            self._last.created,
            self._model,
            choices,
            self._usage,
            self._timings,
        )
        return msgspec.json.encode(answer)

    def _add_delta(self, delta: Delta) -> None:
        if delta.content:
            self._text.append(delta.content)
        if delta.reasoning_content:
            self._reasoning.append(delta.reasoning_content)
        for piece in delta.tool_calls or []:
            call = self._calls.setdefault(
                piece.index or 0, ToolCallDelta(type="function", function=FunctionDelta(arguments=""))
            )
            call.id = piece.id or call.id
            if piece.function is not None and call.function is not None:
                call.function.name = piece.function.name or call.function.name
                call.function.arguments = (call.function.arguments or "") + (piece.function.arguments or "")


def public_id(own: str, *, chat: bool) -> str:
    """The answer's id with the prefix of its API."""
    return own if chat else own.replace("chatcmpl-", "cmpl-", 1)


def legacy(logprobs: Logprobs | None, offset: int) -> LegacyLogprobs | None:
    """Log-probabilities in the completions API's form; `offset` is where their text begins."""
    if logprobs is None:
        return None
    found = LegacyLogprobs([], [], [], [])
    for token in logprobs.content:
        found.tokens.append(token.token)
        found.token_logprobs.append(token.logprob)
        found.top_logprobs.append({other.token: other.logprob for other in token.top_logprobs})
        found.text_offset.append(offset)
        offset += len(token.token)
    return found
