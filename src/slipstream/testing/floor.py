"""The floor of this host: a bare proxy and the gateway, measured in turn in front of the same mock upstream.

Everything runs on loopback in processes of ours that end with the measurement.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable

import msgspec
from msgspec import Struct

from slipstream.core.errors import Unavailable
from slipstream.testing.floor_driver import Run, drive, request_bytes
from slipstream.testing.floor_gateway import Gateway, cpu_seconds, gateway_folder, records_of, run_gateway
from slipstream.testing.floor_probe import Waits
from slipstream.testing.floor_process import Child, Cores, child, on_core, share_out
from slipstream.testing.floor_report import FloorReport, Measured, report

CONNECTIONS = (1, 32)
ROUNDS = 3
WARM_SECONDS = 0.25
ALONE, LOADED, WARM = "floor-alone", "floor-loaded", "floor-warm"
"""Model names that tell the phases apart in the gateway's records."""

Told = Callable[[str, float], None]
"""Called with what is being done and the share of the work that is behind us."""


class Aim(Struct, frozen=True):
    """A target to drive."""

    name: str
    port: int
    pid: int | None
    """Whose CPU time counts, children included; None = nobody's."""


async def measure(seconds: float, told: Told) -> FloorReport:
    """Measure the floor of this host and the gateway above it.

    Args:
        seconds: to drive each target, divided among the rounds and both loads.
        told: hears how far it is.

    Raises `Unavailable` if one of the processes does not come up or nothing is answered.
    """
    cores = share_out()
    told("starting", 0.0)
    with contextlib.ExitStack() as folders:
        async with contextlib.AsyncExitStack() as parts:
            mock = await parts.enter_async_context(
                child("slipstream.testing.floor_mock", core=cores.upstream)
            )
            probe = await parts.enter_async_context(
                child("slipstream.testing.floor_probe", str(mock.port), core=cores.proxy)
            )
            folder = folders.enter_context(gateway_folder(mock.port, (ALONE, LOADED, WARM)))
            gateway = await parts.enter_async_context(run_gateway(folder, core=cores.proxy))
            with on_core(cores.driver):
                runs, waits_us = await _rounds(_aims(mock, probe, gateway), seconds, told)
            told("reading the records", 1.0)
        return report(runs, waits_us, records_of(gateway, ALONE), doubts=_surroundings(cores))


def _aims(mock: Child, probe: Child, gateway: Gateway) -> tuple[Aim, ...]:
    return (
        Aim("direct", mock.port, None),
        Aim("floor", probe.port, probe.pid),
        Aim("gateway", gateway.port, gateway.pid),
    )


async def _rounds(
    aims: tuple[Aim, ...], seconds: float, told: Told
) -> tuple[dict[str, dict[int, list[Measured]]], list[float]]:
    """Drive the targets in turn, so that whatever else the machine does falls on all alike."""
    runs: dict[str, dict[int, list[Measured]]] = {
        aim.name: {count: [] for count in CONNECTIONS} for aim in aims
    }
    waits_us: list[float] = []
    each = seconds / ROUNDS / len(CONNECTIONS)
    whole, done = ROUNDS * len(aims) * len(CONNECTIONS), 0
    for aim in aims:
        await _driven(aim, WARM, CONNECTIONS[-1], WARM_SECONDS)
    for _ in range(ROUNDS):
        for count in CONNECTIONS:
            for aim in aims:
                told(f"{aim.name}, {count} at a time", done / whole)
                if aim.name == "floor":
                    await _waits(aim.port)  # forget what came before
                runs[aim.name][count].append(await _driven(aim, ALONE if count == 1 else LOADED, count, each))
                if aim.name == "floor" and count == 1:
                    waits_us.append(await _waits(aim.port))
                done += 1
    return runs, waits_us


async def _driven(aim: Aim, model: str, connections: int, seconds: float) -> Measured:
    before = cpu_seconds(aim.pid) if aim.pid is not None else 0.0
    try:
        run: Run = await drive(aim.port, request_bytes(model, aim.port), connections, seconds)
    except OSError as error:
        raise Unavailable(f"The target `{aim.name}` cannot be reached: {error.strerror}.") from None
    if not run.answered:
        raise Unavailable(
            f"The target `{aim.name}` served nothing: {run.failed} requests failed or found no answer.",
            hint="Try more --seconds; what `slipstream serve` itself says shows why.",
        )
    cpu = cpu_seconds(aim.pid) - before if aim.pid is not None else None
    return Measured(run, connections, cpu)


async def _waits(port: int) -> float:
    """What the bare proxy has seen of the upstream's time since it was last asked; 0 if nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /wait HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        return msgspec.json.decode(await reader.readuntil(b"}"), type=Waits).p50_us or 0.0
    finally:
        writer.close()


def _surroundings(cores: Cores) -> list[str]:
    """What about this machine limits the trust in the figures."""
    found = []
    if cores.proxy is None:
        found.append("Nothing was bound to a core: this system does not allow it, or has one core only.")
    elif cores.driver == cores.upstream:
        found.append("Driver and mock upstream shared one core: rates near the direct one are their limit.")
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1) + 1:
        found.append(f"The machine's load is {os.getloadavg()[0]:.1f}: measure again when it is quiet.")
    return found
