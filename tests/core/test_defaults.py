"""The table by which a toolbox gets what another one builds."""

import subprocess
import sys

import pytest

from slipstream.core import defaults
from slipstream.core.use import UseRow


@pytest.mark.parametrize("name", sorted(defaults.TABLE))
def test_every_row_leads_to_a_factory(name: str) -> None:
    """Each name in the table can be imported and called."""
    assert callable(defaults.factory(name)())


def test_the_table_alone_imports_nothing() -> None:
    """Whoever imports it loads no part that it names."""
    program = "import sys, slipstream.core.defaults; print('slipstream.wiring' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)

    assert told.stdout.strip() == "False"


def test_a_row_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test puts in is what is used."""
    monkeypatch.setitem(defaults.TABLE, "resource_rows", f"{__name__}:made_up")

    assert [row.part for row in defaults.resource_rows()()] == ["made up"]


def made_up() -> defaults.Rows:
    return lambda: [UseRow("made up")]
