"""The watch over an event loop: it notices each stall, and looks who holds the loop while it lasts.

A heartbeat on the loop says when it turns, and winds an alarm (`SIGALRM`) that rings only where the next beat
is late. Python runs the alarm's handler on the loop's own thread as soon as the line that holds it lets the
interpreter look up: between two instructions, or right after a call into C, still at the line that made it.
So the handler's frame is the culprit's, whoever else waits for the interpreter's lock.

Where there is no such alarm (a loop in another thread, another owner of `SIGALRM`) a thread looks instead.
After a call into C that held the lock it comes in time only where no other thread is faster.

Not `faulthandler`, whose thread needs no lock: beside running Python code it reads frames that change, and
ended the process with a segmentation fault after a few dumps (docs/decisions/0025).
"""

import asyncio
import atexit
import contextlib
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import FrameType

import msgspec

from slipstream.core import clock
from slipstream.core.errors import Unavailable
from slipstream.profiling.stalls import ALARMS, Looks, Stall, places
from slipstream.profiling.threads import begin

BEAT_SECONDS = 0.1
"""While nothing is under way: each beat wakes the process."""
BUSY_BEAT_SECONDS = 0.025
"""While something is, or nobody tells: a stall is told within half of it. While nothing is, as too short by
up to a whole beat, and no one waits for it."""
LOOK_SECONDS = 0.05
"""Between two looks of one stall."""
STALL_SECONDS = 0.1
"""A beat that is later by this is a stall (Clinic.js' doctor calls a loop ill from a delay of 100 ms on)."""
KEPT_MAX = 128
FAILURES = (RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError)
"""What a look may raise: too deep a recursion among them, and whatever `victims` does wrong."""


