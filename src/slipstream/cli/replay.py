"""`slipstream replay`: play recorded traffic, its times and lengths, against a server."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from slipstream.cli.load import played, told, write_files
from slipstream.cli.load_options import file_option, target_of, target_options, time_option, wire_of

RECORDS = "records"
"""In the place of a file: what this Slipstream has recorded."""


@click.command()
@click.argument("trace")
@click.argument("url", required=False)
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
              help="How many times faster than it was recorded.")  # fmt: skip
@time_option("--last", default="1h", help="Of `records`: how far back.")
@time_option("--duration", default="0s", help="End after that; 0 = the whole trace.")
@click.option("--requests", type=click.IntRange(1), help="Only the first so many.")
@click.option("--users", type=click.IntRange(1), help="Most requests in flight; none = as recorded.")
@time_option("--timeout", default="60s", help="Longest a request may take.")
@click.option("--slo", multiple=True, metavar="BOUND", help="What a good request keeps; repeatable.")
@click.option("--cached", is_flag=True, help="Equal blocks are equal text in every run: caches may answer.")
@target_options
@click.option("--fail-if", multiple=True, metavar="THRESHOLD", help="Exit with 1 if so; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@file_option("--csv", help="A row for each request.")
@file_option("--html", help="A page with plots.")
@click.option("--quiet", is_flag=True, help="Do not show how it goes.")
def replay(
    *,
    trace: str,
    url: str | None,
    last: float,
    duration: float,
    speed: float,
    requests: int | None,
    users: int | None,
    timeout: float,
    slo: tuple[str, ...],
    cached: bool,
    model: str,
    fail_if: tuple[str, ...],
    as_json: bool,
    csv: Path | None,
    html: Path | None,
    quiet: bool,
    **wire: object,
) -> int:
    """Play the traffic of TRACE against URL, or the live server: when requests came and how long they were.

    TRACE is `records` (what this Slipstream has recorded), or a file: Azure's LLM inference CSV, Mooncake's
    JSONL (whose shared blocks become shared text), records of Slipstream as JSONL. None of them holds
    anybody's text: prompts are made up, of the recorded lengths.
    """
    from slipstream.testing.load.require import require_numpy

    require_numpy()
    from slipstream.testing.load.thresholds import thresholds

    thresholds(fail_if)
    target = target_of(url, model=model, streaming=True, wire=wire_of(wire))
    config: dict[str, object] = {
        "trace_speed": speed,
        "max_requests": requests,
        "concurrent_users": users,
        "timeout": timeout,
        "slo": slo,
        "cached": cached,
        "model": model,
    }
    with _file(trace, last) as path:
        config["trace"] = str(path)
        config["duration"] = duration or _length(path, speed, requests)
        result = played(target, config, quiet=quiet)
    write_files(result, csv=csv, html=html)
    return told(result, fail_if, compat=None, as_json=as_json)


@contextlib.contextmanager
def _file(trace: str, last: float) -> Iterator[Path]:
    """The trace as a file; of `records` one that is written for the run."""
    if trace != RECORDS:
        yield Path(trace)
        return
    from slipstream.cli import load_settings
    from slipstream.testing.load.own_records import write_trace

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        count = write_trace(load_settings(), path, seconds=last)
        click.echo(f"{count:,} recorded requests.", err=True)
        yield path


def _length(trace: Path, speed: float, requests: int | None) -> float:
    """Seconds until the last request of a trace is due, and a little more."""
    from slipstream.testing.load.tester import ROWS_MAX
    from slipstream.testing.load.traces import read_trace

    read = read_trace(trace, rows_max=requests or ROWS_MAX)
    return float(read.arrivals_ns[-1]) / 1e9 / speed + 0.001
