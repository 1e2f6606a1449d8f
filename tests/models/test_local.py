"""The embedded model answers, streams, says no, and lets go of its slot. The model is the real one."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from slipstream.config.settings import Local
from slipstream.core.chat import Route, parse
from slipstream.core.errors import BadRequest, SlipstreamError, Unavailable, UpstreamFailed
from slipstream.core.meters import Counters
from slipstream.core.record import Record, open_record
from slipstream.models.local import LocalModel
from slipstream.models.local_process import LocalAddress, LocalProcess
from slipstream.net.client import HttpClient
from slipstream.net.sse import data_of

SETTINGS = Local(slots=2, context_tokens=1024, output_tokens=900, threads=1)
PARIS = [{"role": "user", "content": "What is the capital of France?"}]
FOREVER = {"messages": PARIS, "max_tokens": 900, "logit_bias": {"2": -100}}
"""The end token is banned: it decodes until it is stopped."""

pytestmark = pytest.mark.model


class Asked:
    """An answer, taken to its end."""

    def __init__(self, record: Record, body: bytes, streamed: bool) -> None:
        self.record, self.body, self.streamed = record, body, streamed

    @property
    def events(self) -> list[bytes]:
        return [data_of(event + b"\n\n") for event in self.body.split(b"\n\n") if event]


async def ask(model: LocalModel, route: Route = Route.CHAT, **fields: object) -> Asked:
    record = open_record(route=route.value)
    reply = await model.open(parse(route, json.dumps(fields).encode()), record)
    try:
        body = b"".join([event async for chunk in reply for event in chunk.events])
    finally:
        await reply.aclose()
    return Asked(record, body, reply.head.streamed)


def with_model(embedded: LocalProcess, use: Callable[[LocalModel], Awaitable[None]]) -> None:
    async def main() -> None:
        model = LocalModel(SETTINGS, lambda: embedded.address, event_bytes=1 << 20)
        try:
            async with asyncio.timeout(100):
                await use(model)
        finally:
            await model.aclose()

    asyncio.run(main())


async def busy(probe: HttpClient, embedded: LocalProcess) -> list[bool]:
    headers = ((b"authorization", b"Bearer " + embedded.address.key.encode()),)
    response = await probe.request("GET", "/slots", headers)
    try:
        return [slot["is_processing"] for slot in json.loads(await response.read(1 << 20))]
    finally:
        response.close()


async def until_busy(embedded: LocalProcess, count: int) -> None:
    """Wait until exactly so many slots are at work, as llama.cpp itself says."""
    probe = HttpClient(embedded.address.url)
    try:
        while sum(await busy(probe, embedded)) != count:
            await asyncio.sleep(0.01)
    finally:
        await probe.aclose()


def test_the_capital_of_france_is_paris(embedded: LocalProcess) -> None:
    """Whole and streamed, with our defaults, usage and timings."""

    async def use(model: LocalModel) -> None:
        whole = await ask(model, messages=PARIS)
        answer = json.loads(whole.body)
        assert "Paris" in answer["choices"][0]["message"]["content"]
        assert (answer["object"], answer["model"], answer["choices"][0]["finish_reason"]) == (
            "chat.completion",
            SETTINGS.name,
            "stop",
        )
        assert answer["usage"]["completion_tokens"] == answer["timings"]["predicted_n"] > 0
        streamed = await ask(model, messages=PARIS, stream=True)
        *events, done = streamed.events
        assert (done, whole.streamed, streamed.streamed) == (b"[DONE]", False, True)
        made = [json.loads(event) for event in events]
        text = "".join(choice["delta"].get("content") or "" for event in made for choice in event["choices"])
        assert text == answer["choices"][0]["message"]["content"]
        assert made[-1]["usage"]["completion_tokens"] == answer["usage"]["completion_tokens"]
        assert {event["model"] for event in made} == {SETTINGS.name}
        assert not any("usage" in event for event in made[:-1])

    with_model(embedded, use)


def test_the_record_knows_where_the_time_went(embedded: LocalProcess) -> None:
    """Queue wait, and the steps that llama.cpp measured, inside the request's time."""

    async def use(model: LocalModel) -> None:
        record = (await ask(model, messages=PARIS)).record
        record.close()
        queue, prompt, decode = record.steps
        assert (queue.name, prompt.name, decode.name) == ("queue", "prompt", "decode")
        assert 0 <= queue.start_ns <= prompt.start_ns <= decode.start_ns
        assert decode.start_ns + decode.duration_ns <= record.duration_ns
        assert record.queue_wait_ns is not None
        assert record.queue_wait_ns <= queue.duration_ns
        assert (record.default_system_prompt, record.default_temperature) == (True, True)

    with_model(embedded, use)


