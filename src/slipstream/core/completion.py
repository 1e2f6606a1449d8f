"""What a script gets back: text that also carries what it cost and how long it took."""

from msgspec import Struct

from slipstream.core.record import Record


class Usage(Struct, frozen=True):
    """Tokens of one answer; None where the model did not say."""

    input: int | None
    output: int | None
    cached: int | None
    estimated: bool = False

    @property
    def total(self) -> int | None:
        """Input and output together."""
        return None if self.input is None or self.output is None else self.input + self.output


class Timings(Struct, frozen=True):
    """Where the time of one answer went, in milliseconds; None where it was not seen."""

    total_ms: float
    ttft_ms: float | None
    tokens_per_second: float | None
    steps: dict[str, float]
    """Milliseconds by step of the way."""


class Completion(str):
    """An answer. A plain `str`, with what is known of it beside the text.

    Attributes:
        usage: tokens.
        timings: milliseconds.
        model: the name of the model that answered.
        finish_reason: why it stopped: `stop`, `length`, `tool_calls` …
        request_id: under which its record is kept.
        upstream_request_id: what the upstream calls it, empty where there is none.
    """

    __slots__ = ("finish_reason", "model", "request_id", "timings", "upstream_request_id", "usage")
    usage: Usage
    timings: Timings
    model: str
    finish_reason: str
    request_id: str
    upstream_request_id: str


class Delta(str):
    """A piece of a streamed answer; `arrived_ns` is when it came, on the monotonic clock of this process."""

    __slots__ = ("arrived_ns",)
    arrived_ns: int


def delta(text: str, arrived_ns: int) -> Delta:
    """A piece of text that came at `arrived_ns`."""
    piece = Delta(text)
    piece.arrived_ns = arrived_ns
    return piece


def completion(text: str, record: Record) -> Completion:
    """The answer `text` with what its closed record says."""
    answer = Completion(text)
    answer.usage = Usage(
        record.prompt_tokens, record.output_tokens, record.cached_tokens, record.tokens_estimated
    )
    answer.timings = timings(record)
    answer.model = record.model
    answer.finish_reason = record.finish_reason
    answer.request_id = record.id
    answer.upstream_request_id = ""
    return answer


def timings(record: Record) -> Timings:
    """The timings of a closed record."""
    first, last, tokens = record.first_token_ns, record.last_token_ns, record.output_tokens
    speed = None
    if first is not None and last is not None and last > first and tokens and tokens > 1:
        speed = (tokens - 1) / ((last - first) / 1e9)
    steps: dict[str, float] = {}
    for step in record.steps:
        steps[step.name] = steps.get(step.name, 0.0) + step.duration_ns / 1e6
    return Timings(record.duration_ns / 1e6, None if first is None else first / 1e6, speed, steps)
