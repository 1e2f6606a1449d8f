"""What the system refuses a profiler is said with what to do; the profiled program goes on, and nothing is left."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

PROGRAM = Path(__file__).with_name("refused.py")
COUNTERS = {"resources": "ConfigurationError", "resources in a loop": "ConfigurationError"}
MEMRAY = ("memray", "memray in a loop")
EXPECTED: dict[str, tuple[dict[str, str], str]] = {
    "proc": (COUNTERS, "/proc"),
    "temporary": (dict.fromkeys(MEMRAY, "ConfigurationError"), "TMPDIR"),
    "threads": (
        dict.fromkeys(("cpu", "cpu in a loop", "cpu since", *MEMRAY, "resources in a loop"), "Unavailable"),
        "ulimit -u",
    ),
    "writing": (dict.fromkeys(MEMRAY, "SlipstreamError"), "room"),
    "files": (COUNTERS | dict.fromkeys(("size", "tracemalloc"), "ConfigurationError"), "ulimit -n"),
}
"""By what is refused: the attempts that must fail by it, and what their hint speaks of."""


def attempts(case: str, folder: Path, temporary: Path) -> dict[str, tuple[str, str]]:
    """What comes of everything that a program may ask of the profilers."""
    environ = {
        **os.environ,
        "TMPDIR": str(temporary),
        "PYTHONUSERBASE": str(folder),  # memray asks for it, and nobody may read that of root
        "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
    }
    done = subprocess.run(
        [sys.executable, str(PROGRAM), case, str(folder)],
        capture_output=True,
        timeout=100,
        env=environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    told = msgspec.json.decode(done.stdout, type=list[tuple[str, str, str]])
    return {name: (kind, hint) for name, kind, hint in told}


@pytest.fixture
def denied(tmp_path: Path) -> Path:
    """A folder that nobody but root may enter."""
    folder = tmp_path / "denied"
    folder.mkdir(mode=0o000)
    return folder


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the program puts its temporary files, whoever it is by then: nobody may enter those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.parametrize("case", EXPECTED)
def test_what_is_refused_is_said_with_what_to_do(case: str, denied: Path, temporary: Path) -> None:
    """An error of ours with a hint where it is needed; all the rest works as ever."""
    told = attempts(case, denied, temporary)
    refused, about = EXPECTED[case]

    assert not [kind for kind, _ in told.values() if kind.startswith("foreign")], told
    assert all(hint for kind, hint in told.values() if kind not in {"done", "0"}), told
    assert {name: told[name][0] for name in refused} == refused
    assert all(about in told[name][1] for name in refused), told
    others = (
        told.keys() - refused.keys() - {*MEMRAY, "threads left"}
    )  # nobody may not run root's Python to read
    assert {told[name][0] for name in others} == {"done"}, told
    assert told["threads left"] == ("0", "")
    assert not list(temporary.iterdir())
