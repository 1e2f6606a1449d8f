"""The embedded model: requests go to llama.cpp in its own process, always as a stream.

A call that is not streamed cannot be cancelled there (a client that had left held a slot for 25 s), so
answers that are asked for whole are put together here. It does not know who starts that process.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from slipstream.config.settings import Local, Models
from slipstream.core import clock
from slipstream.core.chat import ChatRequest, Route
from slipstream.core.errors import (
    BadRequest,
    SlipstreamError,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from slipstream.core.meters import Counters
from slipstream.core.ports import Chunk, Head
from slipstream.core.record import QUEUE, Record
from slipstream.core.use import UseRow
from slipstream.models.local_events import (
    DONE,
    Assembly,
    ChildError,
    Event,
    Timings,
    Translator,
    failure,
    read,
    read_error,
)
from slipstream.models.local_process import LocalAddress
from slipstream.models.local_wire import order
from slipstream.net.client import ClientOptions, HttpClient, Response
from slipstream.net.sse import EventSplitter, data_of

WAIT_SECONDS = 600.0
"""Longest wait for a slot in the client's pool; the request's own deadlines are shorter."""
LOOK_SECONDS = 0.05
"""How often a request that waits for the process to be ready looks."""
IDLE_SECONDS = 4.0
"""llama.cpp closes a connection that was unused for 5 s; ours goes first, so that none turns out dead."""
ERROR_BYTES = 64 * 1024

_STREAM = Head(200, b"text/event-stream", streamed=True)
_JSON = Head(200, b"application/json")


class LocalModel:
    """The embedded model as a `Model`.

    Args:
        settings: its section of the settings.
        address: where its process is served now; asked at every request.
        event_bytes: largest event that is accepted from it.
        wait_seconds: how long a request waits while its process starts, or starts again.
        counters: where stale connections are counted.
    """

    def __init__(
        self,
        settings: Local,
        address: Callable[[], LocalAddress],
        *,
        event_bytes: int,
        wait_seconds: float = 0.0,
        counters: Counters | None = None,
    ) -> None:
        self._settings = settings
        self._address = address
        self._event_bytes = event_bytes
        self._wait_seconds = wait_seconds
        self._waiting = 0
        self._counters = counters
        self._client: HttpClient | None = None
        self._client_url = ""
        self._retiring: dict[asyncio.Task[None], HttpClient] = {}

    @property
    def name(self) -> str:
        """Always `local`."""
        return "local"

    def renew(self, settings: Local, *, wait_seconds: float) -> None:
        """Take other settings; `address` gives the address that belongs to them from now on.

        Requests that have been sent, or wait for their turn, are answered where they were sent.
        """
        self._wait_seconds = wait_seconds
        before, self._settings = self._settings, settings
        is_bounded_alike = (before.slots, before.waiting) == (settings.slots, settings.waiting)
        if not is_bounded_alike or self._client_url != self._address().url:
            self._retire()

    async def left(self) -> None:
        """Return when nothing is under way any more where requests went before the last change."""
        if self._retiring:
            await asyncio.wait(list(self._retiring))

    def use(self) -> UseRow:
        """How its slots do: those in use and the requests that wait for one, of this process."""
        part, slots = "local model", self._settings.slots
        if self._client is None:
            return UseRow(part, 0.0, 0.0, "requests", 0, f"{slots} slots")
        seen = self._client.use(part)
        return UseRow(part, seen.utilisation, seen.saturation, "requests", seen.errors, f"{slots} slots")

    async def open(self, request: ChatRequest, record: Record) -> "LocalReply":
        """Send the request; return when its prompt has got a slot.

        Raises `BadRequest` for fields of a wrong type or range and prompts that do not fit, `Unavailable`
        where the model still loads when the wait is over, `UpstreamFailed` (code `local_model_crashed`)
        when its process dies.
        """
        if request.route is Route.EMBEDDINGS:
            raise BadRequest(
                f"The model `{self._settings.name}` makes no embeddings.", param="model", code="wrong_model"
            )
        settings = self._settings
        body = order(request, settings, record)
        address = await self._ready(record)
        if settings is not self._settings:  # they changed while it waited: it goes to a process with others
            body = order(request, self._settings, record)
        headers = (
            (b"authorization", b"Bearer " + address.key.encode()),
            (b"content-type", b"application/json"),
        )
        asked_ns = clock.monotonic_ns()
        try:
            with record.step(QUEUE):
                response = await self._connect(address).request(
                    "POST", f"/v1/{request.route.value}", headers, body
                )
        except UpstreamTimeout:
            raise
        except UpstreamFailed as error:
            raise crashed() from error
        taken = False
        try:
            if response.status != 200:
                raise await _refusal(response)
            record.queue_wait_ns = max(0, response.arrived_ns - asked_ns)
            taken = True
        finally:
            if not taken:
                response.close()
        watch = _Watch(record, asked_ns)
        events = _events(response, self._event_bytes, watch)
        if request.stream:
            return LocalReply(
                _STREAM, response, _streamed(events, Translator(request.route, self._settings.name))
            )
        return LocalReply(_JSON, response, _whole(events, Assembly(request.route, self._settings.name)))

    async def aclose(self) -> None:
        """Close the connections; the process is not ours."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        for task, retired in list(self._retiring.items()):
            task.cancel()
            await asyncio.wait((task,))
            await retired.aclose()

    async def _ready(self, record: Record) -> LocalAddress:
        """Where its process is served, after a wait if it is loading. Raises `Unavailable`."""
        address = self._address()
        if address.state == "loading" and self._waiting < self._settings.waiting:
            with record.step("load"):
                address = await self._loaded()
        if address.state == "ready":
            return address
        if address.state == "loading":
            raise Unavailable(
                "The embedded model is loading.",
                code="model_loading",
                hint="/readyz says when it is ready.",
                retry_after_seconds=1.0,
            )
        if address.state == "off":
            raise Unavailable(
                "The embedded model is switched off.",
                code="model_off",
                hint='Set models.local.enabled to "on", or ask for another model.',
            )
        raise Unavailable(
            f"The embedded model does not start: {address.detail}",
            code="local_model_failed",
            hint="The log has more; it is tried again.",
            retry_after_seconds=5.0,
        )

    async def _loaded(self) -> LocalAddress:
        """The address once it is not loading any more, or as it is when the wait is over."""
        until_ns = clock.monotonic_ns() + int(self._wait_seconds * 1e9)
        self._waiting += 1
        try:
            while True:
                address = self._address()
                if address.state != "loading" or clock.monotonic_ns() >= until_ns:
                    return address
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._waiting -= 1

    def _connect(self, address: LocalAddress) -> HttpClient:
        """The client to the process that runs now: as many connections as it has slots, so we queue here.

        A request that waits here is gone at once when its client leaves; llama.cpp's own queue would
        notice only when the request gets its slot.
        """
        if self._client is None or self._client_url != address.url:
            self._retire()
            options = ClientOptions(
                connections=self._settings.slots,
                waiting=self._settings.waiting,
                wait_seconds=WAIT_SECONDS,
                idle_seconds=IDLE_SECONDS,
            )
            self._client = HttpClient(address.url, options, counters=self._counters)
            self._client_url = address.url
        return self._client

    def _retire(self) -> None:
        """Send nothing more by the client there is, and close it when it is done."""
        client, self._client = self._client, None
        if client is not None:
            task = asyncio.create_task(_close_when_idle(client), name="close the old local client")
            self._retiring[task] = client
            task.add_done_callback(self._retiring.pop)


