"""Recorded traffic read from files: Azure's CSV, Mooncake's JSONL, own records as JSONL; without texts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import numpy as np
from msgspec import Meta, Struct

from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.plan import Trace
from slipstream.testing.load.samples import Longs

AZURE_HEADER = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
ROWS_MAX = 10_000_000
LINE_BYTES_MAX = 4 * 1024 * 1024


class _Mooncake(Struct):
    timestamp: float
    """Milliseconds."""
    input_length: int
    output_length: int
    hash_ids: list[int] = []


Wall = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Own(Struct):
    """A record as Slipstream writes them, of which only this much is read."""

    arrived_wall_ns: Wall
    prompt_tokens: int | None = None
    output_tokens: int | None = None


class _Rows:
    """What was read so far."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.prompts: list[int] = []
        self.outputs: list[int] = []
        self.blocks: list[list[int]] = []

    def add(self, at_ns: int, prompt: int, output: int, blocks: list[int]) -> None:
        self.times.append(at_ns)
        self.prompts.append(prompt)
        self.outputs.append(output)
        self.blocks.append(blocks)

    def trace(self) -> Trace:
        times = np.array(self.times, np.int64)
        order = np.argsort(times, kind="stable")
        blocks = [self.blocks[each] for each in order]
        offsets = np.cumsum([0, *map(len, blocks)]).astype(np.int64)
        flat = np.fromiter((each for block in blocks for each in block), np.int64, count=int(offsets[-1]))
        arrivals: Longs = times[order] - times[order[0]]
        return Trace(
            arrivals_ns=arrivals,
            prompt_tokens=np.array(self.prompts, np.int32)[order],
            output_tokens=np.array(self.outputs, np.int32)[order],
            blocks=flat,
            block_offsets=offsets,
        )


def read_trace(path: Path, *, rows_max: int = ROWS_MAX) -> Trace:
    """A trace in any of the known formats; the first request is at 0, later rows than `rows_max` are left.

    Raises `ConfigurationError` with the line that is wrong.
    """
    rows = _Rows()
    try:
        with path.open("rb") as file:
            first = file.readline(LINE_BYTES_MAX)
            lines = _numbered(file, rows_max)
            if first.startswith(b"TIMESTAMP"):
                _read_azure(path, first, lines, rows)
            elif first.lstrip().startswith(b"{"):
                _read_json(path, [(1, first), *lines][:rows_max], rows)
            else:
                _refuse(path, 1, "neither a header of Azure's CSV nor a JSON object")
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}.", hint="Name a trace that is there."
        ) from None
    if not rows.times:
        _refuse(path, 2, "no request")
    return rows.trace()


def _numbered(file: Iterable[bytes], rows_max: int) -> Iterable[tuple[int, bytes]]:
    for number, line in enumerate(file, 2):
        if number > rows_max + 1:
            return
        if line.strip():
            yield number, line


def _refuse(path: Path, number: int, why: str) -> NoReturn:
    raise ConfigurationError(
        f"{path}, line {number}: {why}.",
        hint="Known are Azure's LLM inference CSV, Mooncake's JSONL, and records of Slipstream as JSONL.",
    )


def _read_azure(path: Path, header: bytes, lines: Iterable[tuple[int, bytes]], rows: _Rows) -> None:
    names = tuple(header.decode("latin-1").strip().split(","))
    if names != AZURE_HEADER:
        _refuse(path, 1, f"the columns are {', '.join(names)}, not {', '.join(AZURE_HEADER)}")
    for number, line in lines:
        try:
            at, prompt, output = line.decode("ascii").strip().split(",")
            when = np.datetime64(at.replace(" ", "T"), "ns").astype(np.int64)
            rows.add(int(when), *_counts(int(prompt), int(output)), [])
        except ValueError as error:
            _refuse(path, number, str(error))


def _read_json(path: Path, lines: Iterable[tuple[int, bytes]], rows: _Rows) -> None:
    mooncake = msgspec.json.Decoder(_Mooncake)
    own = msgspec.json.Decoder(_Own)
    is_own = False
    for number, line in lines:
        is_own = is_own or (number == 1 and b'"arrived_wall_ns"' in line)
        try:
            if is_own:
                record = own.decode(line)
                counts = _counts(record.prompt_tokens or 0, record.output_tokens or 0)
                rows.add(record.arrived_wall_ns, *counts, [])
            else:
                row = mooncake.decode(line)
                counts = _counts(row.input_length, row.output_length)
                rows.add(_nanoseconds(row.timestamp), *counts, row.hash_ids)
        except (msgspec.MsgspecError, ValueError, OverflowError) as error:
            _refuse(path, number, str(error))


def _counts(prompt: int, output: int) -> tuple[int, int]:
    if not (0 <= prompt < 2**31 and 0 <= output < 2**31):
        raise ValueError(f"{prompt} and {output} are no token counts")
    return prompt, output


def _nanoseconds(milliseconds: float) -> int:
    if not abs(milliseconds) < 9e12:
        raise ValueError(f"{milliseconds} is no time in milliseconds")
    return round(milliseconds * 1e6)
