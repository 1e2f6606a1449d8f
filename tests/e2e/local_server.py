"""A real server with the real embedded model whose settings a test changes while it is asked."""

import asyncio
import contextlib
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import msgspec
import psutil

from e2e.serving import Serving, serving
from slipstream.config.live import LiveServer
from slipstream.monitoring import admin
from slipstream.server.renewal import DoctorView, Renewed

LOOK_SECONDS = 0.01


def settings(**local: object) -> str:
    """A file in which the embedded model is set so."""
    lines = [f"{name} = {value}" for name, value in {"context_tokens": 512, **local}.items()]
    return "\n".join(["[models.embedder]", 'enabled = "off"', "[models.local]", *lines, ""])


@contextlib.contextmanager
def with_local(folder: Path, *arguments: str, **local: object) -> Iterator[Serving]:
    """A server with the embedded model, ready."""
    (folder / "slipstream.toml").write_text(settings(**local), "utf-8")
    with serving(folder, *arguments) as server:
        yield server


def live(server: Serving) -> LiveServer:
    return LiveServer(0, server.url, "", server.token, 0, "", "")


def reload(server: Serving, **local: object) -> Renewed:
    """Write other settings into the file and have the server take them."""
    (server.folder / "slipstream.toml").write_text(settings(**local), "utf-8")
    said = asyncio.run(admin.request(live(server), "POST", "settings/reload", seconds=100))
    return admin.understood(said, Renewed)


def in_force(server: Serving) -> DoctorView:
    return msgspec.convert(server.json("/_slipstream/doctor"), DoctorView)


def children(server: Serving) -> list[psutil.Process]:
    """The embedded model's processes."""
    found = []
    for each in server.processes():
        with contextlib.suppress(psutil.Error):
            if "local_child" in " ".join(each.cmdline()):
                found.append(each)
    return found


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(LOOK_SECONDS)


class Users:
    """People who ask one thing after the other, until told to stop."""

    def __init__(self, server: Serving, count: int, **fields: object) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._server = server
        self._fields = fields
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(at,)) for at in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Wait until so many more are answered."""
        goal = self.answered + count
        until(lambda: self.answered >= goal or bool(self.failures), 90)
        assert self.failures == []

    def _ask(self, number: int) -> None:
        while not self._over.is_set():
            try:
                self._server.ask(f"User {number} asks for a word.", **self._fields)
                self.answered += 1
            except urllib.error.HTTPError as error:
                with error:
                    self.failures.append(f"{error.code}: {error.read()[:300]!r}")
            except OSError as error:
                self.failures.append(repr(error))


def records(server: Serving) -> list[Mapping[str, object]]:
    """What was recorded, the oldest first."""
    time.sleep(0.5)  # the last ones are committed
    listed = server.json("/_slipstream/requests?limit=500")["data"]
    assert isinstance(listed, list)
    return sorted(listed, key=lambda record: record["arrived_wall_ns"])


def decoding(record: Mapping[str, object]) -> tuple[int, int]:
    """From when to when an answer was decoded, on the wall clock, in ns."""
    kept = msgspec.convert(record, _Kept)
    step = next(each for each in kept.steps if each.name == "decode")
    start = kept.arrived_wall_ns + step.start_ns
    return start, start + step.duration_ns


class _Step(msgspec.Struct):
    name: str
    start_ns: int
    duration_ns: int


class _Kept(msgspec.Struct):
    arrived_wall_ns: int
    steps: list[_Step]


def most_at_once(spans: list[tuple[int, int]]) -> int:
    """The most of these spans that overlap."""
    edges = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, edge in edges:
        now += edge
        most = max(most, now)
    return most
