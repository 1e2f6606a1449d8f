"""What every model promises (`core.ports.Model`): the same tests for each of ours."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from models.conftest import SETTINGS as LOCAL
from models.test_local import FOREVER, busy
from net.upstream import CancelledAt
from slipstream.config.settings import Embedder, Simulated, Upstream
from slipstream.core.chat import Route, parse
from slipstream.core.errors import SlipstreamError
from slipstream.core.ports import Head, Model
from slipstream.core.record import Record, open_record
from slipstream.models.embedder import EmbedderModel
from slipstream.models.local import LocalModel
from slipstream.models.local_process import OFF, LocalProcess
from slipstream.models.openai import OpenAIUpstream
from slipstream.models.simulated import SimulatedModel
from slipstream.net.client import HttpClient
from slipstream.net.sse import data_of
from slipstream.testing.simulator import run_simulator

Fields = dict[str, object]
HELLO: Fields = {"model": "m", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
SLOTS = 2


@dataclass(frozen=True)
class Subject:
    """A model, what to ask it, and how to see from outside that it is at rest."""

    model: Model
    at_rest: Callable[[], Awaitable[bool]]
    brief: Fields = field(default_factory=lambda: dict(HELLO))
    endless: Fields = field(default_factory=lambda: {**HELLO, "max_tokens": 100_000})
    wrong: Fields = field(default_factory=dict)
    route: Route = Route.CHAT

    async def rests(self) -> None:
        async with asyncio.timeout(30):
            while not await self.at_rest():
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def simulated() -> AsyncIterator[Subject]:
    model = SimulatedModel("sim", Simulated(slots=SLOTS, itl_ms=1))

    async def at_rest() -> bool:
        return (model.slots.running, model.slots.waiting) == (0, 0)

    yield Subject(model, at_rest, wrong={**HELLO, "simulate": "no such thing"})
    await model.aclose()


@contextlib.asynccontextmanager
async def openai() -> AsyncIterator[Subject]:
    async with run_simulator(Simulated(slots=SLOTS, itl_ms=1)) as simulator:
        model = OpenAIUpstream("up", Upstream(url=f"{simulator.url}/v1", connections=SLOTS))

        async def at_rest() -> bool:
            stats, pool = simulator.stats, model._client.snapshot()  # type: ignore[union-attr]
            return not (stats.in_flight or stats.queued or pool.in_use or pool.waiting or pool.opening)

        yield Subject(model, at_rest, wrong={**HELLO, "simulate": "error=400"})
        await model.aclose()


@contextlib.asynccontextmanager
async def local(embedded: LocalProcess) -> AsyncIterator[Subject]:
    model = LocalModel(LOCAL, lambda: embedded.address, event_bytes=1 << 20)
    probe = HttpClient(embedded.address.url)

    async def at_rest() -> bool:
        return not any(await busy(probe, embedded))

    yield Subject(model, at_rest, endless={**FOREVER, "model": "m"}, wrong={**HELLO, "temperature": 9})
    await probe.aclose()
    await model.aclose()


@contextlib.asynccontextmanager
async def embedder(folder: Path) -> AsyncIterator[Subject]:
    model = EmbedderModel(Embedder(), folder)

    async def at_rest() -> bool:
        return not model._waiting

    brief: Fields = {"model": "m", "input": ["hello", "world"]}
    many: Fields = {"model": "m", "input": [f"text {n}" for n in range(200)]}
    yield Subject(model, at_rest, brief, many, {"model": "m", "input": []}, Route.EMBEDDINGS)
    await model.aclose()


Open = Callable[[], "contextlib.AbstractAsyncContextManager[Subject]"]
STREAMING = ["simulated", "openai", "local"]
ALL = [*STREAMING, "embedder"]


@pytest.fixture
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the model whose turn it is."""
    name: str = request.param
    if name == "local":
        embedded = request.getfixturevalue("embedded")
        yield lambda: local(embedded)
    elif name == "embedder":
        yield lambda: embedder(tmp_path)
    else:
        yield {"simulated": simulated, "openai": openai}[name]


def each(names: list[str]) -> pytest.MarkDecorator:
    heavy = {"local", "embedder"}
    marked = [pytest.param(name, marks=pytest.mark.model) if name in heavy else name for name in names]
    return pytest.mark.parametrize("subject", marked, indirect=True)


