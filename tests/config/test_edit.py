"""One setting changed in a file: the value is new, and every other byte is as it was."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.config import names
from slipstream.config.edit import with_value, with_values, without
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


@given(
    st.sampled_from(["", "# mine\n", FILE, "[models]\nattempts = 2\n", "[server]\nport = 1"]), st.booleans()
)
def test_what_was_set_is_taken_out_again(text: str, is_windows: bool) -> None:
    """A table that was begun for it goes too; every line end is one of the file's own."""
    end = "\r\n" if is_windows and text else "\n"
    before = text.replace("\n", end)
    settings = {
        'models.upstreams."host:9".url': '"http://127.0.0.1:9/v1"',
        'models.upstreams."host:9".weight': "0.1",
    }
    now = with_values(before, settings)

    assert tomllib.loads(now)["models"]["upstreams"]["host:9"] == {
        "url": "http://127.0.0.1:9/v1",
        "weight": 0.1,
    }
    if before:
        assert now.count("\n") == now.count(end) or "\n" not in text
    assert without(now, list(settings), before=before).strip() == before.strip()


def test_a_line_taken_out_leaves_the_rest_of_its_table() -> None:
    """Also where it was its only key, if the table was there before."""
    text = FILE.replace("weight = 2.0 # the big one\n", "")
    now = with_value(text, "models.upstreams.a.weight", "0.5")

    assert without(now, ["models.upstreams.a.weight"], before=text) == text
    assert without("[models]\nattempts = 3\n", ["models.attempts"], before="[models]\n") == "[models]\n"


def test_what_it_cannot_take_out_it_leaves() -> None:
    """An inline table is a person's to change."""
    with pytest.raises(ConfigurationError):
        without("models = { attempts = 2 }\n", ["models.attempts"])
