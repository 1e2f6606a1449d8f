"""What a simulated model does for one request, and when: pure functions of settings, script and a number.

Every random draw is a hash of (seed, number of the request, number of the draw): nothing is stored, so the
same seed and the same sequence of requests give the same answers, errors and times on any machine.
It does not wait and does not know who plays the acts.
"""

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from slipstream.config.settings import Simulated
from slipstream.core.chat import ChatRequest, Route
from slipstream.core.errors import BadRequest
from slipstream.core.ports import Head
from slipstream.models import simulated_answer as answer
from slipstream.models.simulated_script import Item, Script

OUTPUT_TOKENS_MAX = 131_072
"""Longest answer; a request that asks for more is refused, as a real context would."""

BATCH_EVENTS = 64
"""Most events of one act, so that whoever plays it can be slowed down in between."""

EVENT_STREAM = b"text/event-stream; charset=utf-8"

End = Literal["", "done", "hang", "cut", "close"]

_DRAW_ERROR, _DRAW_FIRST, _DRAW_IDENTITY, _DRAW_GAPS = 0, 1, 2, 16
_MASK = (1 << 64) - 1
_NORMAL = NormalDist()


class Act(Struct, frozen=True):
    """One step of an answer.

    Attributes:
        after_ns: how long after the step before it is due.
        events: server-sent events, or pieces of the body.
        end: how the answer ends here; empty = it goes on.
        head: status and headers are sent with this act at the latest, even if it has no events.
    """

    after_ns: int
    events: tuple[bytes, ...] = ()
    end: End = ""
    head: bool = False


class Timing(Struct, frozen=True):
    """How long the steps of request number `index` take."""

    settings: Simulated
    index: int
    first_ms: float
    gap_ms: float

    def first_ns(self, running: int) -> int:
        """Time to first token with `running` requests, this one included."""
        return self._time_ns(self.first_ms, _DRAW_FIRST, running)

    def gap_ns(self, token: int, running: int) -> int:
        """Time between token number `token - 1` and `token` (counted from 0)."""
        return self._time_ns(self.gap_ms, _DRAW_GAPS + token, running)

    def _time_ns(self, median_ms: float, draw: int, running: int) -> int:
        if not median_ms:
            return 0
        settings = self.settings
        nanoseconds = median_ms * 1e6 * (1.0 + settings.slowdown * max(0, running - 1))
        if settings.spread:
            nanoseconds *= log_normal(settings.spread, settings.seed, index=self.index, draw=draw)
        return int(nanoseconds)


class Plan(Struct, frozen=True):
    """All that is settled about an answer before its first step."""

    request: ChatRequest
    script: Script
    timing: Timing
    identity: str
    created: int
    head: Head
    tokens: int
    usage: answer.Usage | None
    reason: str | None
    body: bytes = b""
    """The whole body of an unstreamed answer or of an error."""

    @property
    def immediate(self) -> bool:
        """It is answered at once, without a slot: an error or a redirect."""
        failure = self.script.find("error")
        return self.head.status != 200 and (failure is None or failure.at is None)


def mix(seed: int, index: int, draw: int) -> int:
    """64 evenly distributed bits for a draw (the finaliser of SplitMix64, Steele, Lea and Flood 2014)."""
    z = seed * 0x9E3779B97F4A7C15 + index * 0xD1342543DE82EF95 + draw * 0xDA942042E4DD58B5
    z = (z + 0x2545F4914F6CDD1D) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def uniform(seed: int, *, index: int, draw: int) -> float:
    """A number between 0 and 1, neither of them reached."""
    return ((mix(seed, index, draw) >> 12) + 0.5) * 2.0**-52


def log_normal(sigma: float, seed: int, *, index: int, draw: int) -> float:
    """A factor with median 1 whose logarithm has the standard deviation `sigma`."""
    return math.exp(sigma * _NORMAL.inv_cdf(uniform(seed, index=index, draw=draw)))


def fails(settings: Simulated, index: int) -> bool:
    """Whether request number `index` is one of the share that is answered with an error."""
    rate = settings.error_rate
    return rate > 0 and uniform(settings.seed, index=index, draw=_DRAW_ERROR) < rate


