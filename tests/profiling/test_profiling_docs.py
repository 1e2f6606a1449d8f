"""The page on profiling: its Python block runs as printed."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "profiling.md"


def test_the_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the table of steps, the memory and the table of resources."""
    (block,) = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    exec(compile(block, str(PAGE), "exec"), {"__name__": "docs"})
    printed = capsys.readouterr().out

    assert "search" in printed
    assert "RSS" in printed
    assert "resource" in printed
