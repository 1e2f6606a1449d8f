"""What a script gets: `model`, `generate_response` and its async twin.

They use the live server of the same settings where there is one, and else run the same way inside this
process, with the embedded model as a child of it. All of it lives on the portal's loop, so one process
has one model however many threads and event loops call it.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import msgspec

from slipstream.config import paths
from slipstream.config.live import LiveServer, find_live
from slipstream.config.load import load
from slipstream.config.settings import Local, Settings, Upstream
from slipstream.core.completion import Completion, Delta, completion
from slipstream.core.errors import SlipstreamError, Unavailable
from slipstream.core.keys import keyring
from slipstream.core.meters import Counters
from slipstream.core.portal import PORTAL
from slipstream.core.ports import RecordSink
from slipstream.core.record import Record, record_from_json
from slipstream.flow.converse import Message, chat_body, converse
from slipstream.models.assets import is_embedder_installed, is_local_installed
from slipstream.models.local_process import OFF, LocalAddress, LocalProcess
from slipstream.monitoring.own_process import OWN_PROCESS
from slipstream.net.client import HttpClient
from slipstream.store.writer import RecordWriter
from slipstream.wiring import ModelInfo, Parts, build_parts, local_enabled

log = logging.getLogger(__name__)

RECORD_TRIES, RECORD_PAUSE_SECONDS = 40, 0.025
"""How often the live server is asked for the record of an answer, which is there within 0.1 s."""

CLOSE_SECONDS = 5.0
"""How long the last records may take to be written."""

RUNTIMES_MAX = 4
"""How many servers stay connected while no call uses them."""

Prompt = str | Sequence[Message]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of a call that a script may set; None leaves the model's default."""

    model: str = ""
    server: str = ""
    """URL or process id of the live server to use, where there are several."""
    max_tokens: int | None = None
    temperature: float | None = None


DEFAULTS = Options()


class DefaultModel:
    """The default model of the settings, called directly. Builds nothing before its first call."""

    async def generate(self, prompt: Prompt, options: Options = DEFAULTS) -> Completion:
        """The whole answer to `prompt`, with its `.usage`, `.timings`, `.model` and `.finish_reason`.

        Raises `SlipstreamError`. Works under any event loop; cancelling it stops the model.
        """
        return await PORTAL.run(_complete(prompt, options))

    async def generate_stream(self, prompt: Prompt, options: Options = DEFAULTS) -> AsyncIterator[Delta]:
        """The answer piece by piece, each a `str` with `.arrived_ns`. Leaving the loop stops the model."""
        async with contextlib.aclosing(_stream(prompt, options)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Delta):
                    yield piece

    def __repr__(self) -> str:
        return "<slipstream.model: the default model of the settings>"


model = DefaultModel()


def generate_response(prompt: Prompt, options: Options = DEFAULTS) -> Completion:
    """Ask the assistant and wait for the whole answer; the way of a request in full.

    Raises `SlipstreamError`, and `RuntimeError` inside a running event loop, which it would block.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return PORTAL.call(_complete(prompt, options))
    raise RuntimeError(
        "generate_response would block the running event loop; use `await agenerate_response(prompt)` here."
    )


async def agenerate_response(prompt: Prompt, options: Options = DEFAULTS) -> Completion:
    """The same for code that runs on an event loop."""
    return await PORTAL.run(_complete(prompt, options))


async def stream_response(
    prompt: Prompt, options: Options = DEFAULTS
) -> AsyncGenerator[Delta | Completion, None]:
    """The answer piece by piece, and at the end the whole of it as a `Completion`."""
    async with contextlib.aclosing(_stream(prompt, options)) as pieces:
        async for piece in pieces:
            yield piece


def list_models(server: str = "") -> list[ModelInfo]:
    """The models that can be asked for: the live server's, or those this process would run; starts none."""
    return PORTAL.call(_list_models(server))


