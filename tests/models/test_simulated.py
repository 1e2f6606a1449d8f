"""The simulated model: its script, its draws, its slots, and its times on a virtual clock."""

import asyncio
import math
import statistics

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.config.settings import Simulated
from slipstream.core import clock
from slipstream.core.chat import ChatRequest, Route, parse
from slipstream.core.errors import BadRequest, LimitReached, UpstreamFailed
from slipstream.core.record import Record, open_record
from slipstream.flow import virtual
from slipstream.models import simulated_answer as answer
from slipstream.models.simulated import SimulatedModel, Slots, script_of
from slipstream.models.simulated_plan import fails, log_normal, uniform
from slipstream.models.simulated_script import RULES, Item, parse_script

MS = 1_000_000


def ask(
    text: str = "What is the capital of France?", route: Route = Route.CHAT, **fields: object
) -> ChatRequest:
    names = {Route.COMPLETIONS: "prompt", Route.EMBEDDINGS: "input"}
    wanted = (
        {"messages": [{"role": "user", "content": text}]} if route is Route.CHAT else {names[route]: text}
    )
    return parse(route, msgspec.json.encode({"model": "sim", **wanted, **fields}))


class Heard:
    """An answer, read to its end, with the virtual times of its parts since the request."""

    def __init__(self) -> None:
        self.status = 0
        self.head_ms = 0
        self.events: list[bytes] = []
        self.times_ms: list[int] = []
        self.failed = False
        self.record = Record()

    @property
    def body(self) -> bytes:
        return b"".join(self.events)

    @property
    def text(self) -> str:
        found = [msgspec.json.decode(event[6:]) for event in self.events if event.startswith(b'data: {"id"')]
        return "".join(part["delta"].get("content", "") for each in found for part in each["choices"])


async def hear(model: SimulatedModel, request: ChatRequest) -> Heard:
    heard = Heard()
    heard.record = open_record(route=request.route.value)
    start = clock.monotonic_ns()
    reply = await model.open(request, heard.record)
    try:
        heard.status = reply.head.status
        heard.head_ms = round((clock.monotonic_ns() - start) / MS)
        async for chunk in reply:
            heard.events.extend(chunk.events)
            heard.times_ms.append(round((chunk.arrived_ns - start) / MS))
    except UpstreamFailed:
        heard.failed = True
    finally:
        await reply.aclose()
    return heard


def heard_from(settings: Simulated, *requests: ChatRequest) -> list[Heard]:
    """The answers to requests that all come at the same moment, in their order."""

    async def main() -> list[Heard]:
        model = SimulatedModel("sim", settings)
        heard = await asyncio.gather(*(hear(model, request) for request in requests))
        assert (model.slots.running, model.slots.waiting) == (0, 0)
        return list(heard)

    return virtual.run(main())


# ---- the script


def test_a_script_reads_name_value_and_place() -> None:
    """`name=value@tokens`, in order, blanks ignored, places and repetition kept."""
    script = parse_script(" pause=0.5@3, pause=1@7 ,cut@9,no_done,error=429 ")

    assert script.items == (
        Item("pause", 0.5, at=3),
        Item("pause", 1, at=7),
        Item("cut", at=9),
        Item("no_done"),
        Item("error", 429),
    )
    assert script.marks() == {3: script.items[:1], 7: script.items[1:2], 9: script.items[2:3]}


@pytest.mark.parametrize(
    "text",
    [
        "unknown",
        "error=200",
        "error=5000",
        "error=\uff14\uff12\uff19",
        "hang=1",
        "cut@x",
        "cut@-1",
        "cut@",
        "pause",
        "pause=nan@1",
        "pause=inf",
        "pause=-1",
        "tokens=0",
        "tokens=1.5",
        "malformed",
        "no_done@3",
        "cut@1,cut@2",
        "newline=lfcr",
        "redirect=http://a%0d%0aset-cookie: b",
        "retry_after=é",
        "=",
        "@3",
        "x" * 5000,
    ],
)
def test_a_wrong_script_is_refused_by_name(text: str) -> None:
    """Whatever is not in the grammar is a 400 that names the field."""
    with pytest.raises(BadRequest) as caught:
        parse_script(text)

    assert caught.value.param == "simulate"
    assert len(str(caught.value)) < 1000


