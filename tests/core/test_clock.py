"""Virtual time is one thread's: whatever else a program measures meanwhile is real."""

import threading

from slipstream.core import clock


def test_only_the_driving_thread_is_driven() -> None:
    """Another thread reads the true clocks; afterwards so does this one."""
    seen: list[tuple[int, int]] = []
    before = clock.monotonic_ns(), clock.wall_ns()
    with clock.driven_by(lambda: 42):
        assert (clock.monotonic_ns(), clock.wall_ns()) == (42, 42)
        other = threading.Thread(target=lambda: seen.append((clock.monotonic_ns(), clock.wall_ns())))
        other.start()
        other.join()
        assert (clock.monotonic_ns(), clock.wall_ns()) == (42, 42)
    after = clock.monotonic_ns(), clock.wall_ns()

    ((monotonic_ns, wall_ns),) = seen
    assert before[0] <= monotonic_ns <= after[0]
    assert before[1] <= wall_ns <= after[1]


def test_it_may_be_driven_within_a_drive() -> None:
    """The inner one holds until it ends."""
    with clock.driven_by(lambda: 1):
        with clock.driven_by(lambda: 2):
            assert clock.monotonic_ns() == 2
        assert clock.monotonic_ns() == 1


def test_drives_may_end_in_any_order() -> None:
    """Of several threads, and of one; the last to end gives the true clocks back."""
    before = clock.monotonic_ns, clock.wall_ns
    begun, may_end = threading.Event(), threading.Event()
    seen: list[int] = []

    def beside() -> None:
        with clock.driven_by(lambda: 7):
            begun.set()
            may_end.wait(10)
            seen.append(clock.monotonic_ns())

    first = clock.driven_by(lambda: 1)
    first.__enter__()
    other = threading.Thread(target=beside)
    other.start()
    begun.wait(10)
    second = clock.driven_by(lambda: 2)
    second.__enter__()
    first.__exit__(None, None, None)
    assert clock.monotonic_ns() == 2
    second.__exit__(None, None, None)
    assert clock.monotonic_ns() > 10**6
    may_end.set()
    other.join()

    assert seen == [7]
    assert (clock.monotonic_ns, clock.wall_ns) == before