async def _close_when_idle(client: HttpClient) -> None:
    """Its requests have deadlines of their own."""
    while client.is_busy:  # noqa: ASYNC110 (it ends by many ways, and this is seldom)
        await asyncio.sleep(LOOK_SECONDS)
    await client.aclose()


def make_local(models: Models, address: Callable[[], LocalAddress], counters: Counters) -> LocalModel:
    """The embedded model as the settings want it."""
    return LocalModel(
        models.local,
        address,
        event_bytes=models.event_bytes,
        wait_seconds=wait_seconds(models),
        counters=counters,
    )


def wait_seconds(models: Models) -> float:
    """How long a request waits for it to load: not at all where another model answers meanwhile."""
    name = models.local.name
    has_stand_in = any(models.aliases.get(asked, asked) == name for asked in models.fallbacks)
    return 0.0 if has_stand_in else models.wait_seconds


class LocalReply:
    """An answer of the embedded model that is under way."""

    def __init__(self, head: Head, response: Response, body: AsyncIterator[Chunk]) -> None:
        self.head = head
        self._response = response
        self._body = body

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._body

    async def aclose(self) -> None:
        """Close the connection if the answer is not over: llama.cpp frees the slot then."""
        self._response.close()


class _Watch:
    """Writes what llama.cpp measured to the record, when the last event has come."""

    def __init__(self, record: Record, asked_ns: int) -> None:
        self._record = record
        self._asked_ns = asked_ns

    def measured(self, timings: Timings, arrived_ns: int) -> None:
        """The durations are llama.cpp's; they are laid out backwards from the last event's arrival."""
        record = self._record
        decode_ns, prompt_ns = int(timings.predicted_ms * 1e6), int(timings.prompt_ms * 1e6)
        decode_start = max(arrived_ns - decode_ns, self._asked_ns)
        prompt_start = max(decode_start - prompt_ns, self._asked_ns)
        record.add_step("prompt", prompt_start - record.origin_ns, decode_start - prompt_start)
        record.add_step("decode", decode_start - record.origin_ns, arrived_ns - decode_start)


