"""Resources: real processes that burn, allocate and write are seen to do so."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from hypothesis import given
from hypothesis import strategies as some

from slipstream.core.metrics import METRICS
from slipstream.monitoring.resources import Flow, ResourceReader

BURN = "print(flush=True)\nwhile True: pass"
ALLOCATE = "x = bytearray(64 * 1024 * 1024); print(flush=True); input()"


@contextlib.contextmanager
def running(program: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child of ours that has said that it is under way."""
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield child
        finally:
            child.kill()


def test_first_look_is_taken_when_built() -> None:
    """The first `read` has rates already, over the time since the reader was built."""
    reader = ResourceReader()
    time.sleep(0.05)
    seen = reader.read()

    assert seen.cpu_percent is not None
    assert seen.cpu_percent >= 0
    assert seen.memory_bytes > 1024 * 1024
    assert 0 < seen.memory_percent < 100
    assert seen.memory_limit_bytes <= psutil.virtual_memory().total
    assert 0 < seen.cpu_limit_cores <= (os.cpu_count() or 1)
    assert seen.processes >= 1


def test_cpu_of_the_whole_tree_counts() -> None:
    """A child that burns a core is in the CPU of its parent's tree, as a share of what may be used."""
    reader = ResourceReader()
    with running(BURN) as child:
        looked = psutil.Process(child.pid), psutil.Process()

        def used() -> tuple[float, float, float]:
            times = [each.cpu_times() for each in looked]
            burnt, own = (each.user + each.system for each in times)
            return burnt, burnt + own, time.perf_counter()

        reader._scan(0)
        outer = used()
        reader.read()
        inner = used()
        time.sleep(0.5)
        inner_end = used()
        seen = reader.read()
        outer_end = used()
    assert seen.cpu_percent is not None
    cores = seen.cpu_percent / 100 * seen.cpu_limit_cores
    ticks = 0.05  # the kernel counts in hundredths of a second

    assert cores * (outer_end[2] - outer[2]) >= inner_end[0] - inner[0] - ticks
    assert cores * (inner_end[2] - inner[2]) <= outer_end[1] - outer[1] + ticks
    assert cores > 0


def test_memory_of_the_whole_tree_counts() -> None:
    """What a child allocates is in the memory of the tree."""
    reader = ResourceReader()
    before = reader.read()
    with running(ALLOCATE):
        reader._scan(0)
        seen = reader.read()

    assert seen.processes == before.processes + 1
    assert seen.memory_bytes - before.memory_bytes > 48 * 1024 * 1024


def test_bytes_written_by_a_child_that_ended_stay_counted(tmp_path: Path) -> None:
    """Totals never fall, also when a process of the tree ends."""
    program = (
        f"import os; f = open({str(tmp_path / 'data')!r}, 'wb'); f.write(os.urandom(4 << 20)); "
        "f.flush(); os.fsync(f.fileno()); print(flush=True); input()"
    )
    reader = ResourceReader()
    with running(program):
        reader._scan(0)
        seen = reader.read()
    after = reader.read()

    assert after.disk.outward >= seen.disk.outward
    if seen.disk.outward:  # not every file system of a container counts
        assert seen.disk.outward >= 4 << 20


def test_a_tree_that_is_gone_is_no_error() -> None:
    """A process that has ended uses nothing."""
    with running(ALLOCATE) as child:
        reader = ResourceReader(child.pid)
        assert reader.read().processes == 1
    seen = reader.read()

    assert (seen.processes, seen.memory_bytes) == (0, 0)
    assert seen.cpu_percent == 0


def test_every_value_is_a_declared_metric(tmp_path: Path) -> None:
    """Names, kinds and labels are those of the table."""
    reader = ResourceReader(folder=tmp_path)
    seen = reader.read()
    for kind, values in (("gauge", seen.gauges()), ("counter", seen.counters())):
        told = list(values)
        assert told
        for name, labels, value in told:
            assert METRICS[name].kind == kind
            assert set(labels) == set(METRICS[name].labels)
            assert value >= 0


def test_a_disk_that_is_not_there() -> None:
    """How full a missing folder's disk is, is not known."""
    assert ResourceReader(folder=Path("/no/such/folder")).read().disk_full_percent is None


@given(some.lists(some.tuples(some.integers(0, 2**62), some.integers(0, 2**62)), min_size=2))
def test_flow_never_runs_backwards(looks: list[tuple[int, int]]) -> None:
    """Whatever a device counts, what is added up only grows."""
    total, before = Flow(), Flow(*looks[0])
    for look in looks[1:]:
        grown = total + Flow(*look).since(before)
        assert grown.inward >= total.inward
        assert grown.outward >= total.outward
        total, before = grown, Flow(*look)
