"""What holds for every command: the table, quick help, errors on one line, exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from slipstream import cli
from slipstream.cli import TABLE, Row, resolve, run

HEAVY = {"rich", "numpy", "uvicorn", "starlette", "apsw", "msgspec", "httptools", "psutil", "asyncio", "ssl"}

INTERRUPTED = """
import click, os, signal, sys
from slipstream import cli
@click.command()
def wait():
    print("waiting", flush=True)
    signal.pause()
cli.TABLE["wait"] = cli.Row("__main__:wait", "")
sys.exit(cli.run(["wait"]))
"""


def slipstream(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "slipstream", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | variables,
        check=False,
    )


@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_row_resolves(name: str) -> None:
    """Every row of the table leads to a command, whose own help says something."""
    command = resolve(name)

    assert isinstance(command, click.Command)
    assert command.get_short_help_str()


def test_help_imports_no_command() -> None:
    """`slipstream --help` loads click and the table, and nothing that a command needs."""
    program = (
        "import json, sys\nfrom slipstream.cli import run\nrun(['--help'])\nprint(json.dumps([*sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))

    assert not HEAVY & loaded
    assert {name for name in loaded if name.startswith("slipstream.")} == {
        "slipstream.cli",
        "slipstream.core",
        "slipstream.core.errors",
        "slipstream.core.hints",
    }


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The help has a line for each command."""
    assert run(["--help"]) == 0
    said = capsys.readouterr().out

    for name, row in TABLE.items():
        assert f"\n  {name} " in said
        assert row.help.split(maxsplit=1)[0] in said


def test_wrong_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing mistake costs no search; misuse exits with 2."""
    assert run(["serv"]) == 2
    assert "There is no command `serv`. Did you mean `serve`?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["config", "show", "--no-such"], ["--no-such"], ["version", "extra"]])
def test_misuse_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong option is one line with the usage, exit code 2."""
    assert run(arguments) == 2
    said = capsys.readouterr().err

    assert said.startswith("error: ")
    assert "Usage: slipstream" in said


def test_our_errors_are_one_line_and_a_hint() -> None:
    """No traceback: what happened, then what to do, on standard error; exit code 1."""
    done = slipstream("config", "show", SLIPSTREAM__SERVER__PROT="1")

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "error: $SLIPSTREAM__SERVER__PROT: there is no setting `server.prot`.\n"
        "Did you mean SLIPSTREAM__SERVER__PORT?\n"
    )


def test_errors_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What comes from outside is escaped before it is shown."""
    cli.complain("bad \x1b[2J name", hint="try\r\x07again")
    said = capsys.readouterr().err

    assert "\x1b[2J" not in said
    assert "\\x1b[2J" in said
    assert "\x07" not in said


def test_config_flag_reaches_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--config FILE` holds for whoever loads settings while the command runs, and no longer."""
    file = tmp_path / "other.toml"
    file.write_text("server.port = 5\n", encoding="utf-8")

    assert run(["--config", str(file), "config", "explain", "server.port"]) == 0
    assert "server.port = 5" in capsys.readouterr().out
    assert "SLIPSTREAM_CONFIG" not in os.environ


def test_config_flag_names_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is an error, not a silent default."""
    assert run(["--config", str(tmp_path / "none.toml"), "config", "show"]) == 1
    assert "there is no such file (--config)" in capsys.readouterr().err


def test_interrupt_is_quiet() -> None:
    """Ctrl-C ends a command with 130 and without a word."""
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)

    assert process.returncode == cli.INTERRUPTED
    assert said.strip() == b""


def test_reader_that_leaves_is_no_error() -> None:
    """`slipstream config explain | head -1` says nothing on standard error."""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "slipstream", "config", "explain"], stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.close(writing)
        os.close(reading)
        _, said = process.communicate(timeout=30)

    assert said == b""


def test_version_imports_nothing_to_find_out() -> None:
    """`version` looks into metadata: no extra is loaded."""
    program = "import sys\nfrom slipstream.cli import run\nrun(['version', '--json'])\nprint([*sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    shown, _, modules = done.stdout.rpartition("\n[")
    found = json.loads(shown)

    assert not {"'numpy'", "'onnxruntime'", "'xllamacpp'", "'uvicorn'"} & set(modules.split(", "))
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert "msgspec" in found["packages"]
    assert {"local", "semantic"} <= set(found["extras"])


def test_version_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """The first line is the version; an extra that is not there comes with the line that installs it."""
    assert run(["version"]) == 0
    assert capsys.readouterr().out.startswith("slipstream 0.")


def test_outcome_of_a_command_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ctx.exit(3)` ends the process with 3."""

    @click.command()
    @click.pass_context
    def three(context: click.Context) -> None:
        context.exit(3)

    monkeypatch.setitem(TABLE, "three", Row("tests:three", "Ends with three."))
    monkeypatch.setattr(cli, "resolve", lambda _: three)

    assert run(["three"]) == 3
