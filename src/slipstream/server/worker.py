"""A worker process: serves the public socket it inherited, and does what the supervisor says.

Started as `python -m slipstream.server.worker LISTENER LINE` with the two descriptors' numbers.
It ends when it has drained, and at once when the line to its supervisor breaks: no orphan is left.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from slipstream.config.logs import set_up_logs
from slipstream.config.settings import Recording, Settings
from slipstream.core.errors import SlipstreamError
from slipstream.core.keys import keyring
from slipstream.core.meters import Counters
from slipstream.core.ports import RecordSink
from slipstream.core.use import USE
from slipstream.gateway.server import GatewayServer
from slipstream.models.local_process import OFF
from slipstream.monitoring.slab import slab_folder
from slipstream.profiling.memory import memory_profiler
from slipstream.server import garbage, messages
from slipstream.server.channel import Channel
from slipstream.server.self_profile import SelfProfile
from slipstream.server.sink import ChannelSink, NoSink
from slipstream.server.stalling import ProcessStalls
from slipstream.server.worker_metrics import WorkerMetrics, claim_slot
from slipstream.wiring import Parts, build_parts

_log = logging.getLogger(__name__)
_STATUS_SECONDS = 1.0
_FLUSH_SECONDS = 1.0  # for the last records, once nothing is served any more; within the grace of the slot
_ABANDON_SECONDS = 2.0  # for ending tidily once the supervisor is gone


class Worker:
    """What one worker was told last, and the line on which it was told."""

    def __init__(self) -> None:
        self.channel = Channel[messages.ToWorker](messages.ToWorker, self._on_message, self._on_close)
        self._counters = Counters()
        self._local = OFF
        self._keyring = keyring((), required=True)
        self._begin: messages.Begin | None = None
        self._parts: Parts | None = None
        self._letting_go: set[asyncio.Task[None]] = set()
        self._began = asyncio.Event()
        self._drain_seconds: float | None = None  # None = go on serving
        self._ordered = asyncio.Event()  # to drain, or to drain faster
        self._terms = 0
        self._records: ChannelSink | NoSink = NoSink()
        self._profile = SelfProfile(self.channel.send)

    async def run(self, listener: socket.socket) -> int:
        """Serve `listener` until told to end; the exit status."""
        await self._began.wait()
        if self._begin is None:
            return 1
        settings = msgspec.json.decode(self._begin.settings, type=Settings)
        set_up_logs(settings.log)
        self._records = sink = self._sink(settings.record)
        metrics = self._measure(self._begin)
        try:
            parts = self._build(settings, metrics.sink(sink))
            server = self._server(settings, parts, self._begin.control_socket)
            parts.start()
            self._parts = parts
            await server.start(listener)
        except SlipstreamError as error:
            self.channel.send(messages.Refused(error.message, error.hint))
            return 1
        garbage.spare()
        metrics.start()
        stalls = self._watch_stalls(settings, server, metrics)
        self.channel.send(messages.Ready(os.getpid()))
        reporting = asyncio.create_task(self._report(server, parts, metrics))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._on_sigterm, settings)
        await self._ordered.wait()
        await self._drain(server)
        await server.aclose()
        await parts.aclose()
        reporting.cancel()
        stalls.stop()
        self._profile.cancel()
        await sink.close(_FLUSH_SECONDS)
        self.channel.send(messages.Status(0, self._counters.snapshot()))
        metrics.close()
        return 0

    async def hang_up(self) -> None:
        """Let what was said arrive, then close the line."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.channel.all_sent(), _FLUSH_SECONDS)
        self.channel.close()

    def _renew(self, renewal: messages.Renew) -> None:
        """Take other settings; where they cannot be taken, those before hold on."""
        if renewal.local is not None:
            self._local = renewal.local
        if self._parts is not None:
            settings = msgspec.json.decode(renewal.settings, type=Settings)
            self._parts.renew_local(settings.models)
            try:
                self._parts.renew(settings)
            except SlipstreamError as error:
                self._counters.count("unexpected_errors")
                _log.error("other settings were not taken: %s", error)
        elif self._begin is not None:  # it is about to begin: with these
            self._begin = msgspec.structs.replace(self._begin, settings=renewal.settings)
        self.channel.send(messages.Took(renewal.number, os.getpid()))
        task = asyncio.create_task(self._let_go(renewal.number), name="let the old embedded model go")
        self._letting_go.add(task)
        task.add_done_callback(self._letting_go.discard)

    async def _let_go(self, number: int) -> None:
        if self._parts is not None:
            await self._parts.left_local()
        self.channel.send(messages.LetGo(number, os.getpid()))

    def _sink(self, settings: Recording) -> ChannelSink | NoSink:
        return ChannelSink(self.channel, settings, self._counters) if settings.enabled else NoSink()

    def _measure(self, begin: messages.Begin) -> WorkerMetrics:
        slab = claim_slot(slab_folder(Path(begin.control_socket)), begin.slot, self._counters)
        return WorkerMetrics(slab, f"worker {begin.slot}", self._counters)

    def _build(self, settings: Settings, sink: RecordSink) -> Parts:
        return build_parts(
            settings,
            sink=sink,
            counters=self._counters,
            keyring=lambda: self._keyring,
            salt=self._begin.salt if self._begin is not None else b"",
            local_address=lambda: self._local,
        )

    def _server(self, settings: Settings, parts: Parts, control_socket: str) -> GatewayServer:
        return GatewayServer(
            settings,
            parts,
            keyring=lambda: self._keyring,
            control_socket=control_socket,
            counters=self._counters,
        )

    def _watch_stalls(
        self, settings: Settings, server: GatewayServer, metrics: WorkerMetrics
    ) -> ProcessStalls:
        stalls = ProcessStalls(
            settings.profiling,
            metrics.process,
            metrics.meter,
            tell=lambda stall: self.channel.send(messages.Stalled(stall)),
            others=server.others,
        )
        stalls.start()
        if isinstance(self._records, ChannelSink):
            USE.announce("record queue", self._records.use)
        USE.announce("event loop", lambda: metrics.loop_row(stalls.count))
        return stalls

    async def _drain(self, server: GatewayServer) -> None:
        server.begin_drain()
        while self._ordered.is_set():
            self._ordered.clear()
            assert self._drain_seconds is not None
            draining = asyncio.ensure_future(server.drain(self._drain_seconds))
            faster = asyncio.ensure_future(self._ordered.wait())
            await asyncio.wait((draining, faster), return_when=asyncio.FIRST_COMPLETED)
            faster.cancel()
            draining.cancel()
            await asyncio.wait((draining, faster))

    async def _report(self, server: GatewayServer, parts: Parts, metrics: WorkerMetrics) -> None:
        while True:
            await asyncio.sleep(_STATUS_SECONDS)
            metrics.look(server.in_flight, server.oldest_ns)
            memory_profiler.note()
            self.channel.send(
                messages.Status(
                    server.in_flight, self._counters.snapshot(), parts.endpoints(), tuple(USE.rows())
                )
            )

    def _on_message(self, message: messages.ToWorker) -> None:
        match message:
            case messages.Begin():
                self._begin = message
                self._began.set()
            case messages.Keys(entries, required):
                self._keyring = keyring(entries, required=required)
            case messages.Local(address):
                self._local = address
            case messages.Renew():
                self._renew(message)
            case messages.Drain(seconds):
                self._order(seconds)
            case messages.Profile():
                self._profile.begin(message)
            case messages.Unwanted(number):
                self._profile.end(number)

    def _on_close(self) -> None:
        """The supervisor is gone. Nobody will restart, drain or record: end now."""
        asyncio.get_running_loop().call_later(_ABANDON_SECONDS, os._exit, 1)
        self._began.set()
        self._order(0.0)

    def _on_sigterm(self, settings: Settings) -> None:
        self._terms += 1
        if self._terms > 1:
            self._order(0.0)
        elif self._drain_seconds is None:
            self.channel.send(messages.Leaving())
            self._order(settings.server.drain_seconds)

    def _order(self, seconds: float) -> None:
        self._drain_seconds = seconds
        self._ordered.set()


async def _serve(listener: socket.socket, line: socket.socket) -> int:
    worker = Worker()
    await asyncio.get_running_loop().create_unix_connection(lambda: worker.channel, sock=line)
    try:
        return await worker.run(listener)
    finally:
        await worker.hang_up()


def main(arguments: list[str]) -> int:
    """Run a worker on the descriptors named in `arguments`; the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the supervisor, which drains us
    listener, line = (socket.socket(fileno=int(number)) for number in arguments)
    with listener, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(listener, line))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
