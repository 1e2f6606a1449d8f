"""The memory profiler names the line that keeps what it allocates, and tells growth from noise."""

import asyncio
import itertools
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from slipstream.core.errors import BadRequest
from slipstream.profiling import MemoryProfiler
from slipstream.profiling.memory_profile import By, Growth, Size, suspects, trend

MB = 1_000_000
HERE = Path(__file__).name
DOCUMENT = json.dumps([{"at": at, "text": "x" * 20} for at in range(200)])


def sizes(*rss: float) -> list[Size]:
    return [Size(at * 1_000_000_000, int(each), 0) for at, each in enumerate(rss)]


class Leaking:
    """A thread that keeps some of what it allocates, as long as it is entered."""

    def __init__(self, bytes_each: int) -> None:
        self.kept: list[bytes] = []
        self._bytes = bytes_each
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.001):
            self._leak()
            json.loads(DOCUMENT)

    def _leak(self) -> None:
        self.kept.append(bytes(self._bytes + len(self.kept) % 10))  # the leak's line


LEAK = next(
    number
    for number, line in enumerate(Path(__file__).read_text().splitlines(), 1)
    if line.endswith("# the leak's line")
)


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where windows have their folders; none is left behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    assert not tracemalloc.is_tracing()


@pytest.mark.parametrize(
    ("by", "told", "bytes_each"),
    [
        (None, "memray", 10_000),
        ("memray", "memray", 10_000),
        ("memray-objects", "memray-objects", 200),
        ("tracemalloc", "tracemalloc", 200),
    ],
)
def test_a_leak_is_named_by_line(folders: Path, by: By | None, told: str, bytes_each: int) -> None:
    """What another thread keeps allocating is the only suspect; what it lets go of is none."""
    with Leaking(bytes_each):
        profile = MemoryProfiler().profile_memory(seconds=1.5, by=by)

    assert [(Path(each.file).name, each.line) for each in profile.suspects] == [(HERE, LEAK)]
    assert profile.growth[0] == profile.suspects[0]
    assert sum(profile.growth[0].parts) == profile.growth[0].bytes > 10 * bytes_each
    assert profile.by == told
    assert profile.tracing_cost is not None
    assert profile.tracing_cost >= 1
    assert profile.window_seconds is not None
    assert profile.window_seconds >= 1.5
    printed = str(profile)
    assert f"by {told}" in printed
    assert "times slower" in printed
    assert f"leak suspect: profiling/{HERE}:{LEAK}" in printed


def test_the_way_to_the_leak_and_the_peak_are_told(folders: Path) -> None:
    """memray knows the callers of the line, and what was held when most was."""
    with Leaking(10_000):
        profile = MemoryProfiler().profile_memory(seconds=1.0)

    assert [place.function for place in profile.suspects[0].stack[:2]] == ["_leak", "_run"]
    assert (Path(profile.peak[0].file).name, profile.peak[0].line) == (HERE, LEAK)
    assert "  _leak (profiling/" in str(profile)


def test_what_is_kept_once_is_no_suspect(folders: Path) -> None:
    """It grew, and is told; but not over the window."""
    kept = []
    timer = threading.Timer(0.3, lambda: kept.append(bytes(20 * MB)))
    timer.start()
    profile = MemoryProfiler().profile_memory(seconds=1.0)
    timer.join()

    assert profile.growth[0].bytes >= 20 * MB
    assert profile.suspects == ()
    assert "no leak suspect" in str(profile)


def test_a_suspect_grows_over_the_window_and_matters() -> None:
    """Three of four parts, a twentieth of the whole, and more than next to nothing."""
    steady = Growth("a.py", 1, 4 * MB, 4, (MB, MB, MB, MB))
    pauses = Growth("b.py", 1, 3 * MB, 3, (MB, 0, MB, MB))
    once = Growth("c.py", 1, 4 * MB, 4, (0, 4 * MB, 0, 0))
    small = Growth("d.py", 1, 40_000, 4, (10_000,) * 4)

    assert suspects([steady, pauses, once, small]) == (steady, pauses)
    assert suspects([small]) == (small,)
    assert suspects([Growth("e.py", 1, 4_000, 4, (1_000,) * 4)]) == ()
    assert suspects([]) == ()


