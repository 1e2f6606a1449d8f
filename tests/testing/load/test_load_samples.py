"""Samples: selecting, joining and storing loses nothing; times that never came stay unknown."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.errors import ConfigurationError
from slipstream.testing.load.columns import Reading, Recorder, gaps_size, rows_size, shared_file
from slipstream.testing.load.samples import ERRORS, NEVER, Samples

CANCELLED = ERRORS.index("cancelled")


def recorded(requests: list[tuple[int, list[int]]], *, gaps_max: int = 1000, worker: int = 0) -> Samples:
    """Samples of requests with an intended time and gaps, as a worker writes them, ended in reverse order."""
    sizes = {"rows_max": max(1, len(requests)), "gaps_max": gaps_max}
    files = shared_file(rows_size(sizes["rows_max"])), shared_file(gaps_size(gaps_max))
    recorder, reading = Recorder(*files, **sizes), Reading(*files, **sizes)
    rows = [recorder.begin(intended, intended + 1, 1) for intended, _ in requests]
    for row, (intended, gaps) in reversed([*zip(rows, requests, strict=True)]):
        first, last = intended + 5, intended + 5 + sum(gaps)
        tokens = (len(gaps) + 1, 3, len(gaps) + 1, NEVER, 10)
        recorder.finish(row, (first, first, last, last + 2), gaps, tokens, (200, 0))
    recorder.close()
    counts = reading.counts()
    return reading.samples(counts.rows, counts.gaps, worker, (0, 0))


requests = st.lists(
    st.tuples(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), max_size=5)), max_size=30
)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(requests, min_size=1, max_size=3))
def test_merging_keeps_each_request_whole(parts: list[list[tuple[int, list[int]]]]) -> None:
    """All requests of all parts come out in order, each with its own gaps."""
    merged = Samples.merge([recorded(part, worker=number) for number, part in enumerate(parts)])
    expected = sorted((intended, gaps) for part in parts for intended, gaps in part)
    found = [(int(merged.intended_ns[row]), merged.gaps_of(row).tolist()) for row in range(len(merged))]

    assert sorted(found) == expected
    assert merged.intended_ns.tolist() == [intended for intended, _ in expected]
    assert sorted(merged.pooled_gaps_ns().tolist()) == sorted(gap for _, gaps in expected for gap in gaps)


@settings(max_examples=60, deadline=None)
@given(part=requests, data=st.data())
def test_selecting_takes_the_gaps_along(part: list[tuple[int, list[int]]], data: st.DataObject) -> None:
    """Selected requests have their own gaps, pooled too."""
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(part), max_size=len(part))), np.bool_)
    picked = recorded(part).select(chosen)
    expected = [gaps for (_, gaps), is_in in zip(part, chosen, strict=True) if is_in]

    assert [picked.gaps_of(row).tolist() for row in range(len(picked))] == expected
    assert sorted(picked.pooled_gaps_ns().tolist()) == sorted(gap for gaps in expected for gap in gaps)


def test_request_ids_follow_their_rows() -> None:
    """Ids stay with their requests through joining, ordering and selecting."""
    from msgspec import structs

    one = structs.replace(
        recorded([(30, []), (10, [])]), request_rows=np.array([0, 1]), request_ids=("thirty", "ten")
    )
    two = structs.replace(recorded([(20, [])]), request_rows=np.array([0]), request_ids=("twenty",))
    merged = Samples.merge([one, two])

    assert merged.request_ids == ("ten", "twenty", "thirty")
    assert merged.request_rows.tolist() == [0, 1, 2]
    assert merged.select(merged.intended_ns > 10).request_ids == ("twenty", "thirty")
    assert merged.select(merged.intended_ns > 10).request_rows.tolist() == [0, 1]


def test_differences_of_times_that_never_came_are_unknown() -> None:
    """A request that was never sent, or never ended, has no latency, and is `cancelled`."""
    files = shared_file(rows_size(4)), shared_file(gaps_size(4))
    recorder = Recorder(*files, rows_max=4, gaps_max=4)
    recorder.begin(5, NEVER, 0)
    recorder.begin(6, 7, 0)
    recorder.publish()
    samples = Reading(*files, rows_max=4, gaps_max=4).samples(2, 0, 0, (6, 0))

    assert samples.error.tolist() == [CANCELLED, CANCELLED]
    for times in (samples.response_ns, samples.service_ns, samples.ttft_ns, samples.service_ttft_ns):
        assert times.tolist() == [NEVER, NEVER]
    assert np.isnan(samples.itl_ns).all()
    assert samples.phase.tolist() == [1, 0]


def test_inter_token_latency_is_per_token() -> None:
    """(last - first) / (tokens - 1), also where a chunk holds several tokens; one chunk has none."""
    samples = recorded([(0, [10, 20]), (1, [])])

    assert samples.itl_ns[0] == 15
    assert np.isnan(samples.itl_ns[1])


def test_rows_of_a_dead_writer_are_counted() -> None:
    """Rows that were begun but not published are found; rows that were only prepared are not."""
    files = shared_file(rows_size(5000)), shared_file(gaps_size(4))
    recorder = Recorder(*files, rows_max=5000, gaps_max=4)
    for row in range(3000):
        recorder.begin(row, row, 0)
        if row == 1000:
            recorder.publish()
    reading = Reading(*files, rows_max=5000, gaps_max=4)

    assert reading.counts().rows == 1001
    assert reading.rows_begun(1001) == 3000


def test_gaps_beyond_the_cap_are_counted() -> None:
    """Exact gaps end at the cap; those beyond are in a histogram of buckets 2.2 % wide."""
    files = shared_file(rows_size(2)), shared_file(gaps_size(3))
    recorder = Recorder(*files, rows_max=2, gaps_max=3)
    for row in (0, 1):
        recorder.begin(row, row, 0)
        recorder.finish(row, (1, 1, 9, 9), [1024, 2048], (3, 1, 3, 0, 9), (200, 0))
    recorder.publish()
    samples = Reading(*files, rows_max=2, gaps_max=3).samples(2, 3, 0, (0, 0))

    assert samples.pooled_gaps_ns().tolist() == [1024, 2048, 1024]
    assert recorder.gaps_beyond == 1
    assert [place for place, count in enumerate(recorder.gap_histogram) if count] == [11 * 32]


def test_samples_are_stored_whole(tmp_path: Path) -> None:
    """What was saved comes back column by column; another file is refused with its name."""
    samples = recorded([(1, [2, 3]), (4, [])])
    samples.save(tmp_path / "samples.npz")
    back = Samples.load(tmp_path / "samples.npz")
    (tmp_path / "other.npz").write_bytes(b"no")

    for name in Samples.__struct_fields__:
        assert np.array_equal(getattr(back, name), getattr(samples, name)), name
    with pytest.raises(ConfigurationError, match=r"other\.npz"):
        Samples.load(tmp_path / "other.npz")