class _Runtime:
    """What runs on the portal's loop: parts for one server, or for this process alone."""

    def __init__(self, settings: Settings, server: LiveServer | None) -> None:
        self.users = 0
        """Calls that run on it."""
        self._counters = Counters()
        self._writer: RecordWriter | None = None
        self._process: LocalProcess | None = None
        self._address = OFF
        self._changed = asyncio.Event()
        self._server_client = HttpClient(server.url) if server is not None else None
        self._authorization = b"Bearer " + server.token.encode() if server is not None else b""
        if server is not None:
            settings = _attached(settings, server)
        elif local_enabled(settings):
            self._process = LocalProcess(
                settings.models.local, paths.data_folder(settings), counters=self._counters
            )
            self._address = LocalAddress(state="loading", url="", key="", detail="")
        if server is None and settings.record.enabled:
            self._writer = RecordWriter(paths.records_path(settings), settings.record, self._counters)
        ring = keyring([], required=False)
        self.parts: Parts = build_parts(
            settings,
            sink=self._sink(measured=server is None),
            counters=self._counters,
            keyring=lambda: ring,
            local_address=lambda: self._address,
            upstream_keys={"live": server.token} if server is not None else {},
        )

    async def start(self) -> None:
        """Start what runs beside the calls; a store that cannot be written is survived."""
        if self._writer is not None:
            try:
                self._writer.start()
            except SlipstreamError as error:
                log.warning("requests are not recorded: %s", error)
        if self._process is not None:
            self._process.on_change(self._on_change)
            await self._process.start()

    async def ready(self) -> None:
        """Wait until the embedded model has loaded, where there is one."""
        while self._process is not None and self._address.state == "loading":
            self._changed.clear()
            await self._changed.wait()
        if self._address.state == "failed":
            raise Unavailable(f"The embedded model does not start: {self._address.detail}")

    async def aclose(self) -> None:
        """Stop the model, write the last records."""
        await self.parts.aclose()
        if self._server_client is not None:
            await self._server_client.aclose()
        if self._process is not None:
            await self._process.aclose()
        if self._writer is not None:
            try:
                await asyncio.to_thread(self._writer.close, CLOSE_SECONDS)
            except RuntimeError:  # the interpreter ends: threads take no more work, and nobody waits here
                self._writer.close(CLOSE_SECONDS)

    async def as_served(self, answer: Completion) -> Completion:
        """The answer with what the server that gave it has on record; as it is where there is no server."""
        if self._server_client is None or not answer.upstream_request_id:
            return answer
        record = await _server_record(self._server_client, self._authorization, answer.upstream_request_id)
        return answer if record is None else completion(str(answer), record)

    def _sink(self, *, measured: bool) -> RecordSink:
        """Where records go; those of a live server are measured there."""
        kept: RecordSink = self._writer or _Nowhere()
        return OWN_PROCESS.sink(kept) if measured else kept

    def _on_change(self, address: LocalAddress) -> None:
        self._address = address
        self._changed.set()


class _Nowhere:
    """Takes no record: the live server keeps the one of its own."""

    def take(self, record: Record) -> None:
        """Let it go."""


_Key = tuple[int, str] | None
"""Process id and URL of a live server; None for what runs in this process."""


class _Runtimes:
    """A runtime for each server that is called, the last used at the end; lives on the portal's loop.

    One that is superseded is closed when its last call has left: what runs in this process as soon as a
    server is used instead, a server's when more than `RUNTIMES_MAX` were used since.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a forked child: what runs, runs in the parent."""
        self._open: dict[_Key, _Runtime] = {}
        self._closing: dict[_Key, asyncio.Task[None]] = {}
        self._lock: asyncio.Lock | None = None

    @contextlib.asynccontextmanager
    async def lease(self, settings: Settings, server: LiveServer | None) -> AsyncIterator[_Runtime]:
        """The runtime of a call; it is not closed before the call has left."""
        if self._lock is None:
            self._lock = asyncio.Lock()
            PORTAL.before_exit(self._end)
        async with self._lock:
            runtime = await self._opened(settings, server)
            runtime.users += 1
        try:
            self._close_superseded()
            yield runtime
        finally:
            runtime.users -= 1
            self._close_superseded()

    async def _opened(self, settings: Settings, server: LiveServer | None) -> _Runtime:
        key = (server.pid, server.url) if server is not None else None
        while (closing := self._closing.get(key)) is not None:  # no second embedded model beside the first
            await asyncio.wait([closing])
        runtime = self._open.pop(key, None)
        if runtime is None:
            runtime = _Runtime(settings, server)
            await runtime.start()
        self._open[key] = runtime
        return runtime

    def _close_superseded(self) -> None:
        keys = list(self._open)
        kept = {key for key in keys[-RUNTIMES_MAX:] if key is not None} | {*keys[-1:]}
        for key in keys:
            if key not in kept and not self._open[key].users:
                self._close(key)

    def _close(self, key: _Key) -> None:
        task = asyncio.create_task(self._open.pop(key).aclose(), name="close a runtime")
        self._closing[key] = task
        task.add_done_callback(lambda _: self._closing.pop(key))

    async def _end(self) -> None:
        for key in list(self._open):
            self._close(key)
        if self._closing:  # all of them, whatever becomes of one
            await asyncio.wait(self._closing.values())


