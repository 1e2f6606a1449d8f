"""docs/alerts.md says what is: its conditions mean what stands beside them, its settings are settings."""

import re
import tomllib
from pathlib import Path

import msgspec

from slipstream.config.settings import Settings
from slipstream.monitoring.conditions.expand import expand
from slipstream.monitoring.conditions.mistakes import ConditionError
from slipstream.monitoring.conditions.parser import parse

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text("utf-8")


def test_meanings_are_true() -> None:
    """Every row of the table is how the condition is shown back."""
    rows = re.findall(r"^\| `([^`]+ [<>] [^`]+)` \| (.+ over .+|last of .+) \|$", PAGE, re.MULTILINE)

    assert len(rows) == 6
    assert [expand(parse(written)) for written, _ in rows] == [meaning for _, meaning in rows]


def test_settings_are_understood() -> None:
    """Every block of settings is one, and its conditions are conditions."""
    blocks = re.findall(r"^ *```toml\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    for block in blocks:
        settings = msgspec.convert(tomllib.loads(block), Settings)
        for rule in settings.alerts.rules.values():
            parse(rule.condition)

    assert len(blocks) == 2


def test_mistake_is_answered_so() -> None:
    """The mistake that is shown is answered word for word."""
    shown = re.search(r"```\n(There is no metric.*?)\n```", PAGE, re.DOTALL)
    assert shown is not None
    try:
        parse("response_tme > 5000")
    except ConditionError as error:
        said = [line.rstrip() for line in str(error).splitlines()]

    assert said[:3] == [line.rstrip() for line in shown[1].splitlines()][:3]
    assert "`response_time`" in said[3]
