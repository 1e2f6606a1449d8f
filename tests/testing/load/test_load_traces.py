"""Traces: each format is read to the same words, wrong lines are named, public ones come out whole."""

from pathlib import Path

import numpy as np
import pytest

from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.plan import SECOND
from slipstream.testing.load.traces import read_trace

PUBLIC = Path(__file__).parents[4] / "shared" / "data"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace"
    path.write_text(text)
    return path


def test_azure_csv(tmp_path: Path) -> None:
    """Times become ns since the earliest request, in order whatever the file's is."""
    trace = read_trace(
        written(
            tmp_path,
            "TIMESTAMP,ContextTokens,GeneratedTokens\n"
            "2023-11-16 18:17:04.0319600,3180,8\n2023-11-16 18:17:03.9799600,4808,10\n",
        )
    )

    assert trace.arrivals_ns.tolist() == [0, 52_000_000]
    assert trace.prompt_tokens.tolist() == [4808, 3180]
    assert trace.output_tokens.tolist() == [10, 8]


def test_mooncake_jsonl(tmp_path: Path) -> None:
    """Milliseconds become ns, hash ids become blocks."""
    trace = read_trace(
        written(
            tmp_path,
            '{"timestamp": 5, "input_length": 600, "output_length": 3, "hash_ids": [1, 2]}\n\n'
            '{"timestamp": 45, "input_length": 10, "output_length": 4, "hash_ids": [1]}\n',
        )
    )

    assert trace.arrivals_ns.tolist() == [0, 40_000_000]
    assert trace.blocks.tolist() == [1, 2, 1]
    assert trace.block_offsets.tolist() == [0, 2, 3]


def test_own_records_jsonl(tmp_path: Path) -> None:
    """Records of Slipstream can be sent again; a token count that was not known is 0."""
    trace = read_trace(
        written(
            tmp_path,
            '{"id": "a", "arrived_wall_ns": 7000000000, "prompt_tokens": 12, "output_tokens": 3}\n'
            '{"id": "b", "arrived_wall_ns": 7500000000}\n',
        )
    )

    assert trace.arrivals_ns.tolist() == [0, SECOND // 2]
    assert trace.prompt_tokens.tolist() == [12, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1"),
        ("a,b\n1,2\n", "line 1"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "no request"),
        ("TIMESTAMP,Context\n", "line 1"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:04,1,2\nyesterday,1,2\n", "line 3"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:04,-1,2\n", "line 2"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1}\n{"timestamp": 1}\n', "line 2"),
        ('{"timestamp": 1e300, "input_length": 1, "output_length": 1}\n', "line 1"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, text: str, said: str) -> None:
    """A file that is no trace is refused with the number of the line."""
    with pytest.raises(ConfigurationError, match=said):
        read_trace(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path without a file is one clear sentence."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_trace(tmp_path / "none")


def test_rows_are_bounded(tmp_path: Path) -> None:
    """No more rows are read than allowed."""
    line = '{"timestamp": 1, "input_length": 1, "output_length": 1}\n'

    assert len(read_trace(written(tmp_path, line * 10), rows_max=4)) == 4


@pytest.mark.skipif(not PUBLIC.is_dir(), reason="the public traces are not part of the product")
@pytest.mark.parametrize(
    ("name", "requests", "hours"),
    [
        ("AzureLLMInferenceTrace_code.csv", 8_819, 0.95),
        ("AzureLLMInferenceTrace_conv.csv", 19_366, 0.97),
        ("mooncake_synthetic_trace.jsonl", 3_993, 0.2),
    ],
)
def test_public_traces_come_out_whole(name: str, requests: int, hours: float) -> None:
    """The public traces have the requests that their makers state, over a plausible time."""
    trace = read_trace(PUBLIC / name)

    assert len(trace) == requests
    assert np.all(np.diff(trace.arrivals_ns) >= 0)
    assert trace.arrivals_ns[-1] / SECOND / 3600 > hours
