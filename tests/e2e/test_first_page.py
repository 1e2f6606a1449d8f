"""The first look at a page loads its framework beside the supervisor's event loop, never on it."""

import os
import time
from pathlib import Path

from e2e.serving import serving

NOTING = """
import os, sys, threading

class Noting:
    def find_spec(self, name, path=None, target=None):
        on_main = threading.current_thread() is threading.main_thread()
        with open(os.environ["NOTED_IMPORTS"], "a") as noted:
            noted.write(f"{os.getpid()} {'loop' if on_main else 'thread'} {name}\\n")

sys.meta_path.insert(0, Noting())
"""
"""What every interpreter of the server loads at its start: a finder that finds nothing and notes who asks."""
PATHS = (
    "/profile", "/dashboard", "/", "/_slipstream/status", "/_slipstream/stalls", "/_slipstream/use",
    "/_slipstream/steps", "/_slipstream/profile", "/_slipstream/doctor", "/metrics",
)  # fmt: skip


def test_the_first_page_imports_nothing_on_the_loop(tmp_path: Path) -> None:
    """starlette, uvicorn and our routes are imported in a thread; the loop imports none of them."""
    (tmp_path / "sitecustomize.py").write_text(NOTING, "utf-8")
    noted = tmp_path / "imports"
    noted.touch()
    variables = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        "NOTED_IMPORTS": str(noted),
        "SLIPSTREAM__MODELS__LOCAL__ENABLED": "off",
        "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
        "SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "1",
    }
    with serving(tmp_path, ready=False, **variables) as server:
        for path in PATHS:
            deadline = time.monotonic() + 60
            while server.get(path, token=server.token)[0] != 200:
                assert time.monotonic() < deadline, path
                time.sleep(0.1)
        of_supervisor = [
            line.split()[1:]
            for line in noted.read_text("utf-8").splitlines()
            if line.startswith(f"{server.process.pid} ")
        ]

    def by(who: str) -> set[str]:
        return {name for each, name in of_supervisor if each == who}

    heavy = {
        name
        for name in by("loop") | by("thread")
        if name.startswith(
            ("starlette.", "uvicorn.", "anyio.", "slipstream.dashboard.", "slipstream.gateway.")
        )
    }
    assert {"starlette.applications", "uvicorn.server", "slipstream.gateway.profiling_api"} <= by("thread")
    assert heavy & by("loop") == set()
