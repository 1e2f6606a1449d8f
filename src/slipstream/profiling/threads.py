"""Threads that a profiler needs and the system may refuse: said in words, and nothing is left behind."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from slipstream.core.errors import Unavailable

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


def begin(thread: threading.Thread) -> None:
    """Start it. Raises `Unavailable` where the system allows this process no more threads."""
    try:
        thread.start()
    except RuntimeError:  # all that CPython says of it
        raise Unavailable(
            "The system allows this process no more threads, and profiling takes one.",
            hint="Let some end, or raise the limit: `ulimit -u`, or the container's limit of pids.",
        ) from None


def require_thread() -> None:
    """Raises `Unavailable` where the system allows this process no more threads."""
    begin(threading.Thread(target=_nothing, daemon=True))


async def in_thread(call: Callable[[*Ts], R], *args: *Ts) -> R:
    """`asyncio.to_thread`; a thread is tried first, and `Unavailable` raised where there is none.

    For its executor keeps a call that found no thread, and makes it later, when nobody waits for it.
    """
    require_thread()
    return await asyncio.to_thread(call, *args)


def _nothing() -> None:
    pass
