"""The embedded model's process: started, watched, started again with back-off when it dies.

It owns the process and says where it is served; it sends no requests to it. There is one a Slipstream.
"""

import asyncio
import contextlib
import logging
import os
import random
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from slipstream.config.settings import Local
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError
from slipstream.core.meters import Counters
from slipstream.models import local_child
from slipstream.models.assets import find_local

log = logging.getLogger(__name__)

BATCH_TOKENS = 16
"""Prompt tokens evaluated in one go. llama.cpp sees that a client left between two of them, so one or two are
how long an unwanted prompt holds its slot, and how long the other slots' tokens wait behind a new prompt.

SmolLM2 on one core, CPU time a batch: 64 tokens 566 ms (113 tokens/s), 32 331 ms (97), 16 165 ms (97),
8 82 ms (97). Without `return_progress` a left prompt was evaluated to its end at any size: 10 s for 1,800
tokens.
"""
BACK_OFF_SECONDS = 0.25
BACK_OFF_SECONDS_MAX = 30.0
STEADY_SECONDS = 60.0
"""A process that was ready for so long starts the back-off afresh when it dies."""
MANY_DEATHS = 16
"""So many in a row are as bad as more."""
PATIENT_DEATHS = 2
"""After so many deaths in a row it still counts as loading, then as failed; it is tried again anyway."""
END_SECONDS = 2.0
"""How long the process may take to end after its lifeline is cut, before it is killed."""
LAST_LINES = 8
WORDS_BYTES = 4096
"""How much of the end of its standard error is kept."""
_STAMP = re.compile(r"^[\d.]+ [EWI] ")


class LocalAddress(msgspec.Struct, frozen=True):
    """Where the embedded model is served, or why it is not."""

    state: Literal["loading", "ready", "failed", "off"]
    url: str = ""
    key: str = ""
    detail: str = ""

    def __repr__(self) -> str:
        """Without the key: addresses end up in logs."""
        return f"LocalAddress({self.state!r}, {self.url!r}, detail={self.detail!r})"


OFF = LocalAddress("off")


class Orders(msgspec.Struct, frozen=True):
    """What the process is told on its standard input."""

    path: str
    key: str
    slots: int
    context_tokens: int
    batch_tokens: int
    threads: int
    http_threads: int
    prompt_cache_mib: int
    verbosity: int = 1
    """Errors only: more would show prompts."""


class Ready(msgspec.Struct):
    """What the process says when it is served."""

    url: str