async def ask(subject: Subject, fields: Fields, record: Record | None = None) -> tuple[Head, bytes]:
    request = parse(subject.route, json.dumps(fields).encode())
    reply = await subject.model.open(request, record or open_record(route=subject.route.value))
    try:
        return reply.head, b"".join([event async for chunk in reply for event in chunk.events])
    finally:
        await reply.aclose()


@each(STREAMING)
def test_a_stream_ends_with_its_usage(subject: Open) -> None:
    """The last event before `[DONE]` tells the tokens, where they are asked for; a first one tells a token."""

    async def main() -> None:
        async with subject() as asked:
            fields = {**asked.brief, "stream": True, "stream_options": {"include_usage": True}}
            head, body = await ask(asked, fields)
            *events, last, done = [data_of(event + b"\n\n") for event in body.split(b"\n\n") if event.strip()]
            usage = json.loads(last)["usage"]

            assert (head.status, head.streamed, done) == (200, True, b"[DONE]")
            assert any(
                choice["delta"].get("content") for event in events for choice in json.loads(event)["choices"]
            )
            assert 0 < usage["completion_tokens"] <= 4
            assert usage["prompt_tokens"] > 0
            await asked.rests()

    asyncio.run(main())


@each(ALL)
def test_a_whole_answer_is_one_object_with_its_usage(subject: Open) -> None:
    """Asked for whole it is one JSON object, whose usage counts the prompt."""

    async def main() -> None:
        async with subject() as asked:
            head, body = await ask(asked, asked.brief)

            assert (head.status, head.streamed) == (200, False)
            assert json.loads(body)["usage"]["prompt_tokens"] > 0
            await asked.rests()

    asyncio.run(main())


@each(STREAMING)
def test_closing_a_reply_stops_its_source(subject: Open) -> None:
    """An answer without end is left after its first chunk, more often than there are slots; nothing goes on."""

    async def main() -> None:
        async with subject() as asked:
            request = parse(asked.route, json.dumps({**asked.endless, "stream": True}).encode())
            for _ in range(SLOTS + 1):
                reply = await asked.model.open(request, open_record(route="x"))
                await anext(aiter(reply))
                await reply.aclose()
                await reply.aclose()
                await asked.rests()
            await ask(asked, asked.brief)

    asyncio.run(main())


@each(ALL)
def test_what_cannot_be_served_is_a_typed_refusal(subject: Open) -> None:
    """A request that is at fault is refused with a 4xx: as an error of ours, or as the upstream's own answer."""

    async def main() -> None:
        async with subject() as asked:
            refused: SlipstreamError | None = None
            try:
                head, body = await ask(asked, asked.wrong)
            except SlipstreamError as error:
                refused = error
            if refused is not None:
                assert (refused.status, refused.kind) == (400, "invalid_request_error")
            else:
                assert head.status == 400
                assert json.loads(body)["error"]["message"]
            await asked.rests()
            await ask(asked, asked.brief)

    asyncio.run(main())


@pytest.mark.parametrize("name", ["openai", "local"])
def test_a_model_that_is_not_there_is_a_typed_failure(name: str) -> None:
    """Nothing foreign leaves an adapter: what is unreachable fails with a 5xx of ours and a hint, or its name."""
    gone = (
        OpenAIUpstream("up", Upstream(url="http://127.0.0.1:9/v1"))
        if name == "openai"
        else LocalModel(LOCAL, lambda: OFF, event_bytes=1 << 20)
    )

    async def main() -> None:
        with pytest.raises(SlipstreamError) as failed:
            await gone.open(parse(Route.CHAT, json.dumps(HELLO).encode()), open_record(route="x"))
        assert failed.value.status in (502, 503)
        await gone.aclose()

    asyncio.run(main())


@each(ALL)
@pytest.mark.parametrize("moment", ["asleep", "awake"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_cancelled_at_any_await_it_leaves_nothing(subject: Open, stream: bool, moment: str) -> None:
    """Whoever is cancelled, at whichever await, takes nothing along: the model is at rest and serves the next."""

    async def main() -> None:
        async with subject() as asked:
            fields = {**asked.brief, "stream": stream and asked.route is Route.CHAT}
            await ask(asked, fields)
            tasks = len(asyncio.all_tasks())
            for step in range(10_000):
                work = CancelledAt(ask(asked, fields), step, moment)
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.ensure_future(work)  # type: ignore[arg-type]
                await asked.rests()
                if not work.has_cancelled:
                    break
            assert step > 0
            async with asyncio.timeout(30):
                while len(asyncio.all_tasks()) > tasks:
                    await asyncio.sleep(0.002)
            await ask(asked, asked.brief)

    asyncio.run(main())