@given(st.text(max_size=40) | st.lists(st.sampled_from([*RULES, "=", "@", "3", ",", "%", "é"])).map("".join))
def test_no_text_breaks_the_reader_of_scripts(text: str) -> None:
    """Any text is a script or a `BadRequest`."""
    try:
        script = parse_script(text)
    except BadRequest:
        return

    assert all(item.name in RULES for item in script.items)


def test_a_script_stands_in_header_field_or_name() -> None:
    """The header comes before the field, the field before the name; the name is answered without it."""
    request = ask(model="llama:8b#cut@3", simulate="hang")

    named, script = script_of(request, "no_done")
    assert (named.model, script) == ("llama:8b", parse_script("no_done"))
    assert script_of(request)[1] == parse_script("hang")
    assert script_of(ask(model="llama:8b#cut@3"))[1] == parse_script("cut@3")
    assert script_of(ask())[1] is None
    with pytest.raises(BadRequest):
        script_of(ask(simulate=5))


# ---- the draws


def test_draws_are_even_and_independent() -> None:
    """Mean and variance of a uniform number, and no correlation with the next draw or the next request."""
    draws = [uniform(1, index=index, draw=16 + token) for index in range(200) for token in range(50)]
    next_draw = statistics.correlation(draws[:-1], draws[1:])
    next_request = statistics.correlation(draws[:-50], draws[50:])

    assert statistics.mean(draws) == pytest.approx(0.5, abs=0.01)
    assert statistics.pvariance(draws) == pytest.approx(1 / 12, rel=0.05)
    assert abs(next_draw) < 0.04
    assert abs(next_request) < 0.04


def test_the_spread_is_the_sigma_of_a_log_normal_around_the_median() -> None:
    """The median factor is 1, the logarithm's deviation is `spread`."""
    logs = [math.log(log_normal(0.3, 5, index=index, draw=1)) for index in range(5000)]

    assert statistics.median(logs) == pytest.approx(0, abs=0.02)
    assert statistics.pstdev(logs) == pytest.approx(0.3, rel=0.05)


def test_errors_come_at_their_rate() -> None:
    """Of many requests the asked share fails; none at 0, all at 1."""
    failed = sum(fails(Simulated(error_rate=0.05, seed=3), index) for index in range(20_000))

    assert failed / 20_000 == pytest.approx(0.05, abs=0.006)
    assert not any(fails(Simulated(), index) for index in range(100))
    assert all(fails(Simulated(error_rate=1), index) for index in range(100))


# ---- the slots


