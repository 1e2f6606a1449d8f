"""`slipstream ask`, `chat` and `models`: what a person at a terminal, or a script, gets."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from faults import byte_server as play
from faults.byte_server import ByteServer, byte_server
from faults.rig import backstage
from slipstream import cli, library
from slipstream.cli.chat import chat
from slipstream.core.portal import PORTAL

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ByteServer]:
    """No server runs; this process asks an upstream that knows `well`, `ill` and `dumb`."""
    with backstage() as stage:
        server = stage.open(byte_server())
        server.plays["well"] = (play.stream(EVENT % b"Good", EVENT % b" day", END),)
        server.plays["dumb"] = (play.stream(END),)
        server.plays["ill"] = (play.body(b'{"error":{"message":"It hurts."}}', status="500 Oh"),)
        server.plays["breaks"] = (play.stream(EVENT % b"Half"),)
        (tmp_path / "slipstream.toml").write_text(
            f'[models]\ndefault = "well"\nattempts = 1\naliases = {{ fine = "well" }}\n[models.upstreams.up]\n'
            f'url = "http://127.0.0.1:{server.port}/v1"\nmodels = ["well", "ill", "dumb", "breaks"]\n'
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SLIPSTREAM__DATA_FOLDER", str(tmp_path / "data"))
        monkeypatch.setenv("SLIPSTREAM__STATE_FOLDER", str(tmp_path / "state"))
        monkeypatch.setenv("SLIPSTREAM__MODELS__EMBEDDER__ENABLED", "off")
        fresh = library._Runtimes()
        monkeypatch.setattr(library, "_RUNTIMES", fresh)
        yield server
        PORTAL.call(fresh._end())


def messages(server: ByteServer, model: str) -> list[tuple[str, str]]:
    """What the last request for `model` said."""
    body = msgspec.json.decode(server.bodies[model])
    return [(message["role"], message["content"]) for message in body["messages"]]


@pytest.mark.parametrize("failing", ["ill", "dumb"])
def test_a_failed_question_is_not_repeated(upstream: ByteServer, failing: str) -> None:
    """A question that got no answer is forgotten: the next one is asked without it."""
    typed = f"Hello\n/model {failing}\nWhat hurts?\n/model well\nAre you well?\n"
    done = CliRunner().invoke(chat, [], input=typed)

    assert done.exit_code == 0, done.output
    assert messages(upstream, failing)[-1] == ("user", "What hurts?")
    assert messages(upstream, "well") == [
        ("user", "Hello"),
        ("assistant", "Good day"),
        ("user", "Are you well?"),
    ]
    assert ("It hurts." in done.stderr) == (failing == "ill")


def test_half_an_answer_stays_in_the_conversation(upstream: ByteServer) -> None:
    """What was said before an answer broke is what the model goes on from."""
    CliRunner().invoke(chat, ["--model", "breaks"], input="Talk\n/model well\nGo on\n")

    assert messages(upstream, "well") == [("user", "Talk"), ("assistant", "Half"), ("user", "Go on")]


def test_commands_of_a_conversation(upstream: ByteServer) -> None:
    """`/new` forgets, the system prompt stays, an unknown command helps and asks nothing."""
    done = CliRunner().invoke(chat, ["--system", "Be kind."], input="One\n/new\n/what\n\nTwo\n/exit\nThree\n")

    assert messages(upstream, "well") == [("system", "Be kind."), ("user", "Two")]
    assert upstream.requests["well"] == 2
    assert "/model NAME" in done.stderr


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked; the error says how to ask."""
    assert cli.run(["ask", question]) == cli.MISUSED
    assert "slipstream ask " in capsys.readouterr().err


def test_ask_reads_standard_input(upstream: ByteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cat question | slipstream ask` answers what was piped in; an empty pipe is refused."""
    ask = cli.resolve("ask")
    done = CliRunner().invoke(ask, [], input="From a pipe")
    empty = CliRunner().invoke(ask, [], input="\n")

    assert (done.exit_code, done.stdout) == (0, "Good day\n")
    assert messages(upstream, "well") == [("user", "From a pipe")]
    assert empty.exit_code == cli.MISUSED
    assert "empty" in empty.stderr


def test_models_that_would_be_served(upstream: ByteServer) -> None:
    """Without a server the settings' models are listed, for scripts as lines or JSON; nobody is asked."""
    listed = CliRunner().invoke(cli.resolve("models"), [])
    as_json = CliRunner().invoke(cli.resolve("models"), ["--json"])

    assert listed.stdout.splitlines()[0].split("\t") == ["well", "openai", "ready", "default", ""]
    assert listed.stdout.splitlines()[-1].split("\t") == ["fine", "openai", "ready", "", "well"]
    assert [row["name"] for row in json.loads(as_json.stdout)] == ["well", "ill", "dumb", "breaks", "fine"]
    assert not upstream.requests
