"""A real `slipstream serve` for tests: own data and state folders, a free port, ended by its process id."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from slipstream.config.live import live_servers
from slipstream.config.settings import Settings

START_SECONDS = 90.0


@dataclass
class Serving:
    """A running server and how to reach it."""

    process: subprocess.Popen[bytes]
    folder: Path
    url: str
    token: str
    log: Path
    environ: dict[str, str] = field(repr=False, default_factory=dict)

    def get(
        self, path: str, *, token: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """A GET request; status and body."""
        request = urllib.request.Request(self.url + path, headers=dict(headers or {}))
        if token:
            request.add_header("authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def ask(self, prompt: str, **fields: object) -> int:
        """A chat completion that must succeed; its length in bytes. `fields` are added to the request."""
        body = {"messages": [{"role": "user", "content": prompt}], **fields}
        request = urllib.request.Request(
            self.url + "/v1/chat/completions",
            msgspec.json.encode(body),
            {"content-type": "application/json", "authorization": f"Bearer {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return len(response.read())

    def json(self, path: str) -> dict[str, object]:
        """A GET request by the local token that must succeed, decoded."""
        status, body = self.get(path, token=self.token)
        assert status == 200, (status, body)
        return msgspec.json.decode(body)

    def record(self, request_id: str) -> dict[str, object]:
        """The record of a request, once it is there."""
        deadline = time.monotonic() + 20
        while True:
            status, body = self.get(f"/_slipstream/requests/{request_id}", token=self.token)
            if status == 200:
                return msgspec.json.decode(body)
            assert time.monotonic() < deadline, (status, body)
            time.sleep(0.02)

    def processes(self) -> list[psutil.Process]:
        """The supervisor and all it has started."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


@contextlib.contextmanager
def serving(
    folder: Path,
    *arguments: str,
    ready: bool = True,
    program: tuple[str, ...] = ("-m", "slipstream"),
    **environ: str,
) -> Iterator[Serving]:
    """Start a server in `folder`; `environ` are settings such as SLIPSTREAM__MODELS__DEFAULT."""
    state = Path(tempfile.mkdtemp(prefix="ss-"))  # short: a Unix socket's path has about 100 bytes
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLIPSTREAM")},
        "SLIPSTREAM__DATA_FOLDER": str(folder / "data"),
        "SLIPSTREAM__STATE_FOLDER": str(state),
        "SLIPSTREAM__MODELS__LOCAL__THREADS": "1",  # other tests run beside it: two spinning threads crawl
        **environ,
    }
    log = folder / "serve.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *program, "serve", "--port", "0", *arguments],
            env=variables, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        settings = Settings(state_folder=str(state))
        deadline = time.monotonic() + START_SECONDS
        while not (found := live_servers(settings)):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        server = Serving(process, folder, found[0].url.rstrip("/"), found[0].token, log, variables)
        while ready and _get_ready(server) != 200:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield server
    finally:
        end(process)
        shutil.rmtree(state, ignore_errors=True)


def _get_ready(server: Serving) -> int:
    try:
        return server.get("/readyz")[0]
    except OSError:
        return 0


def end(process: subprocess.Popen[bytes], *, seconds: float = 20.0) -> int:
    """SIGTERM, and SIGKILL for one that does not listen."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
