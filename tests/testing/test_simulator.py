"""The simulated LLM server over real loopback connections."""

import asyncio
import contextlib
import json
import re
import urllib.request
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import openai
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.config.settings import Simulated
from slipstream.core.errors import BadRequest, ConfigurationError, Unavailable
from slipstream.models.simulated import Slots
from slipstream.models.simulated_script import RULES
from slipstream.testing import simulator_http
from slipstream.testing.simulator import Simulator, run_simulator, start_simulator
from slipstream.testing.simulator_service import Request, Service
from slipstream.testing.simulator_wire import Framing

CHAT = "/v1/chat/completions"


def body_of(**fields: object) -> bytes:
    return msgspec.json.encode(
        {"model": "m", "messages": [{"role": "user", "content": "Hello there"}], **fields}
    )


def post(body: bytes, *headers: str, path: str = CHAT) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        found: dict[str, object] = msgspec.json.decode(self.body)
        return found


class Client:
    """A connection that reads answers one by one, as strictly as they are framed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> Answer:
        self.writer.write(request)
        return await self.answer()

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:-2])
        status = int(head[0].split()[1])
        if status == 100:
            return Answer(100, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readuntil(b"\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            assert await self.reader.readline() == b"\r\n"
        elif "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        else:
            body = await self.reader.read()
        return Answer(status, headers, body)

    async def at_end(self) -> bool:
        return await self.reader.read() == b""


@contextlib.asynccontextmanager
async def connected(simulator: Simulator) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def against(
    act: Callable[[Simulator, Client], Awaitable[None]],
    told: Simulated | None = None,
    *,
    models: tuple[str, ...] = (),
    script: str = "",
) -> None:
    """Run `act` with a simulator and one connection to it, on both loops; afterwards nothing is held."""

    async def main() -> None:
        async with asyncio.timeout(30), run_simulator(told, models=models, script=script) as simulator:
            async with connected(simulator) as client:
                await act(simulator, client)
            await until(lambda: simulator.stats.connections == 0)
            assert (simulator.stats.in_flight, simulator.stats.queued) == (0, 0)

    for new_loop in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


# ---- answers


def test_the_openai_client_works_unchanged() -> None:
    """Chat, stream with usage, completions, embeddings, models and error types, by the official client."""

    async def main() -> None:
        async with (
            run_simulator(models=("m",)) as simulator,
            openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="none", max_retries=0) as client,
        ):
            said = [{"role": "user", "content": "Hello there"}]
            whole = await client.chat.completions.create(model="m", messages=said, max_tokens=5)  # type: ignore[arg-type]
            text = whole.choices[0].message.content
            assert whole.usage is not None
            assert whole.usage.completion_tokens == 5
            stream = await client.chat.completions.create(
                model="m",
                messages=said,  # type: ignore[arg-type]
                max_tokens=5,
                stream=True,
                stream_options={"include_usage": True},
            )
            parts = [part async for part in stream]
            assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == text
            assert parts[-1].usage == whole.usage
            completion = await client.completions.create(model="m", prompt="Hello", max_tokens=3)
            assert len(completion.choices[0].text.split()) == 3
            vectors = await client.embeddings.create(model="m", input=["a", "b"], dimensions=16)
            assert [len(entry.embedding) for entry in vectors.data] == [16, 16]
            assert [model.id async for model in client.models.list()] == ["m"]
            with pytest.raises(openai.NotFoundError):
                await client.completions.create(model="other", prompt="Hello")
            with pytest.raises(openai.RateLimitError):
                await client.completions.create(
                    model="m", prompt="Hi", extra_headers={"x-simulate": "error=429"}
                )

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_prepared_answers_are_the_played_ones(stream: bool) -> None:
    """What is served prebuilt is, byte for byte, what would have been played, ids included."""
    body = body_of(stream=stream, max_tokens=64, stream_options={"include_usage": True})
    quick, played = Service(Simulated(seed=5)), Service(Simulated(seed=5))

    for _ in range(3):
        plan = played.plan(Request(b"POST", CHAT.encode(), body=body))
        framing = Framing()
        prepared = quick.quick(CHAT.encode(), body)
        assert prepared is not None
        if b'"created":%d' % plan.created not in prepared:
            continue  # the second changed in between
        assert prepared == b"".join(write.data for write in played.play(plan, framing))


def test_what_takes_time_or_a_turn_is_not_prepared() -> None:
    """Delays, error rates, scripts and taken slots go the long way."""
    path = CHAT.encode()

    assert Service(Simulated()).quick(path, body_of()) is not None
    assert Service(Simulated(itl_ms=1)).quick(path, body_of()) is None
    assert Service(Simulated(error_rate=0.1)).quick(path, body_of()) is None
    assert Service(Simulated(), script="no_done").quick(path, body_of()) is None
    assert Service(Simulated()).quick(path, body_of(simulate="no_done")) is None
    assert Service(Simulated()).quick(path, body_of(model="m#no_done")) is None
    assert Service(Simulated()).quick(path, b"{}") is None
    assert Service(Simulated()).quick(b"/stats", b"{}") is None
    taken = Service(Simulated(slots=1))
    taken.slots.enter("somebody")
    assert taken.quick(path, body_of()) is None


def test_answers_come_at_their_time_and_say_who_waits() -> None:
    """With one slot the second request is queued while the first runs, then served."""

    async def act(simulator: Simulator, client: Client) -> None:
        async with connected(simulator) as second:
            client.writer.write(post(body_of(stream=True, max_tokens=2)))
            await until(lambda: simulator.stats.in_flight == 1)
            second.writer.write(post(body_of()))
            await until(lambda: simulator.stats.queued == 1)
            first = await client.answer()
            assert first.body.endswith(b"data: [DONE]\n\n")
            assert (await second.answer()).status == 200
        assert simulator.stats.served == 2

    against(act, Simulated(ttft_ms=30, itl_ms=5, slots=1))


def test_pages_beside_the_models() -> None:
    """Models, health and counts by GET; everything else is told what is wrong."""

    async def act(simulator: Simulator, client: Client) -> None:
        assert (await client.ask(get("/v1/models"))).json["data"] == [
            {"id": name, "object": "model", "created": 0, "owned_by": "slipstream"} for name in ("a", "b")
        ]
        assert (await client.ask(get("/healthz?x=1"))).status == 200
        assert (await client.ask(get("/nothing"))).status == 404
        wrong = await client.ask(get(CHAT))
        assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
        assert (await client.ask(post(b"{}", path="/stats"))).status == 405
        unknown = await client.ask(post(body_of(model="c")))
        assert unknown.status == 404
        assert b"there are: a, b" in unknown.body
        assert (await client.ask(post(body_of(model="b#tokens=2")))).json["model"] == "b"
        unnamed = await client.ask(post(b'{"prompt":"x"}', path="/v1/completions"))
        assert unnamed.json["model"] == "a"
        stats = (await client.ask(get("/stats"))).json
        assert (stats["served"], stats["refused"], stats["connections"]) == (2, 2, 1)
        assert stats["faults"] == {"tokens": 1}

    against(act, models=("a", "b"))


# ---- HTTP


def test_pipelined_requests_are_answered_in_order() -> None:
    """Slow, quick, refused and stream in one packet: the answers keep the order of the questions."""

    async def act(simulator: Simulator, client: Client) -> None:
        requests = [
            post(body_of(max_tokens=1), "x-simulate: ttft=30"),
            post(body_of(max_tokens=2)),
            post(b"no json"),
            get("/healthz"),
            post(body_of(max_tokens=3, stream=True)),
            post(body_of(max_tokens=4)),
        ]
        client.writer.write(b"".join(requests))
        answers = [await client.answer() for _ in requests]
        assert [answer.status for answer in answers] == [200, 200, 400, 200, 200, 200]
        counts = [
            msgspec.json.decode(answers[index].body)["usage"]["completion_tokens"] for index in (0, 1, 5)
        ]
        assert counts == [1, 2, 4]
        assert answers[4].body.count(b"data: ") == 6

    against(act)


def test_a_long_pipeline_is_read_no_further_than_it_is_answered() -> None:
    """Thousands of requests at once: all are answered, reading pauses in between."""

    async def act(simulator: Simulator, client: Client) -> None:
        count = 3000
        client.writer.write(post(body_of(max_tokens=1), "x-simulate: ttft=20") + get("/healthz") * count)
        for _ in range(count + 1):
            assert (await client.answer()).status == 200

    against(act)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_requests_may_arrive_in_any_pieces(size: int) -> None:
    """A chunked body, byte by byte."""

    async def act(simulator: Simulator, client: Client) -> None:
        body = body_of(max_tokens=2)
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        request = head + b"".join(
            b"%x\r\n%b\r\n" % (len(body[i : i + 9]), body[i : i + 9]) for i in range(0, len(body), 9)
        )
        request += b"0\r\n\r\n"
        for start in range(0, len(request), size):
            client.writer.write(request[start : start + size])
            await asyncio.sleep(0)
        assert (await client.answer()).status == 200

    against(act)


def test_expect_is_continued_or_refused() -> None:
    """100-continue before the body; a body that is too large is refused before it is sent."""

    async def act(simulator: Simulator, client: Client) -> None:
        body = body_of()
        head, _, rest = post(body, "expect: 100-continue").partition(body)
        assert (await client.ask(head)).status == 100
        assert (await client.ask(body + rest)).status == 200
        client.writer.write(post(body, "x-simulate: ttft=20") + head)  # not before the answer that is due
        assert [(await client.answer()).status for _ in range(2)] == [200, 100]
        assert (await client.ask(body)).status == 200
        large = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 99999999\r\n\r\n"
        assert (await client.ask(large.encode())).status == 413
        assert await client.at_end()

    against(act)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\n\r\n", 404),
        (post(b"", f"x-long: {'a' * 700_000}"), 431),
        (post(b"x" * 100)[:-100] + b"x" * 100, 400),
        (post(body_of(simulate="nonsense")), 400),
        (post(body_of(), "x-simulate: \xe9=1"), 400),
        (post(body_of(max_tokens=-1)), 400),
        (post(body_of(max_tokens="many")), 400),
        (post(b'{"messages":[]}'), 200),
    ],
)
def test_what_is_wrong_is_answered_and_nothing_breaks(request_bytes: bytes, status: int) -> None:
    """Malformed HTTP or JSON is a 4xx in OpenAI's shape; the server goes on."""

    async def act(simulator: Simulator, client: Client) -> None:
        answer = await client.ask(request_bytes)
        assert answer.status == status
        assert ("error" in answer.json) == (status != 200)
        async with connected(simulator) as other:
            assert (await other.ask(post(body_of()))).status == 200

    against(act)