def test_completions_come_in_their_own_form(embedded: LocalProcess) -> None:
    """Text, an id of its own kind, log-probabilities as that API has them."""

    async def use(model: LocalModel) -> None:
        asked = await ask(model, Route.COMPLETIONS, prompt="Once upon a", max_tokens=4, logprobs=1)
        answer = json.loads(asked.body)
        choice = answer["choices"][0]
        assert (answer["object"], answer["id"][:5], choice["finish_reason"]) == (
            "text_completion",
            "cmpl-",
            "length",
        )
        assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
        assert len(choice["logprobs"]["token_logprobs"]) == answer["usage"]["completion_tokens"] == 4

    with_model(embedded, use)


def test_an_answer_can_be_held_to_a_schema(embedded: LocalProcess) -> None:
    """response_format reaches the grammar."""
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}

    async def use(model: LocalModel) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        answer = json.loads((await ask(model, messages=PARIS, response_format=form, max_tokens=60)).body)
        assert json.loads(answer["choices"][0]["message"]["content"])["city"] in {"Paris", "Rome"}

    with_model(embedded, use)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, "context_length_exceeded"),
        ({"messages": PARIS, "temperature": 3}, "invalid_value"),
        (
            {
                "messages": PARIS,
                "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "bogus"}}},
            },
            "bad_request",
        ),
    ],
)
def test_what_cannot_be_answered_is_a_400(
    embedded: LocalProcess, fields: dict[str, object], code: str
) -> None:
    """Prompts that do not fit, values out of range, schemas that are none: before any head, and it lives."""

    async def use(model: LocalModel) -> None:
        for stream in (True, False):
            with pytest.raises(BadRequest) as caught:
                await ask(model, **fields, stream=stream)
            assert caught.value.code == code
        assert (await ask(model, messages=PARIS, max_tokens=1)).body

    with_model(embedded, use)


@pytest.mark.parametrize("stream", [True, False])
def test_a_cancelled_answer_frees_its_slot(embedded: LocalProcess, stream: bool) -> None:
    """Decoding, streamed or whole: once nobody wants it, /slots says idle long before it would be done."""

    async def use(model: LocalModel) -> None:
        task = asyncio.create_task(ask(model, **FOREVER, stream=stream))
        await until_busy(embedded, 1)
        task.cancel()
        await until_busy(embedded, 0)
        assert task.cancelled()

    with_model(embedded, use)


def test_closing_a_reply_frees_its_slot(embedded: LocalProcess) -> None:
    """aclose after the first chunk is enough."""

    async def use(model: LocalModel) -> None:
        reply = await model.open(
            parse(Route.CHAT, json.dumps({**FOREVER, "stream": True}).encode()), Record()
        )
        await anext(aiter(reply))
        await until_busy(embedded, 1)
        await reply.aclose()
        await until_busy(embedded, 0)

    with_model(embedded, use)


def test_a_cancelled_open_frees_its_slot_while_the_prompt_is_evaluated(embedded: LocalProcess) -> None:
    """A long prompt is left between two batches, not at its end."""
    long = [{"role": "user", "content": " ".join(f"word{n}" for n in range(200))}]

    async def use(model: LocalModel) -> None:
        task = asyncio.create_task(ask(model, messages=long, stream=True))
        await until_busy(embedded, 1)
        task.cancel()
        await until_busy(embedded, 0)

    with_model(embedded, use)


def test_who_leaves_the_queue_never_gets_a_slot(embedded: LocalProcess) -> None:
    """With both slots taken a third waits here; cancelled, it was never sent."""

    async def use(model: LocalModel) -> None:
        running = [asyncio.create_task(ask(model, **FOREVER, stream=True)) for _ in range(2)]
        await until_busy(embedded, 2)
        record = open_record(route=Route.CHAT.value)
        third = asyncio.create_task(model.open(parse(Route.CHAT, json.dumps(FOREVER).encode()), record))
        await asyncio.sleep(0.05)
        third.cancel()
        record.close()  # as the way does, before the task has unwound
        await asyncio.wait([third])
        (queue,) = record.steps
        assert (queue.name, record.queue_wait_ns) == ("queue", queue.duration_ns)
        assert queue.duration_ns > 0
        for task in running:
            task.cancel()
        await until_busy(embedded, 0)
        assert third.cancelled()

    with_model(embedded, use)


