"""Resources as rows of the USE table, and the kernel's pressure files that they are read from."""

import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slipstream.monitoring.pressure import pressure, some_avg10
from slipstream.monitoring.use_rows import ResourceRows

TOLD = "some avg10=12.50 avg60=3.00 avg300=1.00 total=123\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=4\n"


def test_a_busy_process_shows_its_cpu() -> None:
    """A thread that computes uses its share of what it may; the rows come in a fixed order."""
    rows = ResourceRows()
    rows()
    end = time.perf_counter() + 0.5
    while time.perf_counter() < end:
        sum(range(1000))
    cpu, memory, disk, network = rows()

    assert [cpu.part, memory.part, disk.part, network.part] == ["cpu", "memory", "disk", "network"]
    assert cpu.utilisation is not None
    assert cpu.utilisation > 0.02
    assert memory.utilisation is not None
    assert 0 < memory.utilisation < 1
    assert disk.utilisation is None or 0 <= disk.utilisation <= 1
    assert (network.errors or 0) >= 0


def test_a_rate_over_no_time_is_not_told() -> None:
    """Two looks right after each other say no CPU rather than a wrong one."""
    rows = ResourceRows()
    rows()

    assert rows()[0].utilisation is None


def test_pressure_is_the_groups_before_the_machines(tmp_path: Path) -> None:
    """The own control group's file counts; without it the machine's, without both nothing is said."""
    own, root, machine = tmp_path / "own", tmp_path / "cgroup", tmp_path / "pressure"
    (root / "app").mkdir(parents=True)
    machine.mkdir()
    own.write_text("0::/app\n")
    assert pressure("cpu", root, own, machine) is None

    (machine / "cpu").write_text(TOLD.replace("12.50", "40.00"))
    assert pressure("cpu", root, own, machine) == 40.0

    (root / "app" / "cpu.pressure").write_text(TOLD)
    assert pressure("cpu", root, own, machine) == 12.5


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """A file that is no pressure file says nothing, and breaks nothing."""
    told = some_avg10(text)

    assert told is None or isinstance(told, float)