def test_a_window_ends_early_when_its_file_is_full(folders: Path) -> None:
    """The bound is kept, the profile says so, and tells what it saw until then."""
    with Leaking(10_000):
        profile = MemoryProfiler(file_bytes_max=200_000).profile_memory(seconds=60, by="memray-objects")

    assert profile.window_seconds is not None
    assert profile.window_seconds < 60
    assert "ended after" in profile.note
    assert profile.note in str(profile)
    assert (Path(profile.growth[0].file).name, profile.growth[0].line) == (HERE, LEAK)


def test_the_file_is_private(folders: Path) -> None:
    """Nobody else may read what a process allocates."""
    seen: list[int] = []

    async def main() -> None:
        window = asyncio.create_task(MemoryProfiler().aprofile_memory(0.5))
        while not (files := list(folders.glob("slipstream-memory-*/allocations"))):
            await asyncio.sleep(0.01)
        seen.extend(each.stat().st_mode & 0o777 for each in (*files, files[0].parent))
        await window

    asyncio.run(main())
    assert seen == [0o600, 0o700]


def test_nothing_is_left_of_a_window_that_is_cancelled(folders: Path) -> None:
    """While it opens or while it is open: the next one may begin."""

    async def main() -> None:
        for wait in (0.0, 0.3):
            window = asyncio.create_task(MemoryProfiler().aprofile_memory(60))
            await asyncio.sleep(wait)
            window.cancel()
            with pytest.raises(asyncio.CancelledError):
                await window
            await asyncio.sleep(0.5)
        await MemoryProfiler().aprofile_memory(0.1)

    asyncio.run(main())


