"""A printed CPU profile: whatever a function is called, file and line are there to be read."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.profiling.cpu_profile import CpuProfile, Frame, Sample

LONG = Frame("RerankingService.score_candidates_with_model", "/srv/shop/services/reranking_service.py", 812)
NAMES = st.text(string.ascii_letters + "._<>", min_size=1, max_size=90)
FILES = st.text(string.ascii_lowercase + "_", min_size=1, max_size=40).map("/srv/{0}/{0}.py".format)
FRAMES = st.builds(Frame, NAMES, FILES, st.integers(1, 99_999))
STACKS = st.lists(st.lists(FRAMES, min_size=1, max_size=3).map(tuple), min_size=1, max_size=6)


def profile_of(*stacks: tuple[Frame, ...]) -> CpuProfile:
    return CpuProfile(tuple(Sample(stack, "", 10_000_000) for stack in stacks), 1.0, 100, 0.001)


@pytest.mark.parametrize("width", [80, 120])
def test_a_long_function_keeps_its_file_and_line(width: int) -> None:
    """In the table of functions and in that of lines, within the width; the name gives way in its middle."""
    lines = profile_of((LONG,)).table(width).splitlines()

    rows = [line for line in lines if "services/reranking_service.py:812" in line]
    assert len(rows) == 2
    assert all(row.startswith("Reranking") and len(row) <= width for row in rows)
    assert all((LONG.function in row) == (width == 120) for row in rows)


@given(STACKS, st.integers(0, 300))
def test_file_and_line_are_whole_at_any_width(stacks: list[tuple[Frame, ...]], width: int) -> None:
    """Only the folder may go; no row is wider than the table but for a file with too long a name."""
    profile = profile_of(*stacks)
    lines = profile.table(width).splitlines()
    rows = lines[2 : 2 + len(profile.functions()[:20])]

    for spot, row in zip(profile.functions(), rows, strict=False):
        file = spot.place.rpartition("/")[2]
        assert f"{file} " in row
        assert len(row) <= max(min(max(width, 80), 160), len(file) + 32)


def test_a_function_stands_at_the_line_that_took_most() -> None:
    """The one of its lines in which most of its time went, with what it called."""
    first, second = (Frame("work", "/srv/app/work.py", line) for line in (10, 20))
    (spot,) = profile_of((first,), (second,), (second,)).functions()

    assert (spot.name, spot.function, spot.place) == ("work (app/work.py)", "work", "app/work.py:20")


def test_a_print_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 80 and 160 columns."""
    profile = profile_of((LONG,))
    for columns in (40, 120, 500):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert str(profile) == profile.table(columns)
    assert max(map(len, profile.table(40).splitlines())) == 80