_RUNTIMES = _Runtimes()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_RUNTIMES.forget)


def _settings_and_server(named: str) -> tuple[Settings, LiveServer | None]:
    settings = load()
    return settings, find_live(settings, server=named or None)


async def _server_record(client: HttpClient, authorization: bytes, request_id: str) -> Record | None:
    """The record that the live server keeps of a request; it may come a moment after the answer."""
    for _ in range(RECORD_TRIES):
        response = await client.request(
            "GET", f"/_slipstream/requests/{request_id}", ((b"authorization", authorization),)
        )
        try:
            body = await response.read(1024 * 1024)
        finally:
            response.close()
        if response.status == 200:
            return record_from_json(body)
        if response.status != 404:
            return None
        await asyncio.sleep(RECORD_PAUSE_SECONDS)
    return None


def _attached(settings: Settings, server: LiveServer) -> Settings:
    """Settings under which every call goes to a live server."""
    models = msgspec.structs.replace(
        settings.models,
        upstreams={"live": Upstream(url=f"{server.url.rstrip('/')}/v1", models=("*",))},
        simulated={},
        aliases={},
        fallbacks={},
        default="",
        local=Local(enabled="off"),
        embedder=msgspec.structs.replace(settings.models.embedder, enabled="off"),
        attempts=1,
    )
    return msgspec.structs.replace(settings, models=models)


async def _talk(prompt: Prompt, options: Options) -> AsyncGenerator[Delta | Completion, None]:
    body = chat_body(prompt, options.model, max_tokens=options.max_tokens, temperature=options.temperature)
    settings, server = await asyncio.to_thread(_settings_and_server, options.server)  # it reads files
    async with _RUNTIMES.lease(settings, server) as runtime:
        await runtime.ready()
        async with contextlib.aclosing(converse(body, runtime.parts.way)) as pieces:
            async for piece in pieces:
                yield await runtime.as_served(piece) if isinstance(piece, Completion) else piece


async def _complete(prompt: Prompt, options: Options) -> Completion:
    async with contextlib.aclosing(_talk(prompt, options)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Completion):
                return piece
    raise AssertionError("a conversation ends with its completion or an error")


async def _stream(prompt: Prompt, options: Options) -> AsyncGenerator[Delta | Completion, None]:
    async with contextlib.aclosing(PORTAL.iterate(_talk(prompt, options))) as pieces:
        async for piece in pieces:
            yield piece


async def _list_models(named: str) -> list[ModelInfo]:
    settings, server = await asyncio.to_thread(_settings_and_server, named)
    if server is None:
        return await _would_run(settings)
    async with _RUNTIMES.lease(settings, server) as runtime:
        return await runtime.parts.remote_models("live")


async def _would_run(settings: Settings) -> list[ModelInfo]:
    """The models of the settings; of those that run in this process, whether their files are here."""
    ring = keyring([], required=False)
    parts = build_parts(
        settings,
        sink=_Nowhere(),
        counters=Counters(),
        keyring=lambda: ring,
        local_address=lambda: OFF,
    )
    here = {
        "local": lambda: is_local_installed(settings.models.local, paths.data_folder(settings)),
        "embedder": lambda: is_embedder_installed(settings.models.embedder),
    }
    try:
        return [
            msgspec.structs.replace(each, state="installed" if here[each.backend]() else "not installed")
            if each.backend in here
            else each
            for each in parts.models()
        ]
    finally:
        await parts.aclose()
