"""`slipstream chaos`: run the fault proxy in front of a server on this machine."""

import asyncio
import contextlib
import signal

import click
import msgspec

from slipstream.core.errors import SlipstreamError
from slipstream.testing.chaos import Chaos
from slipstream.testing.chaos_control import Control, state

_PORT = click.IntRange(0, 65535)


@click.command("chaos", short_help="Put a fault proxy in front of a server.")
@click.option(
    "--to", "upstream", required=True, metavar="URL", help="Server behind it: http://127.0.0.1:9000."
)
@click.option("--listen", type=_PORT, default=0, help="Port on 127.0.0.1; 0 picks a free one.")
@click.option(
    "--fault", "faults", multiple=True, metavar="FAULT", help="KIND[:up|down][@K][,option=value]..."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random draw.")
@click.option(
    "--for", "seconds", type=click.FloatRange(min=0), default=0.0, help="Seconds to run; 0 = until stopped."
)
@click.option("--control", type=_PORT, default=0, help="Port of the control endpoint; 0 picks a free one.")
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="HOST", help="Server host that need not be loopback."
)
@click.option("--max-connections", type=click.IntRange(1, 65536), default=1024, show_default=True,
              help="Open at the same time; further ones are reset.")  # fmt: skip
def chaos(
    *,
    upstream: str,
    listen: int,
    faults: tuple[str, ...],
    seed: int,
    seconds: float,
    control: int,
    hosts: tuple[str, ...],
    max_connections: int,
) -> None:
    """Relay connections to a server and break them as told: TCP, HTTP and SSE faults, seeded.

    \b
    slipstream chaos --to http://127.0.0.1:9000 --listen 9100 --seed 7 --for 60 \\
        --fault latency:down,ms=200,jitter=50 --fault sse_reset@3,rate=0.1

    Ends with the counts as JSON on standard output. docs/chaos.md lists the faults.
    """
    try:
        proxy = Chaos(
            upstream,
            faults=faults,
            seed=seed,
            port=listen,
            allow_hosts=hosts,
            max_connections=max_connections,
        )
        end = asyncio.run(_run(proxy, control, seconds))
    except SlipstreamError as error:
        raise click.ClickException(str(error)) from None
    click.echo(end)


async def _run(proxy: Chaos, control: int, seconds: float) -> str:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # on Windows: Ctrl-C ends it the hard way
            loop.add_signal_handler(number, stop.set)
    async with proxy, Control(proxy, port=control) as port:
        click.echo(f"{proxy.url} -> {proxy.upstream}, control {port.url}, seed {proxy.seed}", err=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds or None):
                await stop.wait()
        final = state(proxy)
    return msgspec.json.format(msgspec.json.encode(final)).decode()
