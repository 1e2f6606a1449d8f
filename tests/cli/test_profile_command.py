"""`slipstream profile`: what is asked amiss is refused before any server is looked for, with what would be right."""

import pytest
from click.testing import CliRunner

from slipstream.cli import MISUSED
from slipstream.cli.profile import profile

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
