"""The worker's side of the metrics: which slab it takes, and what its sink adds to a record."""

import math
import os
from pathlib import Path

from slipstream.core.meters import Counters
from slipstream.core.record import Record
from slipstream.monitoring.slab import make_slab, slab_folder
from slipstream.server.worker_metrics import WorkerMetrics, claim_slot


class Kept:
    """A sink that keeps."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def take(self, record: Record) -> None:
        self.records.append(record)


def test_slabs_lie_beside_the_control_socket() -> None:
    """Whoever finds a server's socket finds its slabs."""
    assert slab_folder(Path("/run/x/control-ab12.sock")) == Path("/run/x/metrics-ab12")


def test_a_worker_takes_its_own_slab_then_a_spare_then_none(tmp_path: Path) -> None:
    """While its predecessor drains it takes a spare one; without any it serves on, and that is counted."""
    files = [make_slab(tmp_path / name, 1) for name in ("worker-0", "spare-0")]
    counters = Counters()

    slabs = [claim_slot(tmp_path, 0, counters) for _ in range(3)]

    assert [slab.file >= 0 for slab in slabs] == [True, True, False]
    assert counters.snapshot()["metrics_unshared"] == 1
    slabs[0].close()
    again = claim_slot(tmp_path, 0, counters)
    assert os.fstat(again.file).st_ino == os.fstat(files[0]).st_ino
    for slab in (*slabs[1:], again):
        slab.close()
    for file in files:
        os.close(file)


def test_without_a_folder_it_serves_on(tmp_path: Path) -> None:
    """Somebody deleted everything: the worker counts for itself."""
    counters = Counters()
    metrics = WorkerMetrics(claim_slot(tmp_path / "gone", 3, counters), "worker 3", counters)
    kept = Kept()

    metrics.sink(kept).take(Record(route="chat", outcome="served", duration_ns=5))
    counters.count("requests")
    metrics.close()

    assert len(kept.records) == 1
    assert counters.snapshot()["requests"] == 1
    assert counters.snapshot()["metrics_unshared"] == 1


def test_a_record_is_measured_and_passed_on(tmp_path: Path) -> None:
    """What it cost stands in the metrics; where that is not known, that is counted instead."""
    file = make_slab(tmp_path / "worker-0", 1)
    slab = claim_slot(tmp_path, 0, counters := Counters())
    metrics = WorkerMetrics(slab, "worker 0", counters)
    kept = Kept()
    sink = metrics.sink(kept)
    told: dict[str, object] = {"route": "chat", "model": "m", "upstream": "u", "outcome": "served"}

    sink.take(Record(**told, output_tokens=10))  # type: ignore[arg-type]
    sink.take(Record(**told, output_tokens=10, cost=0.25))  # type: ignore[arg-type]
    sink.take(Record(**told))  # type: ignore[arg-type]

    assert [record.cost for record in kept.records] == [None, 0.25, None]
    assert slab.cells[slab.place("cost", "m")] == 0.25
    assert slab.cells[slab.place("cost_unknown", "m")] == 1
    metrics.close()
    os.close(file)


def test_a_worker_that_ends_leaves_no_gauge(tmp_path: Path) -> None:
    """Nobody is told of requests in flight in a worker that is gone."""
    file = make_slab(tmp_path / "worker-0", 1)
    metrics = WorkerMetrics(claim_slot(tmp_path, 0, counters := Counters()), "worker 0", counters)
    metrics.look(3, 5_000_000)
    metrics.close()
    slab = claim_slot(tmp_path, 0, counters)
    value = slab.cells[slab.place("in_flight")]
    slab.close()
    os.close(file)

    assert math.isnan(value)
