"""The simulated LLM server: in this process (`run_simulator`) or in one of its own (`start_simulator`).

`python -m slipstream.testing.simulator` is the process: it prints its address when it is ready and ends
when its standard input is closed, so that none outlives whoever started it.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from slipstream.config.settings import Simulated
from slipstream.core.errors import ConfigurationError, Unavailable
from slipstream.testing.lifeline import serve_until_cut
from slipstream.testing.simulator_http import Connection
from slipstream.testing.simulator_service import Service, Stats

BACKLOG = 4096
"""Connections that the kernel may hold for us before they are accepted."""


class Orders(Struct, frozen=True, forbid_unknown_fields=True):
    """What a simulator's own process is told, as its one argument, in JSON."""

    settings: Simulated = Simulated()
    host: str = "127.0.0.1"
    port: int = 0
    models: tuple[str, ...] = ()
    script: str = ""


class Simulator:
    """A running server. Build it with `run_simulator`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._host = ""
        self._port = 0

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Its address, without the `/v1`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def stats(self) -> Stats:
        """What `GET /stats` says."""
        return self._service.stats()

    def behave(self, script: str) -> None:
        """From now on requests without a script of their own follow this one; empty = none.

        Raises `BadRequest` for what is no script.
        """
        self._service.behave(script)

    async def listen(self, host: str, port: int) -> None:
        """Open the port; 0 picks one. Raises `ConfigurationError` if it cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self._service, self._connections), host, port, backlog=BACKLOG
            )
        except OSError as error:
            raise ConfigurationError(
                f"The simulator cannot listen on {host}:{port}: {error.strerror}.", hint="Try another --port."
            ) from None
        self._host = host
        self._port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Stop listening and drop every connection. May be called twice."""
        if self._server is None:
            return
        self._server.close()
        left = tuple(self._connections)
        for connection in left:
            connection.transport.abort()
        if left:
            await asyncio.wait([connection.gone for connection in left])
        await self._server.wait_closed()
        self._server = None


@contextlib.asynccontextmanager
async def run_simulator(
    settings: Simulated | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    models: tuple[str, ...] = (),
    script: str = "",
) -> AsyncIterator[Simulator]:
    """A simulator on the running loop.

    Args:
        settings: times, slots, seed; default: no delay at all.
        host: address to listen on.
        port: port to listen on; 0 picks a free one.
        models: names that it serves; empty = any.
        script: what requests without a script of their own are told (docs/simulator.md).
    """
    simulator = Simulator(Service(settings or Simulated(), models=models, script=script))
    await simulator.listen(host, port)
    try:
        yield simulator
    finally:
        await simulator.aclose()


class SimulatorProcess:
    """A simulator in a process of its own. Build it with `start_simulator`."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self._process = process
        self.url = url

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close(self) -> None:
        """End it. May be called twice."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_simulator(
    settings: Simulated | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    models: tuple[str, ...] = (),
    script: str = "",
) -> SimulatorProcess:
    """A simulator in a process of its own, ready when this returns; the arguments are `run_simulator`'s.

    Raises `Unavailable` if it does not come up; why stands on standard error.
    """
    orders = Orders(settings or Simulated(), host, port, models, script)
    command = [
        sys.executable,
        "-m",
        __spec__.name if __spec__ else __name__,
        msgspec.json.encode(orders).decode(),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip()
    simulator = SimulatorProcess(process, url)
    if not url:
        simulator.close()
        raise Unavailable("The simulator's process did not start.", hint="Its standard error says why.")
    return simulator


def run_loop() -> asyncio.Runner:
    """A runner on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _serve(orders: Orders) -> None:
    """Serve until standard input is closed."""
    async with run_simulator(
        orders.settings, orders.host, orders.port, models=orders.models, script=orders.script
    ) as simulator:
        await serve_until_cut(simulator.url)


def main(arguments: list[str]) -> int:
    """The process. Exit status 2 = it could not start."""
    try:
        orders = msgspec.json.decode(arguments[0], type=Orders) if arguments else Orders()
        with run_loop() as runner:
            runner.run(_serve(orders))
    except (ConfigurationError, msgspec.ValidationError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