def test_a_full_queue_turns_away(embedded: LocalProcess) -> None:
    """No more wait for a slot than the settings allow; the next one is told to come back."""

    async def main() -> None:
        settings = msgspec.structs.replace(SETTINGS, slots=1, waiting=0)
        model = LocalModel(settings, lambda: embedded.address, event_bytes=1 << 20)
        running = asyncio.create_task(ask(model, **FOREVER, stream=True))
        await until_busy(embedded, 1)
        with pytest.raises(Unavailable):
            await ask(model, messages=PARIS)
        running.cancel()
        await until_busy(embedded, 0)
        await model.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("state", "code"), [("loading", "model_loading"), ("failed", "local_model_failed"), ("off", "model_off")]
)
def test_a_model_that_is_not_ready_says_when_to_come_back(state: str, code: str) -> None:
    """503 with its reason, without asking anybody."""

    async def main() -> SlipstreamError:
        model = LocalModel(SETTINGS, lambda: LocalAddress(state, detail="why"), event_bytes=1024)  # type: ignore[arg-type]
        with pytest.raises(Unavailable) as caught:
            await ask(model, messages=PARIS)
        await model.aclose()
        return caught.value

    error = asyncio.run(main())
    assert (error.status, error.code) == (503, code)
    assert (error.retry_after_seconds is None) == (state == "off")


def test_a_request_waits_while_the_model_loads(embedded: LocalProcess) -> None:
    """One that comes too early is answered once the model is ready, and its record says what it waited for."""

    async def main() -> None:
        addresses = [LocalAddress("loading")] * 3
        model = LocalModel(
            SETTINGS,
            lambda: addresses.pop() if addresses else embedded.address,
            event_bytes=1 << 20,
            wait_seconds=60.0,
        )
        try:
            asked = await ask(model, messages=PARIS)
        finally:
            await model.aclose()
        assert not addresses
        assert b"Paris" in asked.body
        assert [step.name for step in asked.record.steps] == ["load", "queue", "prompt", "decode"]

    asyncio.run(asyncio.wait_for(main(), 100))


@pytest.mark.parametrize(("state", "code"), [("loading", "model_loading"), ("failed", "local_model_failed")])
def test_the_wait_for_a_model_that_loads_has_an_end(state: str, code: str) -> None:
    """It ends when its time is over, and at once where the model turns out not to start."""

    async def main() -> SlipstreamError:
        addresses = [LocalAddress("loading")] * 3
        then = LocalAddress(state, detail="why")  # type: ignore[arg-type]
        model = LocalModel(
            SETTINGS,
            lambda: addresses.pop() if addresses else then,
            event_bytes=1024,
            wait_seconds=0.2 if state == "loading" else 600.0,
        )
        with pytest.raises(Unavailable) as caught:
            await ask(model, messages=PARIS)
        await model.aclose()
        return caught.value

    assert asyncio.run(asyncio.wait_for(main(), 60)).code == code


def test_as_many_wait_for_the_model_to_load_as_may_wait_for_a_slot() -> None:
    """One more is told at once to come back; who leaves makes room."""

    async def main() -> None:
        settings = msgspec.structs.replace(SETTINGS, waiting=1)
        model = LocalModel(settings, lambda: LocalAddress("loading"), event_bytes=1024, wait_seconds=600.0)
        for _ in range(2):
            first = asyncio.create_task(ask(model, messages=PARIS))
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as caught:
                await ask(model, messages=PARIS)
            assert caught.value.code == "model_loading"
            first.cancel()
            await asyncio.wait([first])
        await model.aclose()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_crash_is_a_typed_502_and_the_next_request_is_served(data_folder: Path) -> None:
    """kill -9 under a streamed and a whole answer: both fail as `local_model_crashed`; then it is back."""

    async def main() -> None:
        process = LocalProcess(SETTINGS, data_folder, counters=Counters())
        model = LocalModel(SETTINGS, lambda: process.address, event_bytes=1 << 20)
        ready = asyncio.Event()
        process.on_change(lambda address: ready.set() if address.state == "ready" else ready.clear())
        await process.start()
        try:
            await ready.wait()
            tasks = [asyncio.create_task(ask(model, **FOREVER, stream=stream)) for stream in (True, False)]
            await until_busy(process, 2)
            os.kill(process.pid, signal.SIGKILL)
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(outcome, UpstreamFailed), outcome
                assert (outcome.status, outcome.code) == (502, "local_model_crashed")
            while ready.is_set():
                await asyncio.sleep(0.01)
            await ready.wait()
            assert b"Paris" in (await ask(model, messages=PARIS)).body
        finally:
            await model.aclose()
            await process.aclose()

    asyncio.run(asyncio.wait_for(main(), 100))


def test_a_foreign_key_is_refused(embedded: LocalProcess) -> None:
    """Another process on this machine cannot use the port without the key."""

    async def main() -> int:
        client = HttpClient(embedded.address.url)
        try:
            response = await client.request("GET", "/slots", ((b"authorization", b"Bearer x"),))
            response.close()
            return response.status
        finally:
            await client.aclose()

    assert asyncio.run(main()) == 401
