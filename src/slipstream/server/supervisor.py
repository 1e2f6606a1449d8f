"""The supervisor: owns the public socket, the workers, the records, the embedded model and the keys.

It serves no request of the API itself. It decides when parts start and in which order they end.
"""

import asyncio
import contextlib
import functools
import logging
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import slipstream
from slipstream.config import live, paths
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError, StoreFailed
from slipstream.core.meters import Counters
from slipstream.models.local_process import LocalAddress
from slipstream.monitoring.slab import slab_folder
from slipstream.monitoring.use_rows import ResourceRows
from slipstream.profiling.memory import memory_profiler
from slipstream.server import garbage, messages
from slipstream.server.access import Access, check_address
from slipstream.server.alert_desk import AlertDesk
from slipstream.server.alerting import Alerting
from slipstream.server.control import ControlState
from slipstream.server.control_server import ControlServer
from slipstream.server.doctor_desk import DoctorDesk
from slipstream.server.exporting import Exporting
from slipstream.server.measuring import Measuring
from slipstream.server.own_use import announce_parts
from slipstream.server.process import start_worker
from slipstream.server.profile_desk import SUPERVISOR, ProfileDesk
from slipstream.server.recording import Recorder
from slipstream.server.renewal import Origin, Renewal, seen
from slipstream.server.series_keeper import SeriesKeeper
from slipstream.server.slots import Slot
from slipstream.server.sockets import allow_descriptors, bind_public, bind_unix, resolve
from slipstream.server.stalling import ProcessStalls
from slipstream.server.telling import Telling
from slipstream.server.upstream_health import upstream_health
from slipstream.store.keys import KeyStore

if TYPE_CHECKING:
    from starlette.applications import Starlette

WORKER = (sys.executable, "-P", "-m", "slipstream.server.worker")
"""The command of a worker; `-P`: nothing is imported from the folder that we happen to be started in."""
_KEYS_SECONDS = 0.5  # how often the keys are looked at; a revoked one must be refused within a second
_COMMIT_SECONDS = 3.0  # for the last records
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = logging.getLogger(__name__)


class Announcement(msgspec.Struct, frozen=True):
    """What to tell the person who started the server, once it serves."""

    url: str
    key_required: bool
    login_url: str
    """Opens the pages once without a key; empty where none is asked for."""
    local: LocalAddress | None
    """How far the embedded model is; None where it is off."""


