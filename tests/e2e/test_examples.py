"""Every example runs as it stands, and so does every Python block of the README."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.serving import serving

pytestmark = pytest.mark.model

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def run(code: str, folder: Path, **environ: str) -> str:
    """Run code as a script of its own; what it prints."""
    script = folder / "script.py"
    script.write_text(code)
    own = {
        "SLIPSTREAM__DATA_FOLDER": str(folder / "data"),
        "SLIPSTREAM__STATE_FOLDER": str(folder / "state"),
        "SLIPSTREAM__MODELS__LOCAL__THREADS": "1",
        "SLIPSTREAM__MODELS__LOCAL__OUTPUT_TOKENS": "60",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True, text=True, timeout=100, cwd=folder, env={**os.environ, **own, **environ}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_there_is_something_to_run() -> None:
    """Neither list is empty."""
    assert EXAMPLES
    assert BLOCKS


@pytest.mark.parametrize(
    "path", [path for path in EXAMPLES if "openai" not in path.name], ids=lambda path: path.name
)
def test_examples_without_a_server(path: Path, tmp_path: Path) -> None:
    """Without a server the embedded model answers inside the script's process."""
    assert run(path.read_text(), tmp_path).strip()


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_blocks_of_the_readme(block: str, tmp_path: Path) -> None:
    """A block of the README runs as printed."""
    assert "Paris" in run(block, tmp_path)


def test_examples_with_a_server(tmp_path: Path) -> None:
    """With a server they go through it: its records hold their requests."""
    with serving(tmp_path) as server:
        url = {"SLIPSTREAM_URL": server.url + "/v1"}
        attached = {name: value for name, value in server.environ.items() if name.startswith("SLIPSTREAM")}
        for path in EXAMPLES:
            folder = tmp_path / path.stem
            folder.mkdir()
            printed = run(path.read_text(), folder, **{**attached, **url})
            if path.name != "stream.py":
                assert "Paris" in printed
        deadline = time.monotonic() + 20
        while len(recorded := server.json("/_slipstream/requests?limit=10")["data"]) < len(EXAMPLES):
            assert time.monotonic() < deadline, recorded  # the last one waits for its commit
            time.sleep(0.05)
        assert [row["outcome"] for row in recorded] == ["served"] * len(EXAMPLES)
