"""Looks at resources that the machine refuses: counted, told once, nothing stale, and the next one goes on."""

import logging
import threading
from pathlib import Path

import psutil
import pytest

from monitoring.slabs import Measured
from slipstream.core.readings import Readings
from slipstream.monitoring.own_process import OwnProcess
from slipstream.monitoring.resource_meter import ResourceMeter


def refused(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The system's files of processes and counters are out of reach."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(folder / "nothing"))


def test_what_is_refused_is_unknown_and_then_known_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two looks fail: two are counted, one line is logged, the gauges are unset; then they are there again."""
    measured = Measured(tmp_path)
    resources, readings = ResourceMeter(measured.meter, tmp_path), measured.aggregate

    def looked() -> tuple[bool, bool]:
        measured.tick(each=lambda: resources.write(resources.read()))
        return readings.gauge("memory_bytes", {}) is None, readings.gauge("disk_usage", {}) is None

    assert looked() == (False, False)
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        refused(patch, tmp_path)
        assert looked() == (True, True)
        assert looked() == (True, True)
    assert looked() == (False, False)
    assert readings.total("resource_errors", {}) == 2
    ours = [each for each in caplog.records if each.threadName == threading.current_thread().name]
    assert len(ours) == 1  # this process may look at itself meanwhile, and say the same


def test_files_of_another_form_are_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox's /proc may lack lines; that ends nothing either."""
    measured = Measured(tmp_path)
    resources = ResourceMeter(measured.meter)
    (tmp_path / "stat").write_text("cpu\n")
    (tmp_path / "meminfo").write_text("MemTotal: some kB\n")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    measured.tick(2, each=lambda: resources.write(resources.read()))

    assert measured.aggregate.total("resource_errors", {}) == 2


def test_it_may_be_refused_from_the_first_look_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sandbox nothing is known, and nothing breaks."""
    measured = Measured(tmp_path)
    refused(monkeypatch, tmp_path)
    resources = ResourceMeter(measured.meter)
    measured.tick(3, each=lambda: resources.write(resources.read()))

    assert measured.aggregate.total("resource_errors", {}) == 3
    assert measured.aggregate.gauge("memory_bytes", {}) is None


def test_a_program_alone_looks_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls are counted while its resources are refused, and later its resources are seen."""
    own = OwnProcess()

    def seen(readings: Readings) -> tuple[float | None, bool]:
        return readings.total("app_calls", {"name": "work"}), readings.gauge("memory_bytes", {}) is not None

    with monkeypatch.context() as patch:
        refused(patch, tmp_path)
        own.calls().add("work", 1.0, failed=False)
        assert own.read(seen, fresh=True) == (1, False)
    own.calls().add("work", 1.0, failed=False)
    own.read(seen, fresh=True)  # the look may have begun before
    assert own.read(seen, fresh=True) == (2, True)
