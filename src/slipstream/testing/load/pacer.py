"""Wakes an event loop at a time: a kernel timer to some 50 microseconds, where there is one.

An event loop's own timers have a grain of a millisecond. On Linux this is `timerfd`, on the monotonic
clock that `core/clock` reads there.
"""

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Callable

from slipstream.core import clock

_MONOTONIC = 1
_ABSOLUTE = 1
_SECOND = 1_000_000_000


class _Spec(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Pacer:
    """Calls back at the one time it was last armed for, on the running loop."""

    def __init__(self, on_time: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_time = on_time
        self._spec = _Spec()
        self._timer: asyncio.TimerHandle | None = None
        self._fd = self._open()
        if self._fd >= 0:
            self._loop.add_reader(self._fd, on_time)

    @property
    def is_exact(self) -> bool:
        """Whether it is a kernel timer."""
        return self._fd >= 0

    def arm(self, at_ns: int) -> None:
        """Call back at this monotonic time, at once if it is past; an earlier order is forgotten."""
        if self._fd < 0:
            if self._timer is not None:
                self._timer.cancel()
            seconds = max(0, at_ns - clock.monotonic_ns()) / _SECOND
            self._timer = self._loop.call_later(seconds, self._on_time)
            return
        self._spec.value_s, self._spec.value_ns = divmod(max(1, at_ns), _SECOND)
        self._set()

    def disarm(self) -> None:
        """Forget the order; must follow a call that arms nothing new."""
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            self._spec.value_s = self._spec.value_ns = 0
            self._set()

    def close(self) -> None:
        """Give it back. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        if sys.platform != "linux":
            return -1
        try:
            self._libc = ctypes.CDLL(None, use_errno=True)
            create = self._libc.timerfd_create
        except (OSError, AttributeError):
            return -1
        self._settime = self._libc.timerfd_settime
        self._reference = ctypes.byref(self._spec)
        return int(create(_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))

    def _set(self) -> None:
        """Setting the time also forgets a call that is due: the file need not be read."""
        self._settime(self._fd, _ABSOLUTE, self._reference, None)
