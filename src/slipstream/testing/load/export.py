"""A result for other programs: JSON with every figure and its interval, CSV with a row a request."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from slipstream.core.errors import BadRequest, ConfigurationError
from slipstream.testing.load.result import LoadResult
from slipstream.testing.load.samples import ERRORS, PHASES, Samples

COLUMNS = (
    "intended_ms", "sent_ms", "first_content_ms", "last_content_ms", "done_ms", "response_ms", "service_ms",
    "ttft_ms", "itl_ms", "lag_ms", "status", "error", "phase", "chunks", "prompt_tokens", "output_tokens",
    "cached_tokens", "received_bytes", "worker",
)  # fmt: skip
"""Times since the run's start, or how long something took; empty where there is none."""


def as_json(result: LoadResult) -> str:
    """All of the summary, as it is stored."""
    return msgspec.json.format(msgspec.json.encode(result.summary), indent=2).decode()


def write_json(result: LoadResult, path: Path) -> None:
    """Write it to a file. Raises `ConfigurationError`."""
    write(path, as_json(result) + "\n")


def write_csv(result: LoadResult, path: Path) -> None:
    """Write a row for each request. Raises `BadRequest` for a stored result, which has none any more."""
    if result.samples is None:
        raise BadRequest(
            "A stored result has no rows of single requests.", hint="Give --csv when the test is run."
        )
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_rows(result.samples))
    except OSError as error:
        raise _unwritable(path, error) from None


def write(path: Path, text: str) -> None:
    """Write a text file. Raises `ConfigurationError` where it cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be written: {error.strerror}.", hint="Name a file in a folder that is there."
    )


def _rows(samples: Samples) -> Iterator[Iterable[object]]:
    itl = samples.itl_ns
    response, service, ttft = samples.response_ns, samples.service_ns, samples.service_ttft_ns
    for row in range(len(samples)):
        yield (
            _ms(samples.intended_ns[row]),
            _ms(samples.sent_ns[row]),
            _ms(samples.first_content_ns[row]),
            _ms(samples.last_content_ns[row]),
            _ms(samples.done_ns[row]),
            _ms(response[row]),
            _ms(service[row]),
            _ms(ttft[row]),
            _ms(itl[row]),
            _ms(samples.lag_ns[row]),
            int(samples.status[row]),
            ERRORS[samples.error[row]],
            PHASES[samples.phase[row]],
            int(samples.chunks[row]),
            _known(samples.prompt_tokens[row]),
            _known(samples.output_tokens[row]),
            _known(samples.cached_tokens[row]),
            int(samples.received_bytes[row]),
            int(samples.worker[row]),
        )


def _ms(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:.4f}" if nanoseconds >= 0 else ""  # false for NaN too


def _known(count: int) -> object:
    return int(count) if count >= 0 else ""
