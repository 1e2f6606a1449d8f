"""What is read out of an answer while it arrives: first and last content, chunks, tokens, how it ended.

An answer is fed by the HTTP parser. Of a stream, an event that begins like the content event before it is
content too and is not decoded; all others are. Everything is bounded by the caller's limits.
"""

import re
from typing import Annotated

import httptools
import msgspec
from msgspec import Meta, Raw, Struct

from slipstream.core.errors import UpstreamFailed
from slipstream.net.sse import EventSplitter, data_of
from slipstream.testing.load.samples import ERRORS, NEVER
from slipstream.testing.load.target import Dialect

EVENT_BYTES_MAX = 4 * 1024 * 1024

OK = 0
MALFORMED = ERRORS.index("malformed")
MALFORMED_STREAM = ERRORS.index("malformed_stream")
INCOMPLETE = ERRORS.index("incomplete")
ERROR_EVENT = ERRORS.index("error_event")
TOO_LARGE = ERRORS.index("too_large")
_BY_STATUS = {code: ERRORS.index(f"http_{code}") for code in (401, 403, 429)}
_BY_HUNDRED = {hundred: ERRORS.index(f"http_{hundred}xx") for hundred in (3, 4, 5)}

CONTENT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|text|thinking|arguments|partial_json|refusal)"\s*:\s*"(?!")'
)
"""A member with text of the model in it. A quote inside JSON text is escaped, so that text cannot look so."""

_OPENERS = (b"data: ", b"event: content_block_delta")


Count = Annotated[int, Meta(ge=0, lt=2**31)]


class _Details(Struct):
    cached_tokens: Count | None = None


