"""`slipstream` with a worker whose `read` stage has faults planted: for tests of who finds them.

Started as `python planted_server.py serve …` it is the command line; as `python planted_server.py --worker
LISTENER LINE` it is the worker that this command line starts. A prompt says which fault it meets.
"""

import sys
import time

SECONDS = 0.6
HELD = 40_000_000
"""Numbers to add up: more than half a second of any core."""
LEAK_OBJECTS = 20_000
MANY, WIDE = 850_000, 16
"""Python's collector looks at its middle generation after some 420,000 objects at the latest, so twice here."""
kept: list[object] = []


def burn_in_python() -> None:
    """Compute, line by line."""
    end = time.perf_counter() + SECONDS
    total = 0
    while time.perf_counter() < end:
        for number in range(2000):
            total += number * number  # the burner's line


def hold_the_lock() -> None:
    """One call into C that never gives the interpreter's lock away."""
    sum(range(HELD))  # the holder's line


def leak() -> None:
    """Keep what nobody asks for again."""
    kept.append([bytearray(100) for _ in range(LEAK_OBJECTS)])  # the leak's line


def make_many() -> None:
    """Make so many objects at once that Python looks for garbage among them, by itself, for long."""
    many = []
    for number in range(MANY):
        many += [[number] * WIDE]  # the collector's line


FAULTS = {
    b"planted burner": burn_in_python,
    b"planted holder": hold_the_lock,
    b"planted leak": leak,
    b"planted garbage": make_many,
}


def plant() -> None:
    """Put the faults in front of the stage."""
    from slipstream.core.chat import ChatRequest
    from slipstream.core.record import Record
    from slipstream.flow import handle
    from slipstream.flow.call import Call, read

    def faulty(call: Call, record: Record, salt: bytes) -> ChatRequest:
        for name, fault in FAULTS.items():
            if name in call.body:
                fault()
        return read(call, record, salt)

    handle.read = faulty


def serve() -> None:
    """The command line; its workers are planted."""
    from slipstream.cli import main
    from slipstream.server.supervisor import Supervisor

    Supervisor.__init__.__kwdefaults__["worker"] = (sys.executable, __file__, "--worker")
    main()


def work() -> None:
    """One of its workers."""
    from slipstream.server.worker import main

    plant()
    sys.exit(main(sys.argv[2:]))


if __name__ == "__main__":
    work() if sys.argv[1:2] == ["--worker"] else serve()
