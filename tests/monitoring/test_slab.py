"""Slabs: what a writer counts is what readers see, whatever happens to writer, memory or file."""

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.errors import StoreFailed
from slipstream.core.histogram import SLOTS
from slipstream.core.meters import NAMES, Counters
from slipstream.core.metrics import OTHER, RECORDED, SERIES_MAX, SKETCH_SERIES_MAX
from slipstream.monitoring.meter import Meter, attach
from slipstream.monitoring.slab import (
    CELLS_AT,
    SLAB_BYTES,
    USED,
    USED_AT,
    claim,
    claim_guest,
    link_slab,
    make_slab,
    private_slab,
)
from slipstream.monitoring.slab_reader import Change, SlabReader


def grown(reader: SlabReader) -> dict[tuple[str, ...], Change]:
    """The changes by name and labels."""
    return {(RECORDED[c.series.metric].name, *c.series.values): c for c in reader.changes()}


def test_a_reader_sees_what_was_written(tmp_path: Path) -> None:
    """Growth of counters and histograms since the last look, and gauges as they are."""
    reader = SlabReader(make_slab(tmp_path / "s", 1))
    meter = Meter(claim(tmp_path / "s"))
    meter.count("requests", "chat", "m", "u", by=3)
    meter.set("in_flight", 7)
    meter.observe("ttft", 12.5, "m")
    grown(reader)
    meter.count("requests", "chat", "m", "u", by=2)
    meter.observe("ttft", 12.5, "m")
    meter.observe("ttft", 80.0, "m")

    seen = grown(reader)

    assert seen["requests", "chat", "m", "u"].value == 2
    assert seen["in_flight",].value == 7
    assert seen["ttft", "m"].value == pytest.approx(92.5e6)
    assert sum((seen["ttft", "m"].buckets or {}).values()) == 2
    assert set(seen) == {("requests", "chat", "m", "u"), ("in_flight",), ("ttft", "m")}


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.001, 1e6)), max_size=60), st.integers(1, 7))
def test_growth_adds_up(observed: list[tuple[str, float]], every: int) -> None:
    """However often somebody looks, the growths add up to what was recorded."""
    slab = private_slab()
    file = os.memfd_create("test")
    os.ftruncate(file, SLAB_BYTES)
    reader = SlabReader(file)
    meter = Meter(slab)
    counts: Counter[str] = Counter()
    for number, (model, value) in enumerate(observed):
        meter.observe("ttft", value, model)
        if number % every == 0:
            os.pwrite(file, slab._memory[:], 0)
            counts.update(
                {c.series.values[0]: sum(c.buckets.values()) for c in reader.changes() if c.buckets}
            )
    os.pwrite(file, slab._memory[:], 0)
    counts.update({c.series.values[0]: sum(c.buckets.values()) for c in reader.changes() if c.buckets})
    os.close(file)

    assert counts == Counter(model for model, _ in observed)


WRITER = """
import os, sys
from pathlib import Path
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.slab import claim
meter = Meter(claim(Path(sys.argv[1])))
meter.set("in_flight", 5)
for _ in range(1000): meter.count("shed", "l")
print("ready", flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_killed_writer_loses_nothing(tmp_path: Path) -> None:
    """After kill -9 the counts are there, the gauge is known to be nobody's, and the next one goes on."""
    file = make_slab(tmp_path / "s", 1)
    reader = SlabReader(file)
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", WRITER, str(tmp_path / "s")], stdout=subprocess.PIPE, check=False
        )

    assert not reader.has_writer()
    assert grown(reader)["shed", "l"].value == 2000
    slab = claim(tmp_path / "s")
    assert reader.has_writer()
    assert ("in_flight",) not in grown(reader)
    slab.close()


def test_a_slab_has_one_writer(tmp_path: Path) -> None:
    """A second one is refused until the first has let go."""
    file = make_slab(tmp_path / "s", 1)
    slab = claim(tmp_path / "s")

    with pytest.raises(StoreFailed):
        claim(tmp_path / "s")
    slab.close()
    claim(tmp_path / "s").close()
    os.close(file)


def test_guests_take_the_first_free_slab(tmp_path: Path) -> None:
    """As many guests as there are slabs; one more gets none, until one leaves."""
    files = [make_slab(tmp_path / f"guest-{number}", 1) for number in range(2)]
    first, second = claim_guest(tmp_path), claim_guest(tmp_path)

    assert first is not None
    assert second is not None
    assert claim_guest(tmp_path) is None
    first.close()
    again = claim_guest(tmp_path)
    assert again is not None
    for slab in (second, again):
        slab.close()
    for file in files:
        os.close(file)


@pytest.mark.skipif(sys.platform != "linux", reason="only a memfd can be sealed")
def test_nobody_can_shorten_a_slab(tmp_path: Path) -> None:
    """Truncating is refused, and a link that was deleted is put back: its writer serves on."""
    file = make_slab(tmp_path / "s", 1)
    slab = claim(tmp_path / "s")

    with pytest.raises(PermissionError):
        os.truncate(tmp_path / "s", 0)
    (tmp_path / "s").unlink()
    Meter(slab).count("shed", "l")
    link_slab(tmp_path / "s", file)

    assert grown(SlabReader(file))["shed", "l"].value == 1
    slab.close()
    claim(tmp_path / "s").close()


