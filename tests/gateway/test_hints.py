"""Whatever a client is told to have gone wrong says what to do about it."""

import ast
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from slipstream.core import errors
from slipstream.core.hints import HINTS

SOURCES = Path(str(resources.files("slipstream")))
WAY = [
    SOURCES / "core" / "chat.py",
    *(SOURCES / "flow").glob("*.py"),
    *(SOURCES / "models").glob("*.py"),
    *(path for path in (SOURCES / "gateway").glob("*.py") if path.stem not in {"alerts_api", "metrics_api"}),
    *(path for path in (SOURCES / "net").glob("*.py") if path.stem != "mail"),
]
ANSWERED = {"BadRequest", "NotAllowed", "LimitReached", "UpstreamFailed", "UpstreamTimeout", "Unavailable"}
INNER = {
    "models/fetch.py": "what `slipstream pull` says at a terminal",
    "models/simulated.py": "a script's own words",
    "models/simulated_answer.py": "the simulated server's",
    "models/simulated_plan.py": "the simulated server's",
    "models/simulated_script.py": "the simulated server's",
}
PASSED_ON = {'said.message or "The model\'s answer broke."', "'its stream ended before it was finished'"}
"""Words of somebody else, and those that are wrapped in an error with a hint."""


def made(path: Path) -> Iterator[ast.Call]:
    """Every error that a file makes and a client may see."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ANSWERED:
            yield node


@pytest.mark.parametrize("path", WAY, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_error_on_the_way_has_a_hint(path: Path) -> None:
    """One of its own, or the one of its code."""
    if f"{path.parent.name}/{path.name}" in INNER:
        return
    mute = []
    for call in made(path):
        given = {each.arg: each.value for each in call.keywords}
        code = given.get("code")
        assert isinstance(call.func, ast.Name)
        name = code.value if isinstance(code, ast.Constant) else getattr(errors, call.func.id).code
        if "hint" not in given and name not in HINTS and ast.unparse(call.args[0]) not in PASSED_ON:
            mute.append(f"line {call.lineno}: {ast.unparse(call.args[0])}")
    assert mute == []


def test_hints_are_for_codes_that_exist() -> None:
    """No hint is kept for what nobody says any more."""
    text = "".join(path.read_text() for path in SOURCES.rglob("*.py") if path.name != "hints.py")
    assert [code for code in HINTS if f'"{code}"' not in text] == []


def test_own_hint_goes_before_the_codes() -> None:
    """The place of an error knows best; without one the code says it."""
    assert errors.BadRequest("No.", code="invalid_json").hint == HINTS["invalid_json"]
    assert errors.BadRequest("No.", code="invalid_json", hint="Say yes.").hint == "Say yes."
    assert str(errors.BadRequest("No.", code="strange")) == "No."
