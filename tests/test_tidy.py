"""Style that a formatter cannot check. The numbers only ever go down."""

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILES = sorted(SOURCE.rglob("*.py"))
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
POSITIONAL_MAX = 5
NAMES_BANNED = {"utils", "helpers", "common", "misc", "manager", "base"}
BROAD = {"Exception", "BaseException"}
LAST_GUARDS = {"slipstream/flow/flight.py": 1, "slipstream/gateway/server.py": 1}
"""Where a task's last guard stands: the only places that may catch everything, and how often."""
WIRED_BY_NAME = {"slipstream/core/defaults.py", "slipstream/cli/__init__.py", "slipstream/__init__.py"}
"""The tables that import by string; nothing else does."""
CLOCKS = {"time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "perf_counter_ns"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def each_file(test: object) -> object:
    """Run a test once for every file of the source."""
    return pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))(test)


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.Module) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def calls(tree: ast.Module) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@each_file
def test_file_fits_in_a_head(path: Path) -> None:
    """A file is one noun, named after it, and short."""
    assert path.read_text(encoding="utf-8").count("\n") <= FILE_LINES_MAX
    assert not NAMES_BANNED & set(path.relative_to(SOURCE).with_suffix("").parts)


@each_file
def test_file_says_what_it_is_for(path: Path) -> None:
    """The first line of a file is a sentence on what it is for."""
    doc = ast.get_docstring(parsed(path)) or ""

    assert len(doc.partition("\n")[0]) >= 20, "say in one line what this module is for"


@each_file
def test_public_names_are_documented(path: Path) -> None:
    """Every public class and function, and every public method of a public class, has a docstring."""
    missing = [
        f"{node.name} (line {node.lineno})"
        for holder in ast.walk(parsed(path))
        if isinstance(holder, ast.Module | ast.ClassDef) and not getattr(holder, "name", "").startswith("_")
        for node in holder.body
        if isinstance(node, Function | ast.ClassDef)
        if not node.name.startswith("_") and not ast.get_docstring(node) and not is_overload(node)
    ]

    assert missing == []


def is_overload(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(ast.unparse(each) in {"overload", "typing.overload"} for each in decorators)


@each_file
def test_functions_fit_a_screen(path: Path) -> None:
    """A function is read without scrolling."""
    long = [
        f"{node.name} (line {node.lineno})"
        for node in functions(parsed(path))
        if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    ]

    assert long == []


def wraps(function: Function) -> bool:
    return any(ast.unparse(each).startswith("functools.wraps(") for each in function.decorator_list)


@each_file
def test_signatures_are_short(path: Path) -> None:
    """At most five parameters by position beside `self`, options after `*`; no `**kwargs` passed along.

    A wrapper (`functools.wraps`) has the signature of what it wraps, and must pass on what that takes.
    """
    for node in functions(parsed(path)):
        positional = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
        own = [name for name in positional if name not in {"self", "cls"}]

        assert len(own) <= POSITIONAL_MAX, f"{node.name} (line {node.lineno})"
        if node.args.kwarg is not None and not wraps(node):
            spread = node.args.kwarg.arg
            passed = [
                each.lineno for each in ast.walk(node) if isinstance(each, ast.Call) and passes(each, spread)
            ]

            assert passed == [], f"{node.name} passes **{spread} along"


def passes(call: ast.Call, spread: str) -> bool:
    return any(each.arg is None and ast.unparse(each.value) == spread for each in call.keywords)


@each_file
def test_booleans_are_named_where_they_are_given(path: Path) -> None:
    """A flag is a keyword: `f(x, True)` tells a reader nothing."""
    for node in functions(parsed(path)):
        for default in node.args.defaults:
            named = node.name.startswith("__") and node.name.endswith("__")
            is_flag = isinstance(default, ast.Constant) and isinstance(default.value, bool)
            assert named or not is_flag, f"{node.name} (line {node.lineno}): put the flag after *"


@each_file
def test_errors_are_named(path: Path) -> None:
    """No bare `except`; only the last guards of tasks catch everything."""
    broad = 0
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: name the exception"
            caught = {each.id for each in ast.walk(node.type) if isinstance(each, ast.Name)}
            broad += bool(caught & BROAD)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            assert not BROAD & {ast.unparse(each) for each in node.args}, f"line {node.lineno}"

    assert broad <= LAST_GUARDS.get(name_of(path), 0)


def test_last_guards_are_few() -> None:
    """There are two places at most where a task's last guard stands."""
    assert len(LAST_GUARDS) <= 2
    assert set(LAST_GUARDS) <= {name_of(path) for path in FILES}


@each_file
def test_time_comes_from_the_clock(path: Path) -> None:
    """Only `core/clock.py` reads a clock, so that a test can drive the real code on virtual time."""
    if name_of(path) == "slipstream/core/clock.py":
        return
    tree = parsed(path)
    read = [
        f"line {call.lineno}"
        for call in calls(tree)
        if isinstance(call.func, ast.Attribute)
        if isinstance(call.func.value, ast.Name) and call.func.value.id == "time" and call.func.attr in CLOCKS
    ]
    imported = [
        f"line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        if CLOCKS & {each.name for each in node.names}
    ]

    assert read + imported == []


@each_file
def test_nothing_is_imported_by_string(path: Path) -> None:
    """Only the stated tables import by name; everything else can be followed by a reader."""
    if name_of(path) in WIRED_BY_NAME:
        return
    by_string = [
        f"line {call.lineno}"
        for call in calls(parsed(path))
        if ast.unparse(call.func) in {"import_module", "importlib.import_module", "__import__"}
        if not (isinstance(call.args[0], ast.Constant) and call.args[0].value in sys.stdlib_module_names)
    ]

    assert by_string == []


@each_file
def test_nothing_local_is_written_down(path: Path) -> None:
    """No path of a developer's machine and no package registry's address stands in the source."""
    text = path.read_text(encoding="utf-8")

    for folder in ("home", "root", "work"):
        assert f"/{folder}/" not in text
    assert "/simple/" not in text  # the path of every package registry