def test_an_oversized_chunked_body_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body without an announced length is counted."""
    monkeypatch.setattr(simulator_http, "BODY_BYTES_MAX", 1000)

    async def act(simulator: Simulator, client: Client) -> None:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        piece = b"1f4\r\n" + b" " * 500 + b"\r\n"
        assert (await client.ask(head + piece * 3)).status == 413
        assert await client.at_end()

    against(act)


@pytest.mark.parametrize("stream", [False, True])
def test_old_clients_are_answered_without_chunks(stream: bool) -> None:
    """HTTP/1.0 and `connection: close`: the answer, then the end."""

    async def act(simulator: Simulator, client: Client) -> None:
        request = post(body_of(stream=stream))
        answer = await client.ask(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert "transfer-encoding" not in answer.headers
        assert answer.body.endswith(b"[DONE]\n\n" if stream else b"}")
        assert await client.at_end()
        async with connected(simulator) as other:
            answer = await other.ask(request.replace(b"host: x", b"host: x\r\nconnection: close"))
            assert answer.headers["connection"] == "close"
            assert await other.at_end()

    against(act)


@given(st.binary(max_size=300), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_no_bytes_break_the_server(noise: bytes, size: int) -> None:
    """Whatever follows a good request, in whatever pieces: answered or refused, nothing is left over."""

    async def act(simulator: Simulator, client: Client) -> None:
        client.writer.write(post(body_of()))
        for start in range(0, len(noise), size):
            client.writer.write(noise[start : start + size])
        assert (await client.answer()).status == 200
        client.writer.write_eof()
        with contextlib.suppress(OSError):
            await client.reader.read()

    against(act)


def test_a_full_queue_is_refused() -> None:
    """Beyond the bound of the queue requests are told to come back."""

    async def act(simulator: Simulator, client: Client) -> None:
        simulator._service.slots = Slots(1, waiting_max=1)
        async with connected(simulator) as second, connected(simulator) as third:
            for who in (client, second):
                who.writer.write(post(body_of(), "x-simulate: hang"))
            await until(lambda: simulator.stats.in_flight + simulator.stats.queued == 2)
            full = await third.ask(post(body_of()))
            assert (full.status, full.headers["retry-after"]) == (429, "1")

    against(act)


# ---- who leaves


@pytest.mark.parametrize("script", ["ttft=60000", "itl=60000", "hang", "hang@1", "pause=60@1", "drip=1"])
@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_frees_the_slot(script: str, stream: bool) -> None:
    """Running or queued, at any point of an answer: the slot is free as soon as the connection is gone."""

    async def act(simulator: Simulator, client: Client) -> None:
        async with connected(simulator) as queued:
            client.writer.write(post(body_of(stream=stream), f"x-simulate: {script}"))
            await until(lambda: simulator.stats.in_flight == 1)
            queued.writer.write(post(body_of(stream=stream)))
            await until(lambda: simulator.stats.queued == 1)
        await until(lambda: simulator.stats.queued == 0)
        client.writer.transport.abort()
        await until(lambda: simulator.stats.in_flight == 0)
        assert (simulator.stats.aborted, simulator.stats.served) == (2, 0)

    against(act, Simulated(slots=1))


def test_the_next_in_line_takes_a_slot_that_is_left() -> None:
    """A slot of a client that hung up is handed on."""

    async def act(simulator: Simulator, client: Client) -> None:
        client.writer.write(post(body_of(), "x-simulate: hang"))
        await until(lambda: simulator.stats.in_flight == 1)
        async with connected(simulator) as second:
            second.writer.write(post(body_of()))
            await until(lambda: simulator.stats.queued == 1)
            client.writer.transport.abort()
            assert (await second.answer()).status == 200

    against(act, Simulated(slots=1))


def test_a_slow_reader_stops_the_model() -> None:
    """An answer that is not read waits: what is buffered stays small; it goes on when it is read again."""

    async def act(simulator: Simulator, client: Client) -> None:
        client.writer.write(post(body_of(), f"x-simulate: pad={200 * 1024 * 1024}"))
        await until(lambda: simulator.stats.in_flight == 1)
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert simulator.stats.in_flight == 1
        (connection,) = simulator._connections
        assert connection.transport.get_write_buffer_size() < 1024 * 1024
        head = await client.reader.readuntil(b"\r\n\r\n")
        left = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        while left:
            left -= len(await client.reader.read(1024 * 1024))
        await until(lambda: simulator.stats.served == 1)

    against(act)


# ---- faults of the wire


def test_a_cut_resets_after_its_tokens() -> None:
    """`cut@3`: three tokens arrive, then a reset; `cut`: a reset instead of an answer."""

    async def act(simulator: Simulator, client: Client) -> None:
        received = b""
        client.writer.write(post(body_of(stream=True), "x-simulate: cut@3"))
        try:
            while True:
                received += await client.reader.readuntil(b"\n")
        except ConnectionResetError:
            pass
        assert received.count(b'"content":') == 1 + 3
        async with connected(simulator) as other:
            other.writer.write(post(body_of(), "x-simulate: cut"))
            with pytest.raises(ConnectionResetError):
                await other.reader.read()
        assert simulator.stats.faults == {"cut": 2}

    against(act)


@pytest.mark.parametrize("stream", [False, True])
def test_a_close_ends_without_an_end(stream: bool) -> None:
    """`close@3`: an orderly close in the middle of the answer."""

    async def act(simulator: Simulator, client: Client) -> None:
        with pytest.raises(asyncio.IncompleteReadError):
            await client.ask(post(body_of(stream=stream, simulate="close@3")))

    against(act)


def test_faults_before_the_body() -> None:
    """Status and headers on request: error with any Retry-After, redirect, content type, many headers."""

    async def act(simulator: Simulator, client: Client) -> None:
        async def ask(script: str) -> Answer:
            return await client.ask(post(body_of(), f"x-simulate: {script}"))

        refused = await ask("error=503,retry_after=Wed%2C 21 Oct 2099 07:28:00 GMT")
        assert (refused.status, refused.headers["retry-after"]) == (503, "Wed, 21 Oct 2099 07:28:00 GMT")
        moved = await ask("redirect=http://169.254.169.254/")
        assert (moved.status, moved.headers["location"]) == (307, "http://169.254.169.254/")
        assert (await ask("content_type=text/html")).headers["content-type"] == "text/html"
        assert len((await ask("header_flood=500")).headers) >= 500

    against(act)


def test_faults_of_the_body() -> None:
    """Padding leaves the JSON as it is, a bomb is small on the wire, a split stream is the same stream."""

    async def act(simulator: Simulator, client: Client) -> None:
        async def ask(script: str, **fields: object) -> Answer:
            return await client.ask(post(body_of(**fields), f"x-simulate: {script}"))

        padded = await ask("pad=1000000")
        assert len(padded.body) > 1_000_000
        assert padded.json["object"] == "chat.completion"
        bomb = await ask("gzip_bomb=10000000")
        assert bomb.headers["content-encoding"] == "gzip"
        assert len(bomb.body) < 100_000
        assert len(zlib.decompress(bomb.body, wbits=31)) == 10_000_000
        plain = await ask("unicode", stream=True, max_tokens=4)
        split = await ask("unicode,split=1", stream=True, max_tokens=4)
        slow = await ask("unicode,slow_header=0.01", stream=True, max_tokens=4)
        drip = await ask("unicode,drip=100000", stream=True, max_tokens=4)
        for other in (split, slow, drip):
            assert _without_ids(other.body) == _without_ids(plain.body)

    against(act)


def _without_ids(stream: bytes) -> bytes:
    return re.sub(rb'"(id|created)":[^,]*', b"", stream)


def test_behaviour_can_change_while_it_runs() -> None:
    """`behave` breaks and heals a server for requests that have no script of their own."""

    async def act(simulator: Simulator, client: Client) -> None:
        assert (await client.ask(post(body_of()))).status == 500
        assert (await client.ask(post(body_of(), "x-simulate: tokens=1"))).status == 200
        simulator.behave("")
        assert (await client.ask(post(body_of()))).status == 200
        with pytest.raises(BadRequest):
            simulator.behave("nonsense")

    against(act, script="error=500")


def test_errors_come_at_their_rate() -> None:
    """`error_rate` of the requests fail, the same ones for the same seed."""

    async def act(simulator: Simulator, client: Client) -> None:
        statuses = [(await client.ask(post(body_of()))).status for _ in range(200)]
        assert statuses.count(500) == simulator.stats.faults["error_rate"] == failing

    expected = Service(Simulated(error_rate=0.2, seed=4))
    request = Request(b"POST", CHAT.encode(), body=body_of())
    failing = [expected.plan(request).head.status for _ in range(200)].count(500)
    assert 20 < failing < 60
    against(act, Simulated(error_rate=0.2, seed=4))


# ---- starting and stopping


def test_a_process_of_its_own_ends_with_its_lifeline() -> None:
    """`start_simulator` is ready when it returns, keeps its orders, and is gone after `close`."""
    with start_simulator(Simulated(output_tokens=3), models=("m",), script="no_finish") as process:
        request = urllib.request.Request(f"{process.url}{CHAT}", data=body_of())
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = json.load(answer)
        assert body["usage"]["completion_tokens"] == 3
        assert body["choices"][0]["finish_reason"] is None
        pid = process.pid
    process.close()

    assert not Path(f"/proc/{pid}").exists()


def test_wrong_orders_do_not_start(capfd: pytest.CaptureFixture[str]) -> None:
    """A process with a wrong setting says so and is not waited for."""
    with pytest.raises(Unavailable):
        start_simulator(Simulated(spread=99))

    assert "spread" in capfd.readouterr().err


def test_a_taken_port_is_a_clear_error() -> None:
    """Two servers on one port: the second one says why it cannot start."""

    async def main() -> None:
        async with run_simulator() as simulator:
            with pytest.raises(ConfigurationError, match="cannot listen"):
                async with run_simulator(port=simulator.port):
                    pass

    asyncio.run(main())


def test_closing_drops_who_is_served() -> None:
    """`aclose` ends running answers and open connections, and is done when they are gone."""

    async def main() -> None:
        async with run_simulator() as simulator:
            reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
            writer.write(post(body_of(simulate="hang")))
            await until(lambda: simulator.stats.in_flight == 1)
        assert (simulator.stats.in_flight, simulator.stats.connections) == (0, 0)
        writer.close()
        with contextlib.suppress(OSError):
            await reader.read()

    asyncio.run(main())


def test_the_page_names_every_item_of_the_grammar() -> None:
    """docs/simulator.md has a row for each item."""
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")

    assert [
        name for name, rule in RULES.items() if f"| `{name}" not in page or rule.meaning not in page
    ] == []