def test_without_memray_lines_are_for_those_who_ask() -> None:
    """No lines and a note instead of a slow program; a kind that is asked for and not there is refused."""
    program = (
        "import sys; sys.modules['memray'] = None\n"
        "import importlib.util; found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'memray' else found(name, *rest)\n"
        "import tracemalloc\n"
        "from slipstream.profiling import memory_profiler\n"
        "profile = memory_profiler.profile_memory(seconds=0.1)\n"
        "assert (profile.by, profile.growth, profile.tracing_cost) == ('', (), None), profile\n"
        "print(profile)\n"
        "print(memory_profiler.profile_memory(seconds=0.1, by='tracemalloc').by)\n"
        "try: memory_profiler.profile_memory(seconds=0.1, by='memray')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "memray is not installed" in done.stdout
    assert 'pip install "slipstream[profiling]"' in done.stdout.splitlines()[-1]
    assert done.stdout.splitlines()[-2] == "tracemalloc"


def test_memray_is_imported_by_windows_only() -> None:
    """A process that is never profiled does not pay for it."""
    program = (
        "import sys; from slipstream.profiling import memory_profiler; memory_profiler.profile_memory()\n"
        "import slipstream.server.worker, slipstream.server.supervisor\n"
        "assert 'memray' not in sys.modules and 'slipstream.profiling.memory_windows' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_somebody_elses_tracker_is_no_crash(folders: Path) -> None:
    """memray allows one tracker a process: the second is refused in words, and the first goes on."""
    import memray

    file = folders / "theirs"
    with memray.Tracker(file), pytest.raises(BadRequest, match="memray cannot begin"):
        MemoryProfiler().profile_memory(seconds=0.1)
    file.unlink()
    assert MemoryProfiler().profile_memory(seconds=0.1).by == "memray"


def test_another_profiler_is_not_displaced(folders: Path) -> None:
    """memray takes the place of `sys.setprofile`: where somebody has it, that is refused."""
    before = sys.getprofile()
    sys.setprofile(lambda *_: None)
    try:
        with pytest.raises(BadRequest, match="Another profiler"):
            MemoryProfiler().profile_memory(seconds=0.1)
    finally:
        sys.setprofile(before)


@pytest.mark.long
def test_windows_one_after_the_other_leave_a_busy_program_whole(folders: Path) -> None:
    """Threads that compute, allocate and end go on right through windows that open and close."""
    over = threading.Event()
    done: list[int] = []

    def compute() -> None:
        while not over.is_set():
            done.append(len(json.dumps(json.loads(DOCUMENT))))
            thread = threading.Thread(target=lambda: bytearray(100_000))
            thread.start()
            thread.join()

    threads = [threading.Thread(target=compute) for _ in range(4)]
    for each in threads:
        each.start()
    for _ in range(8):
        MemoryProfiler().profile_memory(seconds=0.05)
    over.set()
    for each in threads:
        each.join()
    assert set(done) == {len(DOCUMENT)}


def test_without_a_window_it_only_reads_the_size() -> None:
    """No tracing, no wait; a trend after some calls."""
    profiler = MemoryProfiler()
    first = profiler.profile_memory()
    assert first.rss_bytes > MB
    assert (first.trend, first.growth, first.tracing_cost) == (None, (), None)
    for _ in range(20):
        time.sleep(0.01)
        last = profiler.profile_memory()

    assert last.trend is not None
    assert "RSS" in str(last)
    assert not tracemalloc.is_tracing()


def test_a_forked_process_tells_of_itself() -> None:
    """A profiler that was used before the fork sees the child's size, not the parent's."""
    program = (
        "import os; from slipstream.profiling import MemoryProfiler\n"
        "profiler = MemoryProfiler(); before = profiler.profile_memory().rss_bytes\n"
        "child = os.fork()\n"
        "if child: raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "held = bytearray(b'x' * 200_000_000); now = profiler.profile_memory()\n"
        "os._exit(0 if now.rss_bytes > before + 100_000_000 and now.trend is None else 1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_growth_is_told_from_noise() -> None:
    """A steady rise grows; a scatter around a level does not, nor does one big step."""
    rising = trend(sizes(*(100 * MB + at * MB + (at % 3) * 1000 for at in range(90))))
    level = trend(sizes(*(100 * MB + (at * 7919 % 13) * MB for at in range(90))))
    step = trend(sizes(*(100 * MB + (50 * MB if at > 40 else 0) for at in range(90))))

    assert rising is not None
    assert level is not None
    assert step is not None
    assert rising.grows
    assert rising.bytes_per_second == pytest.approx(MB, rel=0.01)
    assert str(rising).startswith("grows: 60")
    assert not level.grows
    assert not step.grows
    assert trend(sizes(1, 2, 3)) is None


def test_looks_that_came_all_at_once_make_no_trend() -> None:
    """A hundred within a second and one an hour later: nobody knows what was in between."""
    early = [Size(at * 10_000_000, 100 * MB + at * 1000, 0) for at in range(100)]

    assert trend([*early, Size(3_600_000_000_000, 200 * MB, 0)]) is None


def test_a_minute_is_waited_for() -> None:
    """The first growth is that of a process which warms up."""
    warm = trend(sizes(*(100 * MB + at * MB for at in range(30))))

    assert warm is not None
    assert not warm.grows
    assert str(warm) == "too short to tell whether it grows: 29 s"


def test_a_size_that_wanders_is_rarely_taken_for_growth() -> None:
    """Sizes that go up and down by chance, step upon step: one in twenty at most is said to grow.

    A line through all of them with the usual interval says so of nearly half.
    """
    drawn = random.Random(7)
    said = 0
    for _ in range(400):
        walk = list(itertools.accumulate(drawn.choices((-MB, 0, MB), k=300), initial=500 * MB))
        found = trend(sizes(*walk))
        assert found is not None
        said += found.grows
    assert said <= 20


def test_a_leak_is_found_among_wandering() -> None:
    """A leak as large as the wandering of a size in its time is found as a rule."""
    drawn = random.Random(7)
    said = 0
    for _ in range(100):
        walk = itertools.accumulate(drawn.choices((-MB, 0, MB), k=300), initial=500 * MB)
        found = trend(sizes(*(size + at * MB / 5 for at, size in enumerate(walk))))
        assert found is not None
        said += found.grows
    assert said >= 80


@pytest.mark.parametrize("by", ["memray", "tracemalloc"])
def test_windows_do_not_overlap(folders: Path, by: By) -> None:
    """A second one is refused while the first is open; in a coroutine the loop goes on."""
    profiler = MemoryProfiler()

    async def main() -> None:
        first = asyncio.create_task(profiler.aprofile_memory(0.5, by=by))
        await asyncio.sleep(0.2)
        with pytest.raises(BadRequest, match="already"):
            await profiler.aprofile_memory(0.1, by="tracemalloc")
        with pytest.raises(BadRequest, match="event loop"):
            profiler.profile_memory(seconds=1)
        assert (await first).rss_bytes > 0

    asyncio.run(main())
    with pytest.raises(BadRequest):
        profiler.profile_memory(seconds=0)
    with pytest.raises(BadRequest, match="taken by memray"):
        profiler.profile_memory(seconds=1, by="magic")  # type: ignore[arg-type]
