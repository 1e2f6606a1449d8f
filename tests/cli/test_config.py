"""`slipstream config`: show, explain, init."""

import json
import tomllib
from pathlib import Path

import pytest

from slipstream.cli import run
from slipstream.config.settings import Settings


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_show_is_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """What is shown is TOML that holds every section, or JSON that says the same."""
    assert run(["config", "show"]) == 0
    as_toml = tomllib.loads(capsys.readouterr().out)
    assert run(["config", "show", "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == as_toml
    assert as_toml["server"]["port"] == Settings().server.port


def test_show_keeps_credentials(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A password inside a URL is not shown, by none of the commands."""
    monkeypatch.setenv(
        "SLIPSTREAM__MODELS__UPSTREAMS__ONE__URL", "https://me:sesame@api.example/v1?api_key=sesame"
    )
    for arguments in (["show"], ["show", "--json"], ["explain"], ["explain", "--json"]):
        assert run(["config", *arguments]) == 0
        said = capsys.readouterr().out

        assert "api.example" in said
        assert "sesame" not in said


def test_explain_tells_the_spot(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A setting's value, the line it came from, its default, what it may be, what it is for."""
    (here / "slipstream.toml").write_text("[server]\nport = 5\n", encoding="utf-8")

    assert run(["config", "explain", "server.port"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "server.port = 5",
        "  from:    slipstream.toml, line 2",
        "  default: 8080",
        "  may be:  int, 0 to 65,535",
        "  Port to listen on; 0 picks a free one.",
    ]


def test_explain_tells_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Every setting has its row; JSON says more."""
    assert run(["config", "explain"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert run(["config", "explain", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert len(rows) == len(found) > 40
    assert all(row.endswith("default") for row in rows)
    assert set(found[0]) == {"name", "value", "default", "source", "spot", "allowed", "description"}


def test_explain_of_a_wrong_name(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that does not exist is answered with the nearest, exit code 1."""
    assert run(["config", "explain", "server.prot"]) == 1
    assert "Did you mean `server.port`?" in capsys.readouterr().err


def test_init_writes_a_file_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is there is kept, unless --force says otherwise; what is written is in force."""
    assert run(["config", "init"]) == 0
    file = here / "slipstream.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("# port = 8080", "port = 9"), encoding="utf-8")

    assert run(["config", "init"]) == 1
    assert "--force" in capsys.readouterr().err
    assert run(["config", "explain", "server.port"]) == 0
    assert capsys.readouterr().out.startswith("server.port = 9")
    assert run(["config", "init", "--force"]) == 0
    assert "# port = 8080" in file.read_text(encoding="utf-8")
