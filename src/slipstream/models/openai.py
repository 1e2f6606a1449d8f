"""Any OpenAI-compatible server as a model: OpenAI, vLLM, Ollama, llama.cpp's server and the like.

Bodies pass through byte for byte; the key comes from the settings, never from the request.
"""

import os
import pathlib
from collections.abc import AsyncIterator, Iterator

import msgspec

from slipstream.config.settings import Models, Upstream
from slipstream.core.chat import ChatRequest, Route
from slipstream.core.errors import ConfigurationError, UpstreamFailed
from slipstream.core.meters import Counters
from slipstream.core.ports import Chunk, Forwarded, Head
from slipstream.core.record import Record
from slipstream.core.use import UseRow
from slipstream.net.client import ClientOptions, HttpClient, Response
from slipstream.net.proxied import ProxiedClient, ProxiedResponse
from slipstream.net.response import declared_bytes
from slipstream.net.sse import EventSplitter

EVENT_STREAM = b"text/event-stream"
_PATHS = {route: f"/{route.value}" for route in Route}
_INCLUDE_USAGE = b'{"include_usage":true}'
_PASSED_ON = frozenset({b"accept", b"content-type", b"idempotency-key", b"range", b"user-agent"})
"""Headers of a forwarded request that go to the upstream, beside all that begin with `openai-`."""

_PASSED_BACK = frozenset(
    {
        b"retry-after",
        b"x-ratelimit-reset-requests",
        b"x-ratelimit-reset-tokens",
        b"openai-processing-ms",
        b"content-disposition",
        b"content-range",
        b"location",
    }
)
UPSTREAM_ID = b"x-upstream-request-id"
"""Under this name the client gets the upstream's own `x-request-id`; ours has that one."""


class OpenAIUpstream:
    """One upstream: a pooled client to its origin, and the headers that go with every request."""

    def __init__(
        self,
        name: str,
        settings: Upstream,
        *,
        connect_seconds: float = 5.0,
        event_bytes: int = 1024 * 1024,
        answer_bytes: int = 64 * 1024 * 1024,
        key: str = "",
        counters: Counters | None = None,
    ) -> None:
        self._name = name
        self._event_bytes = event_bytes
        self._answer_bytes = answer_bytes
        options = ClientOptions(
            connections=settings.connections,
            waiting=settings.waiting,
            wait_seconds=settings.wait_seconds,
            idle_seconds=settings.idle_seconds,
            life_seconds=settings.life_seconds,
            connect_seconds=connect_seconds,
            ca_file=settings.ca_file,
        )
        url = settings.url.rstrip("/")
        self._client: HttpClient | ProxiedClient = (
            ProxiedClient(url, settings.proxy, options)
            if settings.proxy
            else HttpClient(url, options, counters=counters)
        )
        headers = [(b"accept-encoding", b"identity"), (b"user-agent", b"slipstream")]
        key = key or upstream_key(name, settings)
        if key:
            headers.append((b"authorization", b"Bearer " + key.encode()))
        self._headers = tuple(headers)
        self._json_headers = (*headers, (b"content-type", b"application/json"))

    @property
    def name(self) -> str:
        """The name of the upstream in the settings."""
        return self._name

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return self._client.is_busy

    def use(self) -> UseRow:
        """How its connections do; through a proxy nothing is known of them."""
        part = f"upstream {self._name}"
        return self._client.use(part) if isinstance(self._client, HttpClient) else UseRow(part)

    async def open(self, request: ChatRequest, record: Record) -> "UpstreamReply":
        """Send the request as it is; of a stream ask for its usage too."""
        if request.stream and not request.include_usage:
            request = _asking_for_usage(request)
        response = await self._client.request(
            "POST",
            _PATHS[request.route],
            self._json_headers,
            request.body,
            request_id=record.id,
            step=record.step,
        )
        reply = self._reply(response)
        if response.status < 400 and not _is_an_answer(reply.head):
            kind = reply.head.content_type[:100].decode("latin-1")
            raise self._refused(response, f"answered with `{kind}`, which is no answer to a call")
        return reply

    async def forward(self, request: Forwarded, record: Record) -> "UpstreamReply":
        """Send any other request of the API on, with those of its headers that the upstream may need."""
        headers = [pair for pair in self._headers if pair[0] != b"user-agent"]
        headers.extend(
            (name, value)
            for name, value in request.headers.items()
            if name in _PASSED_ON or name.startswith(b"openai-")
        )
        response = await self._client.request(
            request.method, request.path, headers, request.body, request_id=record.id
        )
        return self._reply(response)

    async def list_models(self) -> tuple[str, ...]:
        """The names of the models that the upstream says it serves."""
        return tuple(model.id for model in await self.describe_models())

    async def describe_models(self) -> list["ListedModel"]:
        """The upstream's models, with what it says of them."""
        response = await self._client.request("GET", "/models", self._headers)
        try:
            body = await response.read(4 * 1024 * 1024)
        finally:
            response.close()
        if response.status != 200:
            raise UpstreamFailed(
                f"The upstream `{self._name}` answered {response.status} when asked for its models."
            )
        try:
            return msgspec.json.decode(body, type=_ModelList).data
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamFailed(
                f"The upstream `{self._name}` lists its models in no form we know: {error}"
            ) from None

    async def aclose(self) -> None:
        """Close the pool."""
        await self._client.aclose()

    def _reply(self, response: Response | ProxiedResponse) -> "UpstreamReply":
        if response.status == 401:
            response.close()
            raise UpstreamFailed(
                f"The upstream `{self._name}` refused our key (401).",
                code="upstream_refused_key",
                hint=f"Check `key_env` or `key_file` in [models.upstreams.{self._name}].",
            )
        if 300 <= response.status < 400:
            response.close()
            raise UpstreamFailed(
                f"The upstream `{self._name}` answered with a redirect, which is never followed.",
                hint=f"Write the final address into [models.upstreams.{self._name}] url.",
            )
        coding = response.header(b"content-encoding")
        if coding and coding.lower() != b"identity":  # passed on it would be garbage, opened perhaps a bomb
            raise self._refused(response, "compressed its answer, though it was asked not to")
        reply = UpstreamReply(response, event_bytes=self._event_bytes, answer_bytes=self._answer_bytes)
        declared = declared_bytes(response.header(b"content-length"))
        if declared > self._answer_bytes and not reply.head.streamed and response.whole is None:
            response.close()
            raise _too_large(self._answer_bytes)
        return reply

    def _refused(self, response: Response | ProxiedResponse, what: str) -> UpstreamFailed:
        response.close()
        return UpstreamFailed(f"The upstream `{self._name}` {what}.", code="upstream_malformed")