async def _events(
    response: Response, event_bytes: int, watch: _Watch
) -> AsyncIterator[tuple[list[Event], int, bool]]:
    """The events of each piece that arrived, when, and whether they were the last."""
    splitter = EventSplitter(event_bytes)
    try:
        async for piece in response:
            found: list[Event] = []
            done = False
            for raw in splitter.feed(piece.data):
                data = data_of(raw)
                if data == b"[DONE]":
                    done = True
                elif data and data != b"null":
                    found.append(event := read(data))
                    if event.timings is not None:
                        watch.measured(event.timings, piece.arrived_ns)
            if found or done:
                yield found, piece.arrived_ns, done
            if done:
                return
    except UpstreamTimeout:
        raise
    except UpstreamFailed as error:
        raise crashed() if error.code == "upstream_broke" else error from None
    raise crashed()


async def _streamed(
    events: AsyncIterator[tuple[list[Event], int, bool]], translator: Translator
) -> AsyncIterator[Chunk]:
    async for found, arrived_ns, done in events:
        out = [made for event in found for made in translator.events(event)]
        if done:
            out.append(DONE)
        if out:
            yield Chunk(tuple(out), arrived_ns)


async def _whole(
    events: AsyncIterator[tuple[list[Event], int, bool]], assembly: Assembly
) -> AsyncIterator[Chunk]:
    async for found, arrived_ns, done in events:
        for event in found:
            assembly.add(event)
        if done:
            yield Chunk((assembly.body(),), arrived_ns)


def crashed() -> UpstreamFailed:
    """A connection of ours to our own process that breaks means that the process died."""
    return UpstreamFailed(
        "The embedded model's process died while it had this request.",
        code="local_model_crashed",
        hint="It is being started again; send the request once more.",
    )


async def _refusal(response: Response) -> SlipstreamError:
    """The typed error for an answer other than 200."""
    try:
        error = read_error(await response.read(ERROR_BYTES))
    except UpstreamFailed:
        return crashed()
    if response.status == 401:
        return UpstreamFailed("The embedded model's process did not know our key.", code="local_model_broke")
    return failure(ChildError(error.code or response.status, error.message, error.type))
