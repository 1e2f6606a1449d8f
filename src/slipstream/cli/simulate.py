"""`slipstream simulate`: a simulated LLM server in the foreground."""

import asyncio
import ipaddress
import signal

import click

from slipstream.config.settings import Simulated
from slipstream.testing.simulator import Simulator, run_loop, run_simulator

_DEFAULT = Simulated()
_POSITIVE = click.FloatRange(min=0)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=9000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="A name that it serves, repeatable; without any: all.",
)
@click.option(
    "--ttft-ms",
    default=_DEFAULT.ttft_ms,
    show_default=True,
    type=_POSITIVE,
    help="Median time to first token.",
)
@click.option(
    "--ttft-ms-per-1k-tokens",
    default=_DEFAULT.ttft_ms_per_1k_tokens,
    show_default=True,
    type=_POSITIVE,
    help="Added per 1,000 prompt tokens.",
)
@click.option(
    "--itl-ms", default=_DEFAULT.itl_ms, show_default=True, type=_POSITIVE, help="Median time between tokens."
)
@click.option(
    "--spread",
    default=_DEFAULT.spread,
    show_default=True,
    type=click.FloatRange(0, 3),
    help="Sigma of the log-normal around both medians.",
)
@click.option(
    "--slots",
    default=_DEFAULT.slots,
    show_default=True,
    type=click.IntRange(min=0),
    help="Requests served at once, the rest waits in line; 0 = no bound.",
)
@click.option(
    "--slowdown",
    default=_DEFAULT.slowdown,
    show_default=True,
    type=_POSITIVE,
    help="Share by which each further running request slows the others.",
)
@click.option(
    "--output-tokens",
    default=_DEFAULT.output_tokens,
    show_default=True,
    type=click.IntRange(min=1),
    help="Tokens of an answer where the request has no bound.",
)
@click.option(
    "--error-rate",
    default=_DEFAULT.error_rate,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of requests answered with 500.",
)
@click.option("--seed", default=_DEFAULT.seed, show_default=True, type=int, help="Seed of every random draw.")
@click.option("--script", default="", help="What requests without a script are told, such as pause=2@5.")
def simulate(
    *,
    host: str,
    port: int,
    models: tuple[str, ...],
    script: str,
    ttft_ms: float,
    ttft_ms_per_1k_tokens: float,
    itl_ms: float,
    spread: float,
    slots: int,
    slowdown: float,
    output_tokens: int,
    error_rate: float,
    seed: int,
) -> None:
    """Run a simulated LLM server that any OpenAI-compatible client can talk to.

    It takes the times it is told to take and makes the faults that a request asks for in the header
    `x-simulate`, in the field `simulate`, or behind a # in the model's name: error=429,retry_after=2 or
    pause=5@3 or cut@3 ... `GET /stats` counts what it did.
    """
    settings = Simulated(
        ttft_ms=ttft_ms,
        ttft_ms_per_1k_tokens=ttft_ms_per_1k_tokens,
        itl_ms=itl_ms,
        spread=spread,
        slots=slots,
        slowdown=slowdown,
        output_tokens=output_tokens,
        error_rate=error_rate,
        seed=seed,
    )
    with run_loop() as runner:
        runner.run(_serve(settings, host, port, models=models, script=script))


async def _serve(settings: Simulated, host: str, port: int, *, models: tuple[str, ...], script: str) -> None:
    """Serve until a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with run_simulator(settings, host, port, models=models, script=script) as simulator:
        click.echo(_banner(simulator, settings, host, models=models, script=script))
        await stop.wait()
        stats = simulator.stats
    click.echo(f"\nServed {stats.served}, aborted {stats.aborted}, refused {stats.refused}.")


def _banner(
    simulator: Simulator, settings: Simulated, host: str, *, models: tuple[str, ...], script: str
) -> str:
    """What is said at the start: the address, what to try, what it does."""
    model = models[0] if models else "any"
    body = f'{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'
    told = [f"{name} {getattr(settings, name):g}" for name in Simulated.__struct_fields__]
    lines = [
        f"Simulated LLM server on {simulator.url}  (base_url {simulator.url}/v1)",
        f"  models   {', '.join(models) or 'any name'}",
        f"  told     {', '.join(told)}",
        *([f"  script   {script}"] if script else []),
        f"  counts   {simulator.url}/stats",
        f"  try      curl -N {simulator.url}/v1/chat/completions -H 'content-type: application/json' \\",
        f"             -d '{body}'",
        "  stop     Ctrl-C",
    ]
    if not _is_loopback(host):
        lines.insert(1, f"  CAUTION  it asks for no key: whoever reaches {host} can use it")
    return "\n".join(lines)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
