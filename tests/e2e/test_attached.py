"""Scripts and commands beside a live server: they use it, with keys or without, and say what it says."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from e2e.serving import Serving, serving

SIMULATED = {
    "SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "6",
    "SLIPSTREAM__MODELS__SIMULATED__SIM__TTFT_MS": "20",
    "SLIPSTREAM__MODELS__EMBEDDER__ENABLED": "off",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("attached")
    with serving(folder, SLIPSTREAM__KEYS__REQUIRED="always", **SIMULATED) as running:
        yield running


def run(server: Serving, *arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """A command of ours, or a script, in the server's environment."""
    program = ["-c", code] if code else ["-m", "slipstream", *arguments]
    return subprocess.run(
        [sys.executable, *program],
        env=server.environ, cwd=server.folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_ask_tells_what_the_server_recorded(server: Serving) -> None:
    """Where keys are required the commands of this machine get in, and the answer is told as the server saw it."""
    done = run(server, "ask", "--json", "Hello")
    assert done.returncode == 0, done.stderr
    told = msgspec.json.decode(done.stdout)
    record = server.record(told["request_id"])
    assert (told["model"], record["model"]) == ("sim", "sim")
    assert told["usage"]["output"] == record["output_tokens"] == 6
    assert told["timings"]["ttft_ms"] == pytest.approx(record["first_token_ns"] / 1e6)
    assert set(told["timings"]["steps"]) == {step["name"] for step in record["steps"]}


def test_models_of_the_server(server: Serving) -> None:
    """The models listed are the server's."""
    done = run(server, "models", "--json")
    assert [row["name"] for row in msgspec.json.decode(done.stdout)] == ["sim"]


def test_two_servers_and_which_one(server: Serving, tmp_path: Path) -> None:
    """With two of the same settings a command asks which; `--server` says it."""
    state = {"SLIPSTREAM__STATE_FOLDER": server.environ["SLIPSTREAM__STATE_FOLDER"]}
    second = subprocess.Popen(
        [sys.executable, "-m", "slipstream", "serve", "--port", "0"],
        env={**server.environ, **state}, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(600):
            refused = run(server, "models")
            if refused.returncode:
                break
        assert "--server" in refused.stderr
        done = run(server, "ask", "--json", "--server", server.url, "Hello")
        assert done.returncode == 0, done.stderr
        server.record(msgspec.json.decode(done.stdout)["request_id"])
    finally:
        second.terminate()
        second.wait(20)


def test_a_forked_child_has_a_portal_of_its_own(server: Serving) -> None:
    """What ran in the parent stays there; the child starts anew instead of waiting for ever."""
    code = """
import os, signal
from slipstream import generate_response
assert generate_response("Hello")
child = os.fork()
if child == 0:
    signal.alarm(40)
    assert generate_response("Hello")
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    done = run(server, code=code)
    assert done.returncode == 0, done.stderr


def test_loops_threads_and_errors(server: Serving) -> None:
    """One object under two event loops and from a thread; a running loop and a wrong prompt are told plainly."""
    code = """
import asyncio, threading
from slipstream import agenerate_response, generate_response, model
from slipstream.core.errors import BadRequest

async def whole():
    try:
        generate_response("Hello")
    except RuntimeError as error:
        assert "agenerate_response" in str(error)
    pieces = [piece async for piece in model.generate_stream("Hello")]
    answer = await model.generate("Hello")
    assert "".join(pieces) == str(answer) == str(await agenerate_response("Hello"))
    assert all(piece.arrived_ns > 0 for piece in pieces)
    stream = model.generate_stream("Hello")
    await anext(stream)
    await stream.aclose()

asyncio.run(whole())
asyncio.run(whole())
answers = []
thread = threading.Thread(target=lambda: answers.append(generate_response("Hello")))
thread.start(); thread.join()
assert answers[0].model == "sim"
try:
    generate_response(5)
except BadRequest as error:
    assert "prompt" in str(error)
"""
    done = run(server, code=code)
    assert done.returncode == 0, done.stderr


def test_a_key_made_later_comes_with_a_link(tmp_path: Path) -> None:
    """Where the pages were open until the first key was made, the server tells a link to log in by."""
    with serving(tmp_path, **SIMULATED) as server:
        assert server.get("/v1/models")[0] == 200
        assert "login?token=" not in server.log.read_text()
        made = run(server, "keys", "create", "laptop")
        assert made.returncode == 0, made.stderr
        deadline = time.monotonic() + 20
        while "login?token=" not in server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        link = next(word for word in server.log.read_text().split('"') if "/login?token=" in word)
        assert server.get("/v1/models")[0] == 401
        assert server.get("/v1/models", token=made.stdout.strip())[0] == 200
        assert link.startswith(server.url)
