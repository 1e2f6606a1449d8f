"""What load tests need to be there: the guide's import path in the wheel, numpy in an extra."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError
from slipstream.core.record import Record
from slipstream.store.records import RecordStore
from slipstream.testing.load.own_records import write_trace
from slipstream.testing.load.traces import read_trace

ROOT = Path(__file__).parents[3]
WITHOUT_NUMPY = """
import sys, json
sys.modules["numpy"] = None
from app.core.testing import LoadTester, StressTester
from slipstream.core.errors import MissingExtra
try:
    LoadTester("http://127.0.0.1:1").run_test_sync({"concurrent_users": 1, "duration": 1})
except MissingExtra as error:
    print(json.dumps([error.message, error.hint]))
"""


def test_without_numpy_there_is_one_clear_sentence() -> None:
    """Importing and building need no library; running a test says what to install."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMPY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message, hint = json.loads(done.stdout)

    assert "numpy" in message
    assert 'pip install "slipstream[testing]"' in hint


def test_the_guides_path_is_in_the_wheel() -> None:
    """`app.core` is packaged beside `slipstream`, as a namespace package without an `__init__.py`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert "src/app" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert not list((ROOT / "src" / "app").rglob("__init__.py"))


def test_own_records_are_a_trace(tmp_path: Path) -> None:
    """What was recorded lately becomes a trace in its order; what has no lengths, and what is older, is left."""
    settings = Settings(data_folder=str(tmp_path))
    with pytest.raises(ConfigurationError, match="No requests"):
        write_trace(settings, tmp_path / "t.jsonl", seconds=60)
    from slipstream.core import clock

    now = clock.wall_ns()
    store = RecordStore(tmp_path / "records.db")
    store.insert(
        [
            Record(id="a", arrived_wall_ns=now - 3_000_000_000, prompt_tokens=5, output_tokens=7),
            Record(id="b", arrived_wall_ns=now - 1_000_000_000, prompt_tokens=6, output_tokens=8),
            Record(id="c", arrived_wall_ns=now - 500_000_000),
            Record(id="d", arrived_wall_ns=now - 900_000_000_000, prompt_tokens=1, output_tokens=1),
        ]
    )
    store.close()

    assert write_trace(settings, tmp_path / "t.jsonl", seconds=60) == 2
    trace = read_trace(tmp_path / "t.jsonl")
    assert trace.arrivals_ns.tolist() == [0, 2_000_000_000]
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([5, 6], [7, 8])
