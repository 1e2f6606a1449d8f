"""What can be seen of an answer as it passes: first token, gaps, usage, how it ended. Pure, no waiting."""

import msgspec

from slipstream.core.chat import ChatRequest
from slipstream.core.errors import UpstreamFailed
from slipstream.core.ports import Chunk, Head
from slipstream.core.record import Record
from slipstream.net.sse import data_of

DECODED_BYTES_MAX = 1024 * 1024
"""A larger unstreamed answer is not decoded for its usage: embeddings by the thousand."""

GAPS_MAX = 512
"""Gaps kept for the percentile; beyond it every second one is dropped and every second one kept."""

TOKENS_MAX = 10**9
"""No request has more; a usage beyond it is an upstream's mistake."""

DONE = b"data: [DONE]\n\n"

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a stranger's JSON raises: msgspec passes on what Python says to text that is not UTF-8."""

_ABSENT = msgspec.Raw(b"null")


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: msgspec.Raw = _ABSENT
    refusal: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: msgspec.Raw = _ABSENT


_EVENT = msgspec.json.Decoder(_Event)


class Observer:
    """Watches one answer and writes what it sees to the record.

    Attributes:
        is_over: a stream has said its last word, `[DONE]` or an error; how it ends matters to nobody then.

    `see` returns the chunk that is to be passed on (without the usage event, where the caller did not
    ask for it). `end` is called when the body is over and promotes the outcome.
    """

    def __init__(self, request: ChatRequest, record: Record) -> None:
        self.is_over = False
        self._record = record
        self._wants_usage = request.include_usage
        self._streamed = False
        self._failed_status = 0
        self._body = bytearray()
        self._last_ns = 0
        self._gaps: list[int] = []
        self._gap_sum = self._gap_count = self._gap_max = 0
        self._gap_stride = 1
        self._tokens = 0

    def begin(self, head: Head) -> None:
        """Take down the head."""
        self._streamed = head.streamed
        self._record.status = head.status
        self._failed_status = head.status if head.status >= 400 else 0

    def see(self, chunk: Chunk) -> Chunk | None:
        """Look at a chunk; what is to be passed on, None if nothing of it is."""
        record = self._record
        now_ns = chunk.arrived_ns - record.origin_ns
        if record.first_byte_ns is None:
            record.first_byte_ns = now_ns
        record.chunks += 1
        if not self._streamed:
            if len(self._body) <= DECODED_BYTES_MAX:
                for piece in chunk.events:
                    self._body += piece
            return chunk
        kept = [event for event in chunk.events if self._keep(event, now_ns)]
        if len(kept) == len(chunk.events):
            return chunk
        return Chunk(tuple(kept), chunk.arrived_ns) if kept else None

    def end(self) -> bytes:
        """The body is over. Returns what has to be added to it (a missing `[DONE]`).

        Raises `UpstreamFailed` for a stream that ended without saying that it was finished.
        """
        record = self._record
        added = b""
        if self._streamed and not self.is_over:
            if not record.finish_reason:
                raise UpstreamFailed(
                    "The model's stream ended before it was finished.",
                    code="upstream_broke",
                    hint="Try again.",
                )
            added = DONE
        if not self._streamed:
            self._read_body()
        if self._failed_status:
            record.outcome = "failed" if self._failed_status >= 500 else "refused"
            record.error_type = record.error_type or "upstream_error"
        else:
            record.outcome = "served"
        self.settle()
        return added

    def settle(self) -> None:
        """Write down the sums; also for an answer that broke or was left."""
        record = self._record
        if self._gap_count:
            ordered = sorted(self._gaps)
            record.chunk_gap_mean_ns = self._gap_sum // self._gap_count
            record.chunk_gap_p95_ns = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
            record.chunk_gap_max_ns = self._gap_max
        if record.output_tokens is None and self._tokens:
            record.output_tokens = self._tokens
            record.tokens_estimated = True

    def _keep(self, event: bytes, now_ns: int) -> bool:
        """Read one server-sent event; whether the caller is to see it."""
        record = self._record
        if record.first_token_ns is not None and event.startswith(b"data: {") and not _interesting(event):
            self._token(now_ns)  # nearly always: one more token, known without taking the event apart
            return True
        data = data_of(event)
        if data == b"[DONE]":
            self.is_over = True
            if not self._failed_status:
                record.outcome = "served"  # before it is passed on: whoever leaves after it was served
            return True
        if not data:
            return True
        try:
            seen = _EVENT.decode(data)
        except UNREADABLE:
            return True  # not for us to judge: the caller's own parser may know this event
        if seen.error != _ABSENT:
            self.is_over = True
            self._failed_status = 502
            record.error_type = "upstream_error"
        if any(_has_token(choice) for choice in seen.choices):
            self._token(now_ns)
        for choice in seen.choices:
            if choice.finish_reason:
                record.finish_reason = choice.finish_reason[:64]
        if seen.usage is not None:
            self._usage(seen.usage)
            return self._wants_usage or bool(seen.choices)
        return True

    def _token(self, now_ns: int) -> None:
        record = self._record
        self._tokens += 1
        gap_ns = now_ns - self._last_ns
        record.last_token_ns = self._last_ns = now_ns
        if record.first_token_ns is None:
            record.first_token_ns = now_ns
            return
        self._gap_count += 1
        self._gap_sum += gap_ns
        self._gap_max = max(self._gap_max, gap_ns)
        if self._gap_count % self._gap_stride == 0:
            self._gaps.append(gap_ns)
            if len(self._gaps) > GAPS_MAX:
                self._gaps = self._gaps[::2]
                self._gap_stride *= 2

    def _usage(self, usage: _Usage) -> None:
        record = self._record
        record.prompt_tokens = _credible(usage.prompt_tokens)
        record.output_tokens = _credible(usage.completion_tokens)
        if usage.prompt_tokens_details is not None:
            record.cached_tokens = _credible(usage.prompt_tokens_details.cached_tokens)

    def _read_body(self) -> None:
        if not 0 < len(self._body) <= DECODED_BYTES_MAX:
            return
        try:
            seen = _EVENT.decode(self._body)
        except UNREADABLE:
            return
        if seen.usage is not None:
            self._usage(seen.usage)
        for choice in seen.choices:
            if choice.finish_reason:
                self._record.finish_reason = choice.finish_reason[:64]


def _credible(tokens: int | None) -> int | None:
    """A number of tokens; None for one that cannot be, so that they are counted instead."""
    return tokens if tokens is not None and 0 <= tokens <= TOKENS_MAX else None


def _interesting(event: bytes) -> bool:
    """Whether an event may say more than one token: usage, an error, or how it finished."""
    return (
        b'"finish_reason":"' in event
        or b'"finish_reason": "' in event
        or b'"error"' in event
        or (b'"usage"' in event and b'"usage":null' not in event and b'"usage": null' not in event)
    )


def _has_token(choice: _Choice) -> bool:
    delta = choice.delta
    if delta is None:
        return bool(choice.text)
    return bool(delta.content or delta.reasoning_content or delta.refusal or delta.tool_calls != _ABSENT)
