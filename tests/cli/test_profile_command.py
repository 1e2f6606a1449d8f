"""`slipstream profile`: what is asked amiss is refused before any server is looked for, with what would be right."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from profiling.children import forked
from slipstream.cli import MISUSED
from slipstream.cli.profile import profile

NOBODY = 65534
WRONG = ["nan", "inf", "-inf", "0", "-1", "abc", "", "1e999", "10s", "1_0__0"]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    ("command", "option", "unit"),
    [("cpu", "--seconds", "seconds"), ("memory", "--seconds", "seconds"), ("steps", "--minutes", "minutes")],
)
def test_what_is_no_length_of_time_is_refused(command: str, option: str, unit: str, value: str) -> None:
    """Each sub-command that takes one; the answer names the value, the option, and a right one."""
    done = CliRunner().invoke(profile, [command, option, value])

    assert done.exit_code == MISUSED
    assert f"'{value}' is no length of time" in done.output
    assert f"a number of {unit} above 0" in done.output
    assert f"`{option} 10`" in done.output
    assert "Traceback" not in done.output


def test_a_server_out_of_reach_is_said_to_be(tmp_path: Path) -> None:
    """Whose folder may not even be looked into: the folder is named, and the setting that chooses another one."""
    own = tmp_path / "own"
    own.mkdir(mode=0o000)
    CliRunner().invoke(
        profile, ["stalls"]
    )  # imports what it needs, which nobody may not do from root's folders

    def child() -> tuple[int, str]:
        os.environ["SLIPSTREAM__STATE_FOLDER"] = str(own / "state")
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        done = CliRunner().invoke(profile, ["stalls"])
        return done.exit_code, str(done.exception)

    code, said = forked(child)

    assert code == 1
    assert str(own / "state") in said
    assert "Set `state_folder` to a folder" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["cpu", "--seconds"],
        ["cpu", "10"],
        ["memory", "--by", "magic"],
        ["request"],
        ["stalls", "--seconds", "nan"],
        ["use", "--seconds", "0"],
        ["disk"],
    ],
)
def test_what_no_sub_command_takes_is_misuse(arguments: list[str]) -> None:
    """The exit code says so."""
    assert CliRunner().invoke(profile, arguments).exit_code == MISUSED
