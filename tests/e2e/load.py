"""A small driver for tests of pages under load: threads that ask a running server, and what they were told."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.serving import Serving


@contextmanager
def asking(
    server: Serving, *, threads: int = 3, pause_seconds: float = 0.15, models: tuple[str, ...] = ("fast",)
) -> Iterator[None]:
    """Ask without end while the block runs, streamed and whole; every answer must come."""
    stop, failures = threading.Event(), list[OSError]()

    def work(number: int) -> None:
        chance = random.Random(number)
        try:
            while not stop.is_set():
                server.ask(
                    "word " * chance.randint(1, 40), model=chance.choice(models), stream=chance.random() < 0.7
                )
                stop.wait(chance.expovariate(1 / pause_seconds))
        except OSError as error:
            failures.append(error)

    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for each in running:
        each.start()
    try:
        yield
    finally:
        stop.set()
        for each in running:
            each.join(30)
    assert not failures, failures
