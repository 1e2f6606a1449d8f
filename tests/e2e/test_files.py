"""What lies in the data and state folders is what SECURITY.md says, for the owner's eyes only."""

import fnmatch
import re
import stat
import subprocess
import sys
from pathlib import Path

from e2e.serving import Serving, serving

PAGE = Path(__file__).parents[2] / "SECURITY.md"
NAMES = re.findall(
    r"`([^`|]+)`", "".join(line.split("|")[1] for line in PAGE.read_text().splitlines() if "|" in line)
)


def test_every_file_is_named_and_private(tmp_path: Path) -> None:
    """After keys, questions and the embedded model: each file is in the table, 0600 in folders of 0700."""
    with serving(tmp_path) as server:
        for command in (["keys", "create", "x"], ["ask", "Hello"]):
            run(server, command)
        while_running = seen(server)
    after = seen(server)

    assert {"records.db", "keys.db", "digests.json"} <= {path.name for path in (*while_running, *after)}
    for path, mode in {**while_running, **after}.items():
        told = [name for name in NAMES if fnmatch.fnmatch(str(path), f"*{name.rstrip('/')}")]
        assert told or path.name in {"", "live"}, f"{path} is not in SECURITY.md"
        if not stat.S_ISLNK(mode):  # a link has no mode of its own
            assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path


def run(server: Serving, command: list[str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "slipstream", *command],
        env=server.environ, cwd=server.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip


def seen(server: Serving) -> dict[Path, int]:
    """Every file and folder below the two, by its path in them."""
    roots = [server.folder / "data", Path(server.environ["SLIPSTREAM__STATE_FOLDER"])]
    found: dict[Path, int] = {}
    for root in roots:
        if root.is_dir():
            found[Path()] = root.stat().st_mode
            found |= {path.relative_to(root): path.lstat().st_mode for path in root.rglob("*")}
    return found
