"""One fix at a time on a data folder, or each would measure the other's; and whether one is being tried now.

The lock is the truth: the system frees it however the process ends.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from slipstream.core.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl

LOCK = "doctor.lock"

TRIES, TRY_SECONDS = 10, 0.05
"""Somebody who looks whether the lock is free holds it for a moment."""


@contextlib.contextmanager
def alone(ledger: Path) -> Iterator[None]:
    """Nobody else applies or takes back meanwhile.

    Raises `ConfigurationError` where somebody does, or where that cannot be told.
    """
    lock = ledger.with_name(LOCK)
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{lock} cannot be opened: {error.strerror}. It says whether a fix is being applied.",
            hint=f"If it is another user's: sudo chown -R $(id -un) {lock.parent}",
        ) from None
    try:
        if not any(_taken(descriptor, number) for number in range(TRIES)):
            raise ConfigurationError("Another fix is being applied.", hint="Wait until it is done.")
        yield
    finally:
        os.close(descriptor)  # and with it the lock, as when the process ends


@contextlib.contextmanager
def looking(ledger: Path) -> Iterator[bool]:
    """Whether nobody applies a fix; it stays so meanwhile. Makes no file.

    Where that cannot be told (the lock is another user's) somebody may.
    """
    try:
        descriptor = os.open(ledger.with_name(LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    except OSError:
        yield False
        return
    try:
        yield _taken(descriptor, 0, is_shared=True)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, tries_before: int, *, is_shared: bool = False) -> bool:
    if sys.platform == "win32":
        raise ConfigurationError("Fixes cannot be applied on this system.")
    if tries_before:
        time.sleep(TRY_SECONDS)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