class UpstreamReply:
    """An upstream's answer, framed by event where it is a stream."""

    def __init__(self, response: Response | ProxiedResponse, *, event_bytes: int, answer_bytes: int) -> None:
        content_type = response.header(b"content-type") or b"application/json"
        self._response = response
        self._event_bytes = event_bytes
        self._answer_bytes = answer_bytes
        streamed = content_type.startswith(EVENT_STREAM)
        self.head = Head(
            response.status,
            content_type,
            streamed=streamed,
            length=len(response.whole) if response.whole is not None and not streamed else None,
            headers=tuple(_passed_back(response)),
        )

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._events() if self.head.streamed else self._pieces()

    async def aclose(self) -> None:
        """Give the connection back, or close it if the answer is not over: the upstream stops then."""
        self._response.close()

    async def _pieces(self) -> AsyncIterator[Chunk]:
        response = self._response
        if response.whole is not None:
            yield Chunk((response.whole,), response.arrived_ns)
            return
        left = self._answer_bytes
        async for piece in response:
            left -= len(piece.data)
            if left < 0:
                raise _too_large(self._answer_bytes)
            yield Chunk((piece.data,), piece.arrived_ns)

    async def _events(self) -> AsyncIterator[Chunk]:
        splitter = EventSplitter(self._event_bytes)
        async for piece in self._response:
            events, arrived_ns = splitter.feed(piece.data), piece.arrived_ns
            del piece  # a slow client must not keep it beside its events
            if events:
                yield Chunk(tuple(events), arrived_ns)
        rest = splitter.rest()
        if rest.strip():
            raise UpstreamFailed("The model's stream ended inside an event.", code="upstream_broke")


def _asking_for_usage(request: ChatRequest) -> ChatRequest:
    """The same request, its stream ending in the usage event; other options of the stream stay."""
    if "stream_options" not in request.fields:
        return request.adding("stream_options", _INCLUDE_USAGE)
    options = msgspec.json.decode(request.fields["stream_options"], type=dict[str, msgspec.Raw] | None) or {}
    options["include_usage"] = msgspec.Raw(b"true")
    return request.replacing({"stream_options": msgspec.json.encode(options)})


def _is_an_answer(head: Head) -> bool:
    """Whether a model's success can look so; whatever else comes with a 200 is some other server's page."""
    return head.streamed or b"json" in head.content_type.lower()


def _too_large(limit: int) -> UpstreamFailed:
    return UpstreamFailed(
        f"The model's answer is larger than {limit} bytes.",
        code="answer_too_large",
        hint="The setting models.answer_bytes bounds it.",
    )


def _passed_back(response: Response | ProxiedResponse) -> Iterator[tuple[bytes, bytes]]:
    """Headers of the upstream's answer that the client gets."""
    for name, value in response.headers:
        if name in _PASSED_BACK:
            yield name, value
        elif name == b"x-request-id":
            yield UPSTREAM_ID, value


class ListedModel(msgspec.Struct):
    """A model as an upstream lists it; `slipstream` is filled where the upstream is a Slipstream."""

    id: str
    owned_by: str = ""
    slipstream: dict[str, str | bool] = {}


class _ModelList(msgspec.Struct):
    data: list[ListedModel]


def upstream_key(name: str, settings: Upstream) -> str:
    """The API key of an upstream, from its file or environment variable; empty where none is set.

    Raises `ConfigurationError` for a file or a variable that is not there.
    """
    if settings.key_file:
        try:
            return pathlib.Path(settings.key_file).expanduser().read_text().strip()
        except OSError as error:
            raise ConfigurationError(
                f"The key file of the upstream `{name}` cannot be read: {error.strerror}.",
                hint=f"See [models.upstreams.{name}] key_file.",
            ) from None
    if settings.key_env:
        key = os.environ.get(settings.key_env, "")
        if not key:
            raise ConfigurationError(
                f"The environment variable {settings.key_env} of the upstream `{name}` is not set.",
                hint=f"Set it, or change [models.upstreams.{name}] key_env.",
            )
        return key
    return ""


def make_upstream(
    name: str, upstream: Upstream, models: Models, *, counters: Counters, key: str = ""
) -> OpenAIUpstream:
    """An upstream under the bounds that hold for all of them. Raises `ConfigurationError`."""
    return OpenAIUpstream(
        name,
        upstream,
        connect_seconds=models.connect_seconds,
        event_bytes=models.event_bytes,
        answer_bytes=models.answer_bytes,
        key=key,
        counters=counters,
    )


def connects_by(upstream: Upstream) -> Upstream:
    """What an upstream's connections depend on: all but how much of the traffic it gets, and of what."""
    return msgspec.structs.replace(upstream, weight=1.0, caches_prompts=False)
