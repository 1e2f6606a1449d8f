"""A program alone: its calls, requests and resources, from any thread and after a fork."""

import os
import subprocess
import sys
import threading

from monitoring.slabs import served
from slipstream.core.record import Record
from slipstream.monitoring.own_process import OwnProcess
from slipstream.monitoring.summary import summarize


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def take(self, record: Record) -> None:
        self.records.append(record)


def said_by(code: str) -> str:
    """What a program of its own wrote to standard error; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_calls_of_all_threads_are_counted() -> None:
    """Twenty threads write; none of their calls is lost."""
    own = OwnProcess()
    calls = own.calls()

    def work() -> None:
        for _ in range(50):
            calls.add("work", 2.0, failed=False)
        calls.add("work", 2.0, failed=True)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert own.read(lambda seen: seen.total("app_calls", {"name": "work"}), fresh=True) == 20 * 51
    assert own.read(lambda seen: seen.total("app_errors", {"name": "work"})) == 20
    assert own.read(lambda seen: seen.total("response_time", {"source": "app"})) == 20 * 51


def test_requests_are_measured_and_passed_on() -> None:
    """What a library call recorded goes on to where it is kept."""
    own, kept = OwnProcess(), Kept()
    record = served(cost=0.25)
    own.sink(kept).take(record)
    seen = own.read(lambda readings: summarize(readings, "process"), fresh=True)

    assert kept.records == [record]
    assert seen.tokens is not None
    assert (seen.tokens.input, seen.tokens.output, seen.tokens.cost) == (20, 10, 0.25)


def test_resources_are_seen_within_a_second() -> None:
    """CPU and memory are there with the first look."""
    seen = OwnProcess().read(lambda readings: summarize(readings, "process"), fresh=True)

    assert seen.cpu.own is not None
    assert seen.cpu.own >= 0
    assert seen.memory.own is not None
    assert seen.memory.own > 0
    assert seen.disk is not None


def test_a_forked_child_begins_anew() -> None:
    """A child has no calls of its parent's, and counts its own."""
    own = OwnProcess()
    own.calls().add("parent", 1.0, failed=False)
    child = os.fork()
    if child == 0:
        os._exit(0 if own.read(lambda seen: seen.total("app_calls", {}), fresh=True) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert own.read(lambda seen: seen.total("app_calls", {}), fresh=True) == 1


def test_importing_starts_nothing() -> None:
    """Importing and building open no file and start no thread; the program ends at once."""
    code = (
        "import threading, os\n"
        "before = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0\n"
        "from app.core.monitoring import PerformanceMonitor, ThroughputMonitor\n"
        "PerformanceMonitor(), ThroughputMonitor()\n"
        "after = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0\n"
        "assert threading.active_count() == 1 and before == after, (before, after)\n"
    )
    said_by(code)


def test_a_program_without_files_goes_on_and_is_measured_later() -> None:
    """At the limit of open files a measured call gives its result, figures are unknown; afterwards all is there."""
    code = (
        "import os, resource\n"
        "from app.core.monitoring import PerformanceMonitor\n"
        "monitor = PerformanceMonitor()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "held = []\n"
        "try:\n"
        "    while True: held.append(os.dup(0))\n"
        "except OSError: pass\n"
        "told = [monitor.measure_response_time(lambda: 3).result, monitor.get_memory_usage()]\n"
        "for file in held: os.close(file)\n"
        "told += [monitor.measure_response_time(lambda: 4).result, monitor.get_memory_usage() > 0]\n"
        "assert told == [3, None, 4, True], told\n"
    )
    said = said_by(code)
    assert "ulimit -n" in said
    assert "Traceback" not in said