class LocalProcess:
    """Keeps the embedded model's process running.

    Args:
        settings: its section of the settings.
        data_folder: where pulled models and digest stamps lie.
        counters: where restarts are counted.
        is_trial: where its first start fails it is `failed` for good; once it was ready it is as any other.

    Example:
        process = LocalProcess(settings.models.local, data_folder(settings), counters=counters)
        await process.start()
        try: ...
        finally:
            await process.aclose()
    """

    def __init__(
        self, settings: Local, data_folder: Path, *, counters: Counters, is_trial: bool = False
    ) -> None:
        self._settings = settings
        self._data_folder = data_folder
        self._counters = counters
        self._address = OFF
        self._callbacks: list[Callable[[LocalAddress], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._is_trial = is_trial
        self._is_retired = False
        self._pid = 0
        self._logged = ("", "")

    @property
    def address(self) -> LocalAddress:
        """Where it is served now."""
        return self._address

    @property
    def pid(self) -> int:
        """The process's id; 0 where none runs."""
        return self._pid

    def on_change(self, callback: Callable[[LocalAddress], None]) -> None:
        """Call `callback` with the address now and at every change."""
        self._callbacks.append(callback)
        callback(self._address)

    async def start(self) -> None:
        """Begin to load; returns at once. What goes wrong is in the log and in `address`."""
        assert self._task is None
        self._say(LocalAddress("loading"))
        self._task = asyncio.create_task(self._keep_running(), name="embedded model")

    def take(self, settings: Local) -> None:
        """Start it with other settings from the next time on; the one that runs stays as it is."""
        self._settings = settings

    def retire(self) -> None:
        """Start it no more when it ends."""
        self._is_retired = True

    async def aclose(self) -> None:
        """End the process and wait until it is gone, whoever else ends it too."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._say(OFF)

    async def _keep_running(self) -> None:
        deaths = 0
        while True:
            try:
                path = await asyncio.to_thread(find_local, self._settings, self._data_folder)
            except ConfigurationError as error:  # somebody may put it right while we run: `slipstream pull`
                if self._is_over(str(error)):
                    return
                self._down("failed", str(error), BACK_OFF_SECONDS_MAX)
                await asyncio.sleep(back_off(MANY_DEATHS, _chance()))
                continue
            steady, how, said = await self._live(path)
            if self._is_over(how, said):
                return
            deaths = 1 if steady else deaths + 1
            seconds = back_off(deaths, _chance())
            self._down("loading" if deaths <= PATIENT_DEATHS else "failed", how, seconds, said=said)
            await asyncio.sleep(seconds)
            self._counters.count("local_restarts")

    def _is_over(self, how: str, said: str = "") -> bool:
        """Whether there is no next start: it was retired, or it was tried and never became ready."""
        if self._is_retired:
            self._say(OFF)
        elif self._is_trial:
            log.error("the embedded model did not start: %s", f"{how}: {said}" if said else how)
            self._say(LocalAddress("failed", detail=how))
        return self._is_retired or self._is_trial

    def _down(self, state: Literal["loading", "failed"], how: str, seconds: float, *, said: str = "") -> None:
        detail = f"{how}: {said}" if said else how
        if (state, how) != self._logged:
            log.error("the embedded model is down, next start in %.1f s: %s", seconds, detail)
            self._logged = (state, how)
        self._say(LocalAddress(state, detail=how))  # without its words: clients and pages see this

    async def _live(self, path: Path) -> tuple[bool, str, str]:
        """One life of the process: whether it was a steady one, how it ended, and its last words."""
        key = secrets.token_urlsafe(32)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the folder of this file holds names such as `openai`
            local_child.__file__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._pid = process.pid
        words = asyncio.create_task(_last_words(process.stderr), name="embedded model's stderr")
        ready_ns = 0
        try:
            process.stdin.write(msgspec.json.encode(self._orders(path, key)) + b"\n")
            url = await self._url(process.stdout)
            if url:
                ready_ns = clock.monotonic_ns()
                log.info("the embedded model is ready: %s", path.name)
                self._logged = ("", "")
                self._is_trial = False
                self._say(LocalAddress("ready", url, key))
                await process.wait()
        finally:
            self._pid = 0
            await _end(process)
            said = await words
        if ready_ns:
            said = ""  # what llama.cpp says while it serves may hold text of requests
        steady = bool(ready_ns) and clock.monotonic_ns() - ready_ns > STEADY_SECONDS * 1e9
        return steady, how_it_ended(process.returncode, self._settings.start_seconds), said

    async def _url(self, stdout: asyncio.StreamReader) -> str:
        """Where it is served; empty if it ended or took too long."""
        try:
            async with asyncio.timeout(self._settings.start_seconds):
                line = await stdout.readline()
        except TimeoutError:
            return ""
        try:
            return msgspec.json.decode(line, type=Ready).url
        except (msgspec.DecodeError, msgspec.ValidationError):  # it died before it had said anything
            return ""

    def _orders(self, path: Path, key: str) -> Orders:
        settings = self._settings
        return Orders(
            path=str(path),
            key=key,
            slots=settings.slots,
            context_tokens=settings.context_tokens,
            batch_tokens=max(BATCH_TOKENS, 2 * settings.slots),
            threads=settings.threads or threads_for(cores()),
            http_threads=4 * settings.slots + 8,
            prompt_cache_mib=settings.prompt_cache_mib,
        )

    def _say(self, address: LocalAddress) -> None:
        if address != self._address:
            self._address = address
            for callback in self._callbacks:
                callback(address)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def threads_for(cores: int) -> int:
    """Threads for inference: one is left to the gateway where there are more than two.

    Threads of llama.cpp wait for each other at every layer, so one core taken away slows all of them; two
    cores are used both because alone 2 threads decode 117 tokens/s where one decodes 72.
    """
    return cores if cores <= 2 else cores - 1


def back_off(deaths: int, chance: float) -> float:
    """Seconds to wait after the `deaths`-th death in a row; `chance` in [0, 1) spreads it by half."""
    exponent = min(deaths, MANY_DEATHS) - 1
    return min(BACK_OFF_SECONDS * 2.0**exponent, BACK_OFF_SECONDS_MAX) * (0.5 + chance / 2)


def _chance() -> float:
    return random.random()  # noqa: S311  # spreads restarts; nothing is kept secret by it


def how_it_ended(status: int | None, start_seconds: float) -> str:
    """The end of a process in words."""
    if status == local_child.EXIT_NOT_INSTALLED:
        return 'xllamacpp is not installed; install it with: pip install "slipstream[local]"'
    if status == local_child.EXIT_NOT_LOADED:
        return "the model cannot be loaded"
    if status == 0:  # it obeyed when its lifeline was cut
        return f"it was not ready within {start_seconds:g} s"
    if status is not None and status < 0:
        return f"its process was killed by signal {-status}"
    return f"its process ended with status {status}"


async def _last_words(stderr: asyncio.StreamReader) -> str:
    """The last lines of standard error, when it has ended."""
    tail = b""
    while piece := await stderr.read(WORDS_BYTES):
        tail = (tail + piece)[-WORDS_BYTES:]
    lines = tail.decode("utf-8", "replace").splitlines()[-LAST_LINES:]
    plain = ("".join(filter(str.isprintable, line)) for line in lines)
    return " | ".join(_STAMP.sub("", line).strip() for line in plain)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Cut the lifeline, and kill what does not end by itself."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