@given(st.integers(0, 3), st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_slots_are_bounded_and_fair(count: int, moves: list[tuple[bool, int]]) -> None:
    """Never more than `count` run, none waits while a slot is free, and who waits longest is next."""
    slots: Slots[int] = Slots(count, waiting_max=4)
    running: set[int] = set()
    waiting: list[int] = []
    for enters, who in moves:
        if enters and who not in running and who not in waiting:
            try:
                if slots.enter(who):
                    running.add(who)
                else:
                    waiting.append(who)
            except LimitReached:
                assert len(waiting) == 4
        elif not enters:
            heir = slots.leave(who)
            expected = waiting[0] if who in running and waiting else None
            running.discard(who)
            if who in waiting:
                waiting.remove(who)
            assert heir == expected
            if heir is not None:
                waiting.remove(heir)
                running.add(heir)
        assert (slots.running, slots.waiting) == (len(running), len(waiting))
        assert not count or slots.running <= count
        assert not waiting or slots.running == count


# ---- the answers


def test_an_answer_looks_like_openais() -> None:
    """Unstreamed: one choice, `max_tokens` words, finish reason and usage."""
    (heard,) = heard_from(Simulated(seed=1), ask(max_tokens=5))

    body = msgspec.json.decode(heard.body)
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == "sim"
    assert len(body["choices"][0]["message"]["content"].split()) == 5
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    assert heard.record.tokens_estimated


def test_a_stream_says_what_the_unstreamed_answer_says() -> None:
    """The same prompt gives the same text, whole or in pieces: role, words, reason, usage, `[DONE]`."""
    whole, streamed = heard_from(Simulated(output_tokens=6), ask(), ask(stream=True))

    text = msgspec.json.decode(whole.body)["choices"][0]["message"]["content"]
    assert streamed.text == text
    events = [msgspec.json.decode(event[6:]) for event in streamed.events[:-1]]
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [each["choices"][0]["finish_reason"] for each in events[:-1]] == [None] * 7 + ["stop"]
    assert events[-1]["usage"]["completion_tokens"] == 6
    assert streamed.events[-1] == b"data: [DONE]\n\n"


def test_completions_have_text_instead_of_messages() -> None:
    """`/v1/completions`, streamed and not."""
    whole, streamed = heard_from(
        Simulated(output_tokens=3), ask(route=Route.COMPLETIONS), ask(route=Route.COMPLETIONS, stream=True)
    )

    body = msgspec.json.decode(whole.body)
    assert body["object"] == "text_completion"
    pieces = [msgspec.json.decode(event[6:])["choices"][:1] for event in streamed.events[:-1]]
    assert "".join(part[0]["text"] for part in pieces if part) == body["choices"][0]["text"]


def test_embeddings_are_unit_vectors_of_their_text() -> None:
    """The same text gives the same vector, plain or in base64; another text another one."""
    request = ask(route=Route.EMBEDDINGS, dimensions=8)
    request = request.replacing({"input": b'["a","b","a"]'})
    encoded = request.replacing({"encoding_format": b'"base64"'})

    data = msgspec.json.decode(answer.embeddings(request))["data"]
    vectors = [entry["embedding"] for entry in data]
    assert vectors[0] == vectors[2] != vectors[1]
    assert math.hypot(*vectors[0]) == pytest.approx(1)
    assert len(msgspec.json.decode(answer.embeddings(encoded))["data"][0]["embedding"]) == 44  # 8 floats
    for field, raw in {"dimensions": b"0", "input": b"{}"}.items():
        with pytest.raises(BadRequest):
            answer.embeddings(request.replacing({field: raw}))


@pytest.mark.parametrize("bound", [-1, 10**9])
def test_a_bound_that_no_context_holds_is_refused(bound: int) -> None:
    """`max_tokens` out of range is a 400."""
    with pytest.raises(BadRequest):
        heard_from(Simulated(), ask(max_tokens=bound))


# ---- the times


def test_time_to_first_token_grows_with_the_prompt() -> None:
    """The median and what each 1,000 prompt tokens add; the tokens follow at their distance."""
    settings = Simulated(ttft_ms=200, ttft_ms_per_1k_tokens=100, itl_ms=20, output_tokens=4)

    short, long, whole = heard_from(
        settings, ask("abcd", stream=True), ask("x" * 8000, stream=True), ask("abcd")
    )
    assert short.times_ms == [200, 220, 240, 260]
    assert long.times_ms == [400, 420, 440, 460]
    assert (whole.head_ms, whole.times_ms) == (260, [260])
    assert short.head_ms == 200


def test_each_further_request_slows_the_others() -> None:
    """With a slowdown of 0.5 two requests take 1.5 times as long while both run."""
    settings = Simulated(ttft_ms=100, itl_ms=10, slowdown=0.5)

    (alone,) = heard_from(settings, ask(stream=True, max_tokens=3))
    assert alone.times_ms == [100, 110, 120]
    short, long, whole = heard_from(
        settings, ask(stream=True, max_tokens=1), ask(stream=True, max_tokens=3), ask(max_tokens=3)
    )
    assert short.times_ms == [100]  # it began alone
    assert long.times_ms[0] == 150
    assert long.times_ms[-1] == 150 + 2 * 15  # the short one is over, the whole one still runs
    assert whole.times_ms == [200 + 10 + 10]


def test_requests_queue_for_slots_in_order() -> None:
    """Two slots, four requests: the third and fourth wait for a full service time, and the record says so."""
    answers = heard_from(Simulated(ttft_ms=100, slots=2), *[ask(max_tokens=1)] * 4)

    assert [heard.times_ms for heard in answers] == [[100], [100], [200], [200]]
    assert [(heard.record.queue_wait_ns or 0) // MS for heard in answers] == [0, 0, 100, 100]
    waited = [[step.duration_ns // MS for step in heard.record.steps] for heard in answers]
    assert waited == [[], [], [100], [100]]


def test_the_same_seed_and_sequence_give_the_same_answers_and_times() -> None:
    """Two models agree in every byte and time; another seed differs in both."""
    requests = [ask(f"question {number % 7}", stream=number % 2 == 0, max_tokens=4) for number in range(40)]
    settings = Simulated(ttft_ms=50, itl_ms=10, spread=0.5, slots=4, error_rate=0.1, seed=1)

    def history(seed: int) -> list[tuple[int, bytes, list[int]]]:
        seeded = msgspec.structs.replace(settings, seed=seed)
        return [(heard.status, heard.body, heard.times_ms) for heard in heard_from(seeded, *requests)]

    first = history(1)
    assert first == history(1)
    other = history(2)
    assert [times for _, _, times in first] != [times for _, _, times in other]
    assert [body for _, body, _ in first] != [body for _, body, _ in other]
    assert {status for status, _, _ in first} == {200, 500}


def test_the_medians_are_what_was_asked_for() -> None:
    """Over many requests the median time to first token and between tokens is the setting."""
    settings = Simulated(ttft_ms=200, itl_ms=20, spread=0.3, seed=9)

    answers = heard_from(settings, *[ask(stream=True, max_tokens=8)] * 400)
    gaps = [b - a for heard in answers for a, b in zip(heard.times_ms, heard.times_ms[1:], strict=False)]
    assert statistics.median(heard.times_ms[0] for heard in answers) == pytest.approx(200, rel=0.05)
    assert statistics.median(gaps) == pytest.approx(20, rel=0.06)


# ---- the faults


def test_a_pause_stands_after_its_token() -> None:
    """`pause=5@2`: two tokens, five seconds, the rest; `pause=1` before the first one."""
    first, second = heard_from(
        Simulated(itl_ms=10),
        ask(stream=True, max_tokens=4, simulate="pause=5@2,pause=1"),
        ask(simulate="pause=1@3"),
    )

    assert first.times_ms == [0, 1000, 1010, 6020, 6030]
    assert second.times_ms == [1150]


def test_scripted_times_replace_the_settings() -> None:
    """`ttft`, `itl`, `tokens` and `chunk` hold for their request alone."""
    (heard,) = heard_from(
        Simulated(ttft_ms=900), ask(stream=True, simulate="ttft=100,itl=10,tokens=5,chunk=2")
    )

    assert heard.times_ms == [100, 120, 130]
    assert len(heard.text.split()) == 5


@pytest.mark.parametrize("fault", ["cut", "close"])
def test_a_broken_stream_raises_after_its_tokens(fault: str) -> None:
    """What was sent arrives, then `UpstreamFailed`; before the head it is raised at once."""
    streamed, whole = heard_from(
        Simulated(itl_ms=1), ask(stream=True, simulate=f"{fault}@3"), ask(simulate=f"{fault}@8")
    )

    assert streamed.failed
    assert len(streamed.text.split()) == 3
    assert whole.failed
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(whole.body)
    with pytest.raises(UpstreamFailed):
        heard_from(Simulated(), ask(simulate=fault))


@pytest.mark.parametrize("script", ["hang", "hang@2"])
def test_who_leaves_a_hanging_request_frees_its_slot(script: str) -> None:
    """A hang lasts until it is cancelled; then the next in line is served."""

    async def main() -> None:
        model = SimulatedModel("sim", Simulated(slots=1))
        for stream in (True, False):
            hung = asyncio.ensure_future(hear(model, ask(stream=stream, simulate=script)))
            queued = asyncio.ensure_future(hear(model, ask()))
            await asyncio.sleep(1000)
            assert (model.slots.running, model.slots.waiting) == (1, 1)
            hung.cancel()
            assert (await queued).status == 200
            assert model.slots.running == 0
        assert model.tally.aborted == 2
        assert model.tally.faults["hang"] == 2

    virtual.run(main())


def test_who_leaves_the_queue_takes_no_slot() -> None:
    """Cancelled while queued, or just as its turn comes: the next one is served, no slot is lost."""

    async def main() -> None:
        model = SimulatedModel("sim", Simulated(slots=1, ttft_ms=100))
        first, second, third, fourth = (
            asyncio.ensure_future(hear(model, ask(max_tokens=1))) for _ in range(4)
        )
        await asyncio.sleep(0.05)
        second.cancel()
        first.add_done_callback(lambda _: third.cancel())
        heard = await fourth
        assert heard.times_ms == [200]
        assert (model.slots.running, model.slots.waiting) == (0, 0)

    virtual.run(main())


def test_shapes_of_bad_streams() -> None:
    """What servers get wrong about the end of a stream, each on request."""
    script = {
        "no_done": lambda events: events[-1] != b"data: [DONE]\n\n",
        "two_done": lambda events: events[-2:] == [b"data: [DONE]\n\n"] * 2,
        "no_usage": lambda events: not any(b'"usage":{' in event for event in events),
        "no_finish": lambda events: not any(b'"finish_reason":"' in event for event in events),
        "usage_in_choice": lambda events: (
            b'"finish_reason":"length"' in events[-2] and b'"usage":{' in events[-2]
        ),
        "newline=crlf": lambda events: all(event.endswith(b"\r\n\r\n") for event in events),
        "comments": lambda events: all(event.startswith(b": ") for event in events),
        "malformed@2": lambda events: events[3].endswith(b'"content":\n\n'),
        "long_line=5000@2": lambda events: len(events[3]) > 5000,
        "raw=data: NaN%0A%0A@2": lambda events: events[3] == b"data: NaN\n\n",
        "error=503@2": lambda events: b'"error":{' in events[3] and len(events) == 4,
        "unicode": lambda events: not b"".join(events).isascii(),
    }
    answers = heard_from(Simulated(), *[ask(stream=True, max_tokens=8, simulate=text) for text in script])

    assert [
        text for (text, holds), heard in zip(script.items(), answers, strict=True) if not holds(heard.events)
    ] == []


def test_errors_are_answers() -> None:
    """A scripted error has its status, OpenAI's shape and takes no slot; it is the flow that judges it."""
    request = ask(simulate="error=429,retry_after=2")

    async def main() -> None:
        model = SimulatedModel("sim", Simulated(slots=1))
        reply = await model.open(request, open_record(route="chat/completions"))
        assert reply.head.status == 429
        assert reply.head.headers == ((b"retry-after", b"2"),)
        chunks = [chunk async for chunk in reply]
        error = msgspec.json.decode(b"".join(chunks[0].events))["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "simulated")
        await reply.aclose()
        assert model.slots.running == 0

    virtual.run(main())


def test_faults_of_the_wire_are_refused_in_memory() -> None:
    """What needs a connection says so instead of being left out."""
    with pytest.raises(BadRequest, match="slipstream simulate"):
        heard_from(Simulated(), ask(simulate="drip=10"))