def identity_of(seed: int, index: int, route: Route) -> str:
    """The `id` of an answer; of the same length for all answers of a route."""
    return f"{'chatcmpl' if route is Route.CHAT else 'cmpl'}-{mix(seed, index, _DRAW_IDENTITY):016x}"


def plan_error(plan: Plan, status: int, *, retry_after: bytes = b"") -> Plan:
    """The same plan, answered with an error at once."""
    headers = ((b"retry-after", retry_after),) if retry_after else ()
    body = answer.error(status, f"Simulated error {status}.")
    return replace(plan, head=Head(status, headers=headers), body=body)


def make_plan(
    request: ChatRequest,
    script: Script,
    settings: Simulated,
    *,
    index: int,
    created: int,
    usage: bool,
    identity: str = "",
) -> Plan:
    """Settle an answer. `usage`: whether a stream ends with its usage. Raises `BadRequest`."""
    tokens, reason = _length(request, script, settings)
    prompt_tokens = answer.prompt_tokens(request)
    first_ms = script.number("ttft", settings.ttft_ms) + settings.ttft_ms_per_1k_tokens * prompt_tokens / 1000
    streamed = request.stream and request.route is not Route.EMBEDDINGS
    typed = script.find("content_type")
    content_type = typed.text if typed else EVENT_STREAM if streamed else b"application/json"
    counted = not script.has("no_usage") and (usage or not streamed)
    plan = Plan(
        request=request,
        script=script,
        timing=Timing(settings, index, first_ms, script.number("itl", settings.itl_ms)),
        identity=identity or identity_of(settings.seed, index, request.route),
        created=created,
        head=Head(200, content_type, streamed=streamed),
        tokens=tokens,
        usage=answer.Usage(prompt_tokens, tokens) if counted else None,
        reason=None if script.has("no_finish") else reason,
    )
    if script.items:
        return _scripted(plan)
    return plan if streamed else replace(plan, body=_body(plan))


def acts(plan: Plan, running: Callable[[], int]) -> Iterator[Act]:
    """The steps of an answer once it has a slot; `running` is asked how many run, as time passes."""
    if plan.immediate:
        yield Act(0, (plan.body,), "done")
        return
    script = plan.script
    for end in _ENDS:
        if script.before_head(end):
            yield Act(0, (), end)
            return
    if script.has("early_head"):
        yield Act(0, head=True)
    yield from _stream(plan, running) if plan.head.streamed else _whole(plan, running)


_ENDS: tuple[End, ...] = ("hang", "cut", "close")


def _length(request: ChatRequest, script: Script, settings: Simulated) -> tuple[int, str]:
    """How many tokens the answer has and why it ends; without a script it uses the request's bound up."""
    if request.route is Route.EMBEDDINGS:
        return 0, "stop"
    bound = request.max_tokens
    if bound is not None and not 1 <= bound <= OUTPUT_TOKENS_MAX:
        message = f"`max_tokens` must lie between 1 and {OUTPUT_TOKENS_MAX}."
        raise BadRequest(message, param="max_tokens", code="wrong_value")
    wanted = int(script.number("tokens", bound or settings.output_tokens))
    if bound is not None and wanted >= bound:
        return bound, "length"
    return min(wanted, OUTPUT_TOKENS_MAX), "stop"