class _Usage(Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    prompt_tokens_details: _Details | None = None
    cache_read_input_tokens: Count | None = None


class _Choice(Struct):
    finish_reason: str | None = None


class _Message(Struct):
    usage: _Usage | None = None


_NO_ERROR = Raw(b"")


class _Answer(Struct):
    """What matters of an answer, or of an event of a stream, in any dialect."""

    usage: _Usage | None = None
    error: Raw = _NO_ERROR
    choices: list[_Choice] = []
    message: _Message | None = None
    type: str | None = None

    @property
    def is_error(self) -> bool:
        return self.type == "error" or (self.error is not _NO_ERROR and bytes(self.error) != b"null")


_decode = msgspec.json.Decoder(_Answer).decode


def verdict_of_status(status: int) -> int:
    """The index of the error that an HTTP status is; 0 for a good one."""
    if 200 <= status < 300:
        return OK
    return _BY_STATUS.get(status) or _BY_HUNDRED.get(status // 100, MALFORMED)


class Answer:
    """Any answer over HTTP, byte by byte: its first content is the first of its body, each piece a chunk."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.is_last = False
        self.now = 0
        self.begin()

    def begin(self) -> None:
        """The next answer will come."""
        self.first_byte = self.first = self.last = NEVER
        self.chunks = 0
        self.received = 0
        self.prompt = self.output = self.cached = NEVER
        self.gaps: list[int] = []
        self.is_complete = False
        self.is_in_body = False
        self.error = OK

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.is_in_body = True

    def on_body(self, body: bytes) -> None:
        """Called by the parser with a piece of the body."""
        self.content()

    def on_message_complete(self) -> None:
        """Called by the parser when the answer is whole: only now it knows whether the connection stays."""
        self.is_complete = True
        self.is_last = not self.parser.should_keep_alive()

    def content(self) -> None:
        """A chunk with content is there."""
        now = self.now
        if self.chunks:
            self.gaps.append(now - self.last)
        else:
            self.first = now
        self.last = now
        self.chunks += 1

    def close(self, status: int) -> int:
        """The index of how an answer ended that is whole as HTTP."""
        return verdict_of_status(status) or self.error

    def take_usage(self, usage: _Usage | None) -> None:
        """Remember the tokens that the server reports; what it says later counts."""
        if usage is None:
            return
        details = usage.prompt_tokens_details
        prompt = usage.prompt_tokens if usage.input_tokens is None else usage.input_tokens
        output = usage.completion_tokens if usage.output_tokens is None else usage.output_tokens
        cached = usage.cache_read_input_tokens if details is None else details.cached_tokens
        if prompt is not None:
            self.prompt = prompt
        if output is not None:
            self.output = output
        if cached is not None:
            self.cached = cached


class WholeAnswer(Answer):
    """A JSON answer that is not streamed: its content is there when it is whole."""

    def begin(self) -> None:
        """The next answer will come."""
        super().begin()
        self._pieces: list[bytes] = []

    def on_body(self, body: bytes) -> None:
        """A piece of it."""
        self._pieces.append(body)

    def close(self, status: int) -> int:
        """Decode it: the tokens that were used, and an error in disguise."""
        self.content()
        error = verdict_of_status(status)
        if error:
            return error
        pieces = self._pieces
        try:
            answer = _decode(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return MALFORMED
        self.take_usage(answer.usage)
        return ERROR_EVENT if answer.is_error else OK


class StreamAnswer(Answer):
    """Server-sent events of OpenAI's or Anthropic's dialect."""

    def begin(self) -> None:
        """The next answer will come."""
        super().begin()
        self._splitter = EventSplitter(EVENT_BYTES_MAX)
        self._is_split = False
        self._prefix = b"\0"  # nothing begins so
        self._place = 0
        self._last_event = b""
        self._is_ended = False

    def on_body(self, body: bytes) -> None:
        """Some of the stream; mostly one event."""
        if not self._is_split:
            if body.startswith(self._prefix) and body.find(b"\n\n") == len(body) - 2:
                self._like_the_last(body)
                return
            if body.endswith(b"\n\n") and b"\r" not in body:
                for event in body[:-2].split(b"\n\n"):
                    self._event(event + b"\n\n")
                return
        try:
            for event in self._splitter.feed(body):
                self._event(event)
            self._is_split = bool(self._splitter.rest())
        except UpstreamFailed:
            self.error = TOO_LARGE

    def _event(self, event: bytes) -> None:
        if event.startswith(self._prefix):
            self._like_the_last(event)
        else:
            self._other(event)

    def _like_the_last(self, event: bytes) -> None:
        """An event that begins as a content event up to its text."""
        if event[self._place] == 34 or not event.endswith(b"}\n\n"):  # a quote: empty text
            self._other(event)
            return
        self._last_event = event
        now = self.now
        self.gaps.append(now - self.last)
        self.last = now
        self.chunks += 1

    def _other(self, event: bytes) -> None:
        payload = data_of(event)
        if not payload:
            return  # a comment keeps the connection alive
        if payload == b"[DONE]":
            self._is_ended = True
            return
        try:
            answer = _decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.error = self.error or MALFORMED_STREAM
            return
        if answer.is_error:
            self.error = self.error or ERROR_EVENT
            return
        self.take_usage(answer.usage)
        if answer.message is not None:
            self.take_usage(answer.message.usage)
        if answer.type == "message_stop" or any(choice.finish_reason for choice in answer.choices):
            self._is_ended = True
        match = CONTENT.search(event)
        if match is not None:
            self.content()
            self._last_event = event
            if event.startswith(_OPENERS):
                self._prefix, self._place = event[: match.end()], match.end()

    def close(self, status: int) -> int:
        """Whether the stream said that it is over; the tokens, where they stand in its last event only."""
        error = verdict_of_status(status)
        if error:
            return error
        if self._is_split and not self.error:
            self._finish_rest()
        if self.output < 0 and b'"usage"' in self._last_event:
            self._other_usage()
        return self.error or (OK if self._is_ended else self._unended())

    def _finish_rest(self) -> None:
        """Some servers leave out the empty line after the last event."""
        rest = self._splitter.rest()
        if rest.strip():
            self._event(rest.rstrip() + b"\n\n")

    def _other_usage(self) -> None:
        try:
            answer = _decode(data_of(self._last_event))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.error = MALFORMED_STREAM
            return
        self.take_usage(answer.usage)
        if any(choice.finish_reason for choice in answer.choices):
            self._is_ended = True

    def _unended(self) -> int:
        """Without an end: cut off, or no stream of events at all."""
        if b'"finish_reason"' in self._last_event:
            self._other_usage()
            if self._is_ended:
                return self.error
        return INCOMPLETE if self.chunks else MALFORMED_STREAM


def answer_for(dialect: Dialect, *, streaming: bool) -> Answer:
    """A reader of answers of a dialect."""
    if dialect == "http":
        return Answer()
    return StreamAnswer() if streaming else WholeAnswer()
