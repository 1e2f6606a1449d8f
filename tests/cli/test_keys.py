"""`slipstream keys` as it is used by hand and in scripts."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slipstream.cli.keys import keys
from slipstream.core.errors import BadRequest
from slipstream.core.keys import PREFIX, digest
from slipstream.store.keys import KeyStore

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SLIPSTREAM__KEYS__PATH", str(tmp_path / "keys.db"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(keys, arguments)


def test_the_secret_alone_is_on_standard_output(run: Run, tmp_path: Path) -> None:
    """KEY=$(slipstream keys create ci) works; the words, that it is shown once too, are on standard error."""
    result = run("create", "ci", "--tenant", "team")
    assert result.exit_code == 0
    secret = result.stdout.removesuffix("\n")
    assert secret.startswith(PREFIX)
    assert "\n" not in secret
    assert "shown only now" in result.stderr
    store = KeyStore(tmp_path / "keys.db")
    (entry,) = store.active()
    store.close()
    assert (digest(secret), "team", "user") == (entry.digest, entry.tenant, entry.role)


def test_an_admin_key_is_made_on_request(run: Run) -> None:
    """And only then."""
    run("create", "boss", "--admin")
    run("create", "ci")
    assert [key["role"] for key in json.loads(run("list", "--json").stdout)] == ["admin", "user"]


def test_the_list_is_machine_readable_on_request(run: Run) -> None:
    """One object a key, revoked ones too, no digest."""
    secret = run("create", "ci").stdout.strip()
    run("create", "other")
    assert run("revoke", "ci").exit_code == 0
    listed = json.loads(run("list", "--json").stdout)
    assert [(key["name"], key["revoked_wall_ns"] is not None) for key in listed] == [
        ("ci", True),
        ("other", False),
    ]
    assert {"id", "name", "tenant", "role", "created_wall_ns", "revoked_wall_ns"} == set(listed[0])
    assert digest(secret).hex() not in json.dumps(listed)


def test_the_list_is_plain_where_it_is_no_terminal(run: Run) -> None:
    """A line a key, tabs between, for cut and awk."""
    run("create", "my key")
    (line,) = run("list").stdout.splitlines()
    identity, name, tenant, role, created, revoked = line.split("\t")
    assert identity.startswith("key_")
    assert (name, tenant, role, revoked) == ("my key", "default", "user", "-")
    assert created.endswith("Z")


def test_an_empty_list_says_how_to_make_a_key(run: Run) -> None:
    """On standard error; standard output stays empty, or an empty array."""
    result = run("list")
    assert "keys create NAME" in result.stderr
    assert result.stdout == ""
    assert json.loads(run("list", "--json").stdout) == []


def test_a_key_is_revoked_by_its_id(run: Run) -> None:
    """As the list shows it."""
    run("create", "ci")
    (key,) = json.loads(run("list", "--json").stdout)
    assert "Revoked 'ci'" in run("revoke", key["id"]).stderr


@pytest.mark.parametrize("arguments", [("create", "ci"), ("create", "a\nb"), ("revoke", "nobody")])
def test_what_cannot_be_done_is_a_typed_error(run: Run, arguments: tuple[str, ...]) -> None:
    """The command's entry renders it, with its hint; nothing is on standard output."""
    run("create", "ci")
    result = run(*arguments)
    assert isinstance(result.exception, BadRequest)
    assert result.stdout == ""


def test_a_terminal_gets_a_table(run: Run, tmp_path: Path) -> None:
    """With headings, and a name's brackets are not taken for markup."""
    run("create", "[bold]x[/bold]")
    mine, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", "from slipstream.cli.keys import keys; keys()", "list"],
        stdout=theirs,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "150"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(mine, 4096)
        except OSError:  # Linux says EIO where the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(mine)
    assert child.wait(30) == 0
    assert b"tenant" in shown
    assert b"[bold]x[/bold]" in shown
