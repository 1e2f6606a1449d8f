"""One setting changed in a file: the value is new, and every other byte is as it was."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.config import names
from slipstream.config.edit import with_value
from slipstream.core.errors import ConfigurationError

FILE = """# mine
[server]
port = 8080  # as ever

[models.upstreams.a]
url = "http://127.0.0.1:1/v1"
weight = 2.0 # the big one

[models.upstreams."host:8000"]
url = "http://127.0.0.1:8000/v1"
"""


def test_a_value_is_replaced_where_it_stands() -> None:
    """Comments, order and spacing stay."""
    changed = with_value(FILE, "models.upstreams.a.weight", "0.5")

    assert changed == FILE.replace("weight = 2.0 # the", "weight = 0.5 # the")


def test_a_key_joins_its_table() -> None:
    """A table that is there gets the key; its name may need quotes."""
    changed = with_value(FILE, 'models.upstreams."host:8000".connections', "12")

    assert tomllib.loads(changed)["models"]["upstreams"]["host:8000"]["connections"] == 12
    assert changed.replace("connections = 12\n", "") == FILE


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[server]\nport = 1"])
def test_a_table_is_begun_where_there_is_none(text: str) -> None:
    """What was there stays in front."""
    changed = with_value(text, "models.attempts", "3")

    assert tomllib.loads(changed)["models"]["attempts"] == 3
    assert changed.startswith(text.rstrip("\n"))


@pytest.mark.parametrize("text", ["models = { attempts = 2 }\n", "not toml ["])
def test_what_it_cannot_change_it_leaves(text: str) -> None:
    """An inline table, or no TOML at all, is refused with the line to write."""
    with pytest.raises(ConfigurationError) as raised:
        with_value(text, "models.attempts", "3")

    assert "models.attempts = 3" in raised.value.hint


WORDS = st.text("abc_-. :\"'é", min_size=1, max_size=6)


@given(st.dictionaries(WORDS, st.integers(0, 9), max_size=4), WORDS, st.integers(10, 99))
def test_nothing_else_changes(others: dict[str, int], name: str, value: int) -> None:
    """Whatever upstreams are called: the one is set, the others are as they were."""
    text = "".join(f"[models.upstreams.{names.quoted(each)}]\nwaiting = {n}\n" for each, n in others.items())
    changed = tomllib.loads(
        with_value(text, names.written(("models", "upstreams", name, "waiting")), str(value))
    )

    expected = {each: {"waiting": n} for each, n in others.items()} | {name: {"waiting": value}}
    assert changed == {"models": {"upstreams": expected}}