class StallWatch:
    """Watches the running loop from `start` to `stop`.

    Args:
        on_stall: called on the loop, two turns after each stall: by then it has seen who came meanwhile.
        victims: how many others than the task of a name are under way: those whom a stall delayed.
            Asked on the loop, and while the loop stands, so it must neither wait nor change anything.
        stall_seconds: what counts as one.
    """

    def __init__(
        self,
        on_stall: Callable[[Stall], None] | None = None,
        *,
        victims: Callable[[str], int] | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.stalls: deque[Stall] = deque(maxlen=KEPT_MAX)
        self.count = 0
        self.total_seconds = 0.0
        self.missed = 0  # looks that failed
        self._on_stall = on_stall
        self._victims = victims
        self._stall_seconds = stall_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._beat_ns = self._looked_ns = 0
        self._beat_seconds = BUSY_BEAT_SECONDS
        self._is_judging = False  # the loop turns: an alarm that was under way finds nothing to look at
        self._is_looking = False
        self._looks = Looks()
        self._waiting = 0  # of the victims, those seen while it stood
        self._alarm: Callable[[int, FrameType | None], None] | None = None
        self._over: threading.Event | None = None
        self._runs = False

    def start(self) -> None:
        """Begin, on the running loop; once."""
        if self._runs:
            return
        self._runs = True
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        if not self._take_alarm():
            self._start_thread()
        self._wind()

    def stop(self) -> None:
        """End; harmless where it does not run."""
        if not self._runs:
            return
        self._runs = False
        if self._timer is not None:
            self._timer.cancel()
        if self._over is not None:
            self._over.set()
            self._over = None
        if self._alarm is not None:
            self._unwind()
            atexit.unregister(self._unwind)
            if signal.getsignal(signal.SIGALRM) is self._alarm:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self._alarm = None

    # The beat, on the loop.

    def _wind(self) -> None:
        """The loop turns: the next beat is due, and the alarm rings where it is late."""
        is_busy = self._victims is None or self._victims("") > 0
        self._beat_seconds = BUSY_BEAT_SECONDS if is_busy else BEAT_SECONDS
        self._beat_ns = clock.monotonic_ns()
        self._looks.clear()
        self._waiting = 0
        self._timer = self._loop.call_later(self._beat_seconds, self._beat)
        self._is_judging = False
        if self._alarm is None:
            return
        if signal.getsignal(signal.SIGALRM) is self._alarm:
            first = self._beat_seconds + self._stall_seconds / 2
            signal.setitimer(signal.ITIMER_REAL, first, LOOK_SECONDS)
        else:  # somebody else has need of it
            self._unwind()
            self._alarm = None
            self._start_thread()

    def _unwind(self) -> None:
        """Let the alarm ring no more, if it is ours: who has taken the signal may have wound it anew."""
        if signal.getitimer(signal.ITIMER_REAL)[1] == LOOK_SECONDS:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _beat(self) -> None:
        self._is_judging = True
        try:
            seconds = (clock.monotonic_ns() - self._beat_ns) / 1e9 - self._beat_seconds
            if self._beat_seconds == BUSY_BEAT_SECONDS:
                seconds += self._beat_seconds / 2  # it began at some moment of the beat
            if seconds >= self._stall_seconds:
                self._note(seconds)
        finally:
            self._wind()

    def _note(self, seconds: float) -> None:
        waiting = self._waiting if self._victims is not None else None
        stall = self._looks.stall(clock.wall_ns(), seconds, waiting)
        self.count += 1
        self.total_seconds += seconds
        self._loop.call_soon(self._loop.call_soon, self._tell, stall)

    def _tell(self, stall: Stall) -> None:
        """The loop has turned since, and taken in what had come: now it shows who waited too."""
        if self._victims is not None:
            victims = max(stall.victims or 0, self._victims(stall.task))
            stall = msgspec.structs.replace(stall, victims=victims)
        self.stalls.append(stall)
        if self._on_stall is not None:
            self._on_stall(stall)

    # The looks, while it stands.

    def _look(self, frame: FrameType | None) -> None:
        """Take down what the loop does; it cannot go on meanwhile. Nothing where the beat is not late."""
        now_ns = clock.monotonic_ns()
        due_ns = self._beat_ns + int(self._beat_seconds * 1e9)
        late_ns = now_ns - due_ns
        if self._is_judging or late_ns < self._stall_seconds / 2 * 1e9 or self._loop.is_closed():
            return
        task = asyncio.current_task(self._loop)
        name = task.get_name() if task is not None else ""
        since_ns = max(due_ns, self._looked_ns)
        self._looked_ns = now_ns
        self._looks.add(name, places(frame), (now_ns - since_ns) / 1e9)
        if self._victims is not None:
            self._waiting = max(self._waiting, self._victims(name))

    def _take_alarm(self) -> bool:
        """Whether the loop's thread can be asked by signal: it is the main one, and nobody else uses it."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            return False
        if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
            return False
        self._alarm = self._ring  # once: each time that a method is asked for it is another object
        signal.signal(signal.SIGALRM, self._alarm)
        signal.siginterrupt(signal.SIGALRM, False)
        atexit.register(self._unwind)  # a program that ends without `stop` would be killed by the signal
        return True

    def _ring(self, number: int, frame: FrameType | None) -> None:
        """On top of whatever ran: what goes wrong here may not come up there, too deep a recursion either."""
        if self._is_looking:  # on a busy machine a look may last until the next alarm
            return
        self._is_looking = True
        try:
            self._look(frame)
        except FAILURES:
            self.missed += 1
        finally:
            self._is_looking = False

    def _start_thread(self) -> None:
        self._over = over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), name="slipstream-stalls", daemon=True)
        with contextlib.suppress(Unavailable):  # no more threads here: stalls are told without their line
            begin(thread)

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(LOOK_SECONDS):
            try:
                self._look(sys._current_frames().get(self._ident))
            except FAILURES:  # the loop was closed, or turned meanwhile
                self.missed += 1


ALARMS.append(StallWatch._ring.__code__)
