"""What holds for every test: a home of its own, and in CI no skip that is not named here."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from blockbuster import blockbuster_ctx

hypothesis.settings.register_profile(
    "shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)  # a busy machine is no defect of ours: no test here is about absolute time
hypothesis.settings.load_profile("shared")

SKIPS_ALLOWED = {
    "the guide is not beside this checkout": "tests/test_guide.py runs from the project's call list",
    "shared data is not beside this checkout": "traces that the repository does not hold",
}
"""Reasons for which CI lets a test be skipped; any other skip is a failure there."""

_skips_refused: list[str] = []


def pytest_configure() -> None:
    """Nothing of the user's own settings, keys and servers reaches a test."""
    for name in [name for name in os.environ if name.startswith("SLIPSTREAM_")]:
        del os.environ[name]
    for name in ("NO_COLOR", "FORCE_COLOR"):
        os.environ.pop(name, None)


@pytest.fixture(autouse=True, scope="session")
def home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Data and state of the tests' servers lie in a temporary folder."""
    folder = tmp_path_factory.mktemp("home", numbered=True)
    before = {name: os.environ.get(name) for name in ("XDG_DATA_HOME", "XDG_STATE_HOME")}
    os.environ["XDG_DATA_HOME"] = str(folder / "data")
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


UNBLOCKED = {"contract", "flow", "gateway", "net"}
"""Folders of tests in which nothing of ours may block an event loop: no file, no sleep, no waiting for a lock."""


@pytest.fixture(autouse=True)
def nothing_blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """A call of ours that would block the running loop raises `BlockingError` there."""
    folder = request.path.relative_to(Path(__file__).parent).parts[0]
    if folder not in UNBLOCKED:
        yield
        return
    with blockbuster_ctx("slipstream"):
        yield


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take down every skip that CI does not allow. Under xdist the reports arrive here too."""
    _take_down(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A whole file may be skipped as well."""
    _take_down(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that did not run has not passed."""
    if _skips_refused and os.environ.get("CI") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which skips made the session fail."""
    if _skips_refused and os.environ.get("CI"):
        terminalreporter.section("skipped for a reason that tests/conftest.py does not name")
        for line in _skips_refused:
            terminalreporter.line(line, red=True)


def _take_down(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if reason not in SKIPS_ALLOWED:
        _skips_refused.append(f"{report.nodeid}: {reason}")