class Supervisor:
    """One `slipstream serve`.

    Args:
        settings: what to serve.
        announce: called when the first worker serves, and again when keys begin to be asked for.
        origin: where the settings came from; None where they cannot be read again.
        ledger: reads the doctor's ledger, which stands above this; None = pages are told of none.
        worker: the command of a worker; its two descriptors are appended.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        announce: Callable[[Announcement], None],
        origin: Origin | None = None,
        ledger: Callable[[], msgspec.Struct] | None = None,
        worker: tuple[str, ...] = WORKER,
    ) -> None:
        self._settings = settings
        self._announce = announce
        self._announced = False
        self._telling = telling = Telling(settings)
        self._renewal = Renewal(settings, origin, telling.tell, self._mark_settings, prepare=telling.prepare)
        self._ledger = ledger
        self._counters = Counters()
        self._start = functools.partial(start_worker, worker)
        self._salt = secrets.token_bytes(16)
        self._signals = 0
        self._refusal: ConfigurationError | None = None

    async def run(self) -> int:
        """Serve until a signal has ended it; the exit status.

        Raises `ConfigurationError` and `StoreFailed` for what keeps it from serving at all.
        """
        # What is entered last is left first: workers, then records, model, control, registration.
        allow_descriptors()
        async with contextlib.AsyncExitStack() as parts:
            self._open_public(parts)
            self._open_control(parts)
            parts.enter_context(self._heeding_signals())
            await self._open_local(parts)
            await self._watch(parts)
            self._recorder.start()
            garbage.spare()
            self._watch_stalls(parts)
            parts.push_async_callback(self._recorder.aclose, _COMMIT_SECONDS)
            await self._run_workers()
        if self._refusal is not None:
            raise self._refusal
        return 0

    def greeting(self, slot: int) -> list[msgspec.Struct]:
        """What a new worker is told first; it begins when it has heard all."""
        told: list[msgspec.Struct] = [self._access.message()]
        if (address := self._telling.address) is not None:
            told.append(messages.Local(address))
        settings = msgspec.json.encode(self._renewal.settings)
        return [*told, messages.Begin(settings, slot, str(self._control_path), self._salt)]

    def heard(self, slot: int, message: messages.FromWorker) -> None:
        """What a worker says beyond its slot."""
        match message:
            case messages.Records(rows):
                self._recorder.take(rows)
                self._profiles.served(f"worker {slot}", rows)
            case messages.Ready():
                self._announce_once()
            case messages.Stalled(stall):
                self._profiles.stalled(f"worker {slot}", stall)
                self._renewal.stalled(seen(stall, slot))
            case messages.Profiled():
                self._profiles.profiled(f"worker {slot}", message)
            case messages.Took() | messages.LetGo():
                self._telling.heard(message)
            case messages.Refused(what, hint) if self._announced:  # others serve on
                _log.error("worker %d cannot serve: %s %s", slot, what, hint)
            case messages.Refused(what, hint):
                self._refusal = ConfigurationError(what, hint=hint)
                self._stop(0.0)
            case _:
                pass

    def _open_public(self, parts: contextlib.AsyncExitStack) -> None:
        """The public socket, and the keys that guard it."""
        settings = self._settings
        address = resolve(settings.server.host, settings.server.port)
        store = KeyStore(paths.keys_path(settings))
        parts.callback(store.close)
        self._token = live.new_token()
        loopback = address.is_loopback
        self._access = Access(store, settings.keys, loopback=loopback, own_secret=self._token)
        check_address(settings.server.host, has_keys=self._access.has_keys, loopback=loopback)
        self._listener = parts.enter_context(bind_public(address))
        self._url = address.url(self._listener.getsockname()[1])

    def _open_control(self, parts: contextlib.AsyncExitStack) -> None:
        """The registration, by which others on this machine find us, and the socket they then talk to."""
        settings, counters = self._settings, self._counters
        start = functools.partial(self._start, self._listener)
        self._slots = [Slot(index, start, self, counters) for index in range(settings.server.workers)]
        self._telling.slots = self._slots
        self._recorder = Recorder(paths.records_path(settings), settings.record, counters)
        self._state = ControlState(
            self._url,
            self._slots,
            access=self._access,
            recorder=self._recorder,
            counters=counters,
            local=self._local,
            renew_keys=self._tell_keys,
        )
        self._control_path = paths.state_folder(settings) / f"control-{secrets.token_hex(4)}.sock"
        parts.enter_context(
            live.register(
                settings,
                url=self._url,
                control=str(self._control_path),
                token=self._token,
                version=slipstream.__version__,
            )
        )
        _sweep_sockets(settings)
        self._renewal.begin(paths.settings_since_path(settings))
        listener = bind_unix(self._control_path)
        parts.callback(self._control_path.unlink, missing_ok=True)
        self._measure(parts)
        self._profiles = ProfileDesk(
            settings.profiling,
            self._slots,
            self._recorder,
            resources=lambda: ResourceRows(folder=paths.data_folder(settings)),
            pooled=lambda: self._renewal.settings.models.upstreams,
        )
        folders = {"data_folder": paths.data_folder(settings), "state_folder": paths.state_folder(settings)}
        self._doctor = DoctorDesk({name: str(each) for name, each in folders.items()}, self._ledger)
        parts.push_async_callback(self._doctor.cancel)
        control = ControlServer(listener, self._load_app)
        parts.push_async_callback(control.aclose)
        self._ending = parts.enter_context(contextlib.ExitStack())
        self._ending.callback(self._measuring.live.close)

    def _measure(self, parts: contextlib.AsyncExitStack) -> None:
        """The metrics: made before any worker starts, stored to the end when all are gone."""
        settings = self._settings
        keeper = SeriesKeeper(paths.series_path(settings))
        self._state.include("metrics", keeper.health)
        self._measuring = Measuring(
            slab_folder(self._control_path),
            settings.server.workers,
            self._counters,
            keeper=keeper,
            data_folder=paths.data_folder(settings),
        )
        parts.push_async_callback(self._measuring.aclose)
        self._exporting = Exporting(settings, self._measuring, self._recorder)
        parts.push_async_callback(self._exporting.aclose)

    async def _watch(self, parts: contextlib.AsyncExitStack) -> None:
        """The alerts: asked after each look at the metrics."""
        settings, measuring = self._settings, self._measuring
        self._alerting = Alerting(
            paths.alerts_path(settings), settings, measuring.readings, measuring.meter, url=self._url
        )
        self._state.include("alerts", self._alerting.health)
        self._desk = AlertDesk(self._alerting, list(settings.alerts.receivers))
        await self._alerting.start()
        with contextlib.suppress(StoreFailed):  # was told by the alerts
            await self._desk.mark_start(slipstream.__version__, live.fingerprint(settings)[:8])
        measuring.each_second(self._tell_health)
        measuring.each_second(self._alerting.look)
        parts.push_async_callback(self._alerting.aclose)

    def _watch_stalls(self, parts: contextlib.AsyncExitStack) -> None:
        """The supervisor's own loop; whoever it holds up waits for a page."""
        stalls = ProcessStalls(
            self._settings.profiling,
            SUPERVISOR,
            self._measuring.meter,
            tell=lambda stall: self._profiles.stalled(SUPERVISOR, stall),
            others=lambda request: 0,
        )
        stalls.start()
        parts.callback(stalls.stop)
        self._measuring.each_second(memory_profiler.note)
        announce_parts(self._measuring, self._recorder, self._alerting, stalls)

    async def _mark_settings(self, text: str) -> None:
        await self._desk.mark_settings(text)

    def _tell_health(self) -> None:
        for upstream, healthy in upstream_health(slot.endpoints for slot in self._slots).items():
            self._measuring.meter.set("upstream_healthy", healthy, upstream)

    async def _open_local(self, parts: contextlib.AsyncExitStack) -> None:
        """The embedded model, where it is on; it loads while the workers start."""
        from slipstream.wiring import local_enabled

        if not local_enabled(self._settings):
            return
        local = self._telling.embed(paths.data_folder(self._settings), self._counters)
        parts.push_async_callback(local.aclose)
        await local.start()

    def _local(self) -> tuple[str, LocalAddress] | None:
        address = self._telling.address
        return (self._settings.models.local.name, address) if address is not None else None

    async def _run_workers(self) -> None:
        """Return when the workers were told to end and every process is gone."""
        async with asyncio.TaskGroup() as running:
            beside = [
                running.create_task(self._watch_keys()),
                running.create_task(self._measuring.run()),
                running.create_task(self._exporting.run()),
                running.create_task(self._alerting.run()),
            ]
            await asyncio.wait([running.create_task(slot.run()) for slot in self._slots])
            for task in beside:
                task.cancel()

    def _stop(self, seconds: float) -> None:
        """Accept nothing more and end the workers within `seconds`. A second call hastens the first."""
        self._state.draining = True
        self._listener.close()
        self._telling.stop()
        self._doctor.stop()
        for slot in self._slots:
            slot.drain(seconds)

    @contextlib.contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        # Under nohup a hang-up is ignored, and must stay so.
        heeded = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        for each in heeded:
            loop.add_signal_handler(each, self._on_signal, each)
        try:
            yield
        finally:
            for each in heeded:
                loop.remove_signal_handler(each)

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        seconds = self._settings.server.drain_seconds if self._signals == 1 else 0.0
        under_way = sum(slot.in_flight for slot in self._slots)
        _log.info("%s: ending within %g s; requests under way: %d", number.name, seconds, under_way)
        self._stop(seconds)

    async def _watch_keys(self) -> None:
        told = self._access.message()
        while True:
            await asyncio.sleep(_KEYS_SECONDS)
            await asyncio.to_thread(self._access.read)
            current = self._access.message()
            if current != told:
                begun = current.required and not told.required
                told = current
                self._tell_keys()
                if begun:  # the pages were open until now; whoever sits here gets a link
                    self._announce_now()

    def _tell_keys(self) -> None:
        message = self._access.message()
        for slot in self._slots:
            slot.tell(message)

    def _announce_once(self) -> None:
        if self._announced:
            return
        self._announced = True
        self._announce_now()

    def _announce_now(self) -> None:
        required = self._access.required
        login = self._state.invite() if required else ""
        self._announce(Announcement(self._url, required, login, self._telling.address))

    def _load_app(self) -> "Callable[[], Starlette]":
        from slipstream.server.control_app import server_app

        return functools.partial(
            server_app,
            self._settings,
            self._state,
            measuring=self._measuring,
            recorder=self._recorder,
            profiles=self._profiles,
            alerts=self._desk,
            renewal=self._renewal,
            doctor=self._doctor,
            at_end=self._ending.callback,
        )


def _sweep_sockets(settings: Settings) -> None:
    """Delete the control sockets and slabs of servers that were killed.

    Live ones have registered before they bind.
    """
    alive = {server.control for server in live.live_servers(settings)}
    for path in paths.state_folder(settings).glob("control-*.sock"):
        if str(path) not in alive:
            path.unlink(missing_ok=True)
    folders = {slab_folder(Path(control)) for control in alive}
    for folder in paths.state_folder(settings).glob("metrics-*"):
        if folder not in folders:
            shutil.rmtree(folder, ignore_errors=True)