@pytest.mark.parametrize("size", [0, 10, USED_AT + 2, CELLS_AT - 100, CELLS_AT, CELLS_AT + 800])
def test_a_short_slab_is_an_error(tmp_path: Path, size: int) -> None:
    """A file that was cut anywhere raises our error, and is no reader's death."""
    slab = private_slab()
    Meter(slab).observe("ttft", 5.0, "m")
    (tmp_path / "cut").write_bytes(slab._memory[:size])
    with (tmp_path / "cut").open("rb") as file, pytest.raises(StoreFailed):
        list(SlabReader(file.fileno()).changes())
    with pytest.raises(StoreFailed):
        claim(tmp_path / "cut")


@settings(max_examples=60)
@given(st.integers(0, CELLS_AT - 1), st.binary(min_size=1, max_size=16))
def test_a_torn_slab_is_an_error_or_is_read(at: int, torn: bytes) -> None:
    """Whatever bytes stand in header and directory, reading raises nothing but our error."""
    slab = private_slab()
    Meter(slab).observe("ttft", 5.0, "m")
    file = os.memfd_create("test")
    os.pwrite(file, slab._memory[:], 0)
    os.pwrite(file, torn, at)
    try:
        list(SlabReader(file).changes())
    except StoreFailed:
        pass
    finally:
        os.close(file)


def test_label_sets_are_bounded() -> None:
    """Beyond the bound everything is counted under `__other__`, once for each, and that is counted too."""
    slab = private_slab()
    meter = Meter(slab)
    for number in range(SERIES_MAX + 40):
        meter.count("tokens_input", f"model {number}", by=1)
    for number in range(SKETCH_SERIES_MAX + 4):
        meter.observe("ttft", 1.0, f"model {number}")

    assert slab.cells[slab.place("tokens_input", OTHER)] == 41
    other = slab.place("ttft", OTHER)
    assert sum(slab.cells[other + 1 : other + 1 + SLOTS]) == 5
    assert slab.cells[slab.place("label_sets_refused")] == 41 + 5


def test_a_full_slab_writes_over_nothing() -> None:
    """With every series of every metric taken, what is written later changes no other series."""
    slab = private_slab()
    for metric in RECORDED:
        for number in range(SERIES_MAX):
            slab.place(metric.name, *(str(number) for _ in metric.labels))
    series, used = USED.unpack_from(slab._memory, USED_AT)
    before = slab.cells[:used].tolist()

    at = slab.place("query_time", "late")
    slab.cells[at] += 1

    after = slab.cells[:used].tolist()
    assert series <= 1024
    changed = [
        place for place, (b, a) in enumerate(zip(before, after, strict=True)) if b != a and not math.isnan(a)
    ]
    assert set(changed) <= {at, slab.place("label_sets_refused")}


def test_bad_values_are_counted_and_not_recorded() -> None:
    """Negative values, NaN, infinity and names that are not declared change nothing but their count."""
    slab = private_slab()
    meter = Meter(slab)

    meter.count("tokens_input", "m", by=-1)
    meter.count("tokens_input", "m", by=float("nan"))
    meter.observe("ttft", float("inf"), "m")
    meter.observe("ttft", -3.0, "m")
    meter.set("in_flight", float("nan"))
    meter.count("no_such_metric")
    meter.count("tokens_input")
    meter.observe("tokens_input", 1.0, "m")

    assert slab.cells[slab.place("metrics_refused")] == 8
    assert slab.cells[slab.place("tokens_input", "m")] == 0


def test_counts_move_into_a_slab_and_out_again() -> None:
    """Nothing that was counted is lost, and what an earlier process counted is not this one's."""
    slab = private_slab()
    slab.cells[slab.place("requests_begun")] = 100
    counters = Counters()
    counters.count("requests", 3)

    attach(counters, slab)
    counters.count("requests", 2)

    assert slab.cells[slab.place("requests_begun")] == 105
    assert counters.snapshot() == dict.fromkeys(NAMES, 0) | {"requests": 5}
    counters.leave()
    counters.count("requests")
    assert counters.snapshot()["requests"] == 6
    assert slab.cells[slab.place("requests_begun")] == 105


def test_label_values_are_cut(tmp_path: Path) -> None:
    """A long or odd label value is cut to its bound and still one series."""
    file = make_slab(tmp_path / "s", 1)
    slab = claim(tmp_path / "s")
    Meter(slab).count("tokens_input", "ü" * 5000)
    Meter(slab).count("tokens_input", "\ud800 broken")

    labels = [each.series.values[0] for each in SlabReader(file).changes()]

    assert labels == ["ü" * 32, "? broken"]
    slab.close()
    os.close(file)