def _scripted(plan: Plan) -> Plan:
    """Settle what the script changes about status and body."""
    script = plan.script
    redirect, failure = script.find("redirect"), script.find("error")
    if redirect is not None:
        return replace(plan, head=Head(307, headers=((b"location", redirect.text),)))
    if failure is not None and (failure.at is None or not plan.head.streamed):
        retry = script.find("retry_after")
        return plan_error(plan, int(failure.number), retry_after=retry.text if retry else b"")
    if plan.head.streamed:
        return plan
    raw = script.find("raw")
    body = raw.text if raw else _body(plan)
    return replace(plan, body=body[: len(body) // 2] if script.has("malformed") else body)


def _body(plan: Plan) -> bytes:
    request, settings = plan.request, plan.timing.settings
    if request.route is Route.EMBEDDINGS:
        return answer.embeddings(request)
    pieces = answer.words(request, plan.tokens, seed=settings.seed, unicode=plan.script.has("unicode"))
    return answer.whole(
        plan.identity,
        plan.created,
        request=request,
        text="".join(pieces),
        reason=plan.reason,
        usage=plan.usage,
    )


def _whole(plan: Plan, running: Callable[[], int]) -> Iterator[Act]:
    timing, body, tokens = plan.timing, plan.body, plan.tokens
    marks = plan.script.marks()
    wait = timing.first_ns(running())
    for sent in range(tokens + 1):
        for item in marks.get(sent, ()):
            if item.name == "pause":
                wait += int(item.number * 1e9)
            elif item.name in _ENDS:
                yield Act(wait, (body[: len(body) * sent // max(1, tokens)],), _end(item), head=True)
                return
            elif item.name == "error":
                yield Act(wait, (body,), "done")
                return
        if 0 < sent < tokens and timing.gap_ms:
            if timing.settings.slowdown:  # how many run is asked at each token's time
                yield Act(wait)
                wait = 0
            wait += timing.gap_ns(sent, running())
        elif not (marks or timing.gap_ms):
            break
    yield Act(wait, (body,), "done")


def _stream(plan: Plan, running: Callable[[], int]) -> Iterator[Act]:
    timing, script, marks = plan.timing, plan.script, plan.script.marks()
    events = answer.Events(plan.identity, plan.created, request=plan.request, usage=plan.usage is not None)
    settings = timing.settings
    words = answer.words(plan.request, plan.tokens, seed=settings.seed, unicode=script.has("unicode"))
    dress = _dress(script)
    size = int(script.number("chunk", 1))
    wait = timing.first_ns(running())
    batch: list[bytes] = list(events.role())
    sent = 0
    while True:
        for item in marks.get(sent, ()):
            yield Act(wait, dress(batch), head=True)
            wait, batch = 0, []
            if item.name == "pause":
                wait = int(item.number * 1e9)
            elif item.name in _ENDS:
                yield Act(0, (), _end(item))
                return
            else:
                yield Act(0, (_inserted(item, events),), "done" if item.name == "error" else "")
                if item.name == "error":
                    return
        if sent == plan.tokens:
            break
        upto = sent + 1
        while upto < min(sent + size, plan.tokens) and upto not in marks:
            upto += 1
        if timing.gap_ms and sent:
            if batch:
                yield Act(wait, dress(batch))
                wait, batch = 0, []
            count = running()
            wait += sum(timing.gap_ns(token, count) for token in range(sent, upto))
        elif len(batch) >= BATCH_EVENTS:
            yield Act(wait, dress(batch))
            wait, batch = 0, []
        batch.append(events.text("".join(words[sent:upto])))
        sent = upto
    yield Act(wait, dress(batch + _closing(plan, events)), "done")


def _closing(plan: Plan, events: answer.Events) -> list[bytes]:
    """The events after the last token."""
    script, usage = plan.script, plan.usage
    joined = usage is not None and script.has("usage_in_choice")
    closing = [] if plan.reason is None else [events.finish(plan.reason, usage if joined else None)]
    if usage is not None and not joined:
        closing.append(events.usage(usage))
    if not script.has("no_done"):
        closing.append(answer.DONE)
    if script.has("two_done"):
        closing.append(answer.DONE)
    return closing


def _inserted(item: Item, events: answer.Events) -> bytes:
    """What a fault puts into the stream."""
    if item.name == "error":
        status = int(item.number)
        return b"data: " + answer.error(status, f"Simulated error {status}.", code=str(status)) + b"\n\n"
    if item.name == "long_line":
        return events.text("x" * int(item.number))
    if item.name == "malformed":
        return events.text("half").partition(b'"half"')[0] + b"\n\n"
    return item.text


def _end(item: Item) -> End:
    return next(end for end in _ENDS if end == item.name)


def _dress(script: Script) -> Callable[[list[bytes]], tuple[bytes, ...]]:
    """How events are written: as they are, with other line ends, with comments between them."""
    newline, comments = script.find("newline"), script.has("comments")
    if newline is None and not comments:
        return tuple
    end = newline.text if newline else b"\n"

    def dressed(batch: list[bytes]) -> tuple[bytes, ...]:
        noted = [b": simulated\n\n" + event for event in batch] if comments else batch
        return tuple(event.replace(b"\n", end) for event in noted)

    return dressed
