"""`slipstream open`: a link to the pages of a real server."""

import subprocess
import sys
from pathlib import Path

from e2e.serving import Serving, serving

SIMULATED = {
    "SLIPSTREAM__MODELS__DEFAULT": "sim",
    "SLIPSTREAM__MODELS__LOCAL__ENABLED": "off",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
    "SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "2",
}


def opened(server: Serving, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "slipstream", "open", *arguments],
        env=server.environ, cwd=server.folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_each_link_lets_one_browser_in(tmp_path: Path) -> None:
    """Where keys are asked for, every call makes a link of its own; a link that was used says how to get another."""
    with serving(tmp_path, SLIPSTREAM__KEYS__REQUIRED="always", **SIMULATED) as server:
        links = [opened(server).stdout.strip() for _ in range(2)]

        assert all(link.startswith(f"{server.url}/login?token=") for link in links)
        assert links[0] != links[1]
        for link in links:
            path = link.removeprefix(server.url)
            assert server.get(path)[0] == 200  # the cookie is set, and the page it leads to is there
            status, body = server.get(path)
            assert status == 401
            assert b"slipstream open" in body


def test_without_keys_it_is_the_plain_address(tmp_path: Path) -> None:
    """Pages that are open need no token."""
    with serving(tmp_path, **SIMULATED) as server:
        assert opened(server, "--print").stdout == server.url + "\n"


def test_only_an_admin_gets_a_link(tmp_path: Path) -> None:
    """A caller without a key is turned away."""
    with serving(tmp_path, SLIPSTREAM__KEYS__REQUIRED="always", **SIMULATED) as server:
        assert server.get("/_slipstream/links")[0] in {401, 405}


def test_without_a_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    """Nothing runs: one line, and what to do."""
    done = subprocess.run(
        [sys.executable, "-m", "slipstream", "open"],
        env={"PATH": "", "SLIPSTREAM__STATE_FOLDER": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "No server is running" in done.stderr
    assert "slipstream serve" in done.stderr
