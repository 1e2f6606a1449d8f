"""The stretch of a run that rates refer to: after warm-up and ramp, until no more is sent."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipstream.testing.load.config import LoadConfig
from slipstream.testing.load.run import RunResult
from slipstream.testing.load.samples import Samples


class Window(Struct, frozen=True):
    """From `start_ns` to `end_ns` since the run's start."""

    start_ns: int
    end_ns: int
    last_ns: int
    """When the last answer came."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return max(1e-9, (self.end_ns - self.start_ns) / 1e9)

    def ends_inside(self, samples: Samples) -> NDArray[np.bool_]:
        """Which requests ended in it."""
        inside: NDArray[np.bool_] = (samples.done_ns >= self.start_ns) & (samples.done_ns < self.end_ns)
        return inside

    def rate(self, samples: Samples, which: NDArray[np.bool_]) -> float:
        """Requests of `which` that ended in it, per second."""
        return float((self.ends_inside(samples) & which).sum()) / self.seconds


def measured_window(run: RunResult, config: LoadConfig) -> Window:
    """The window of a run.

    Where fewer than half of the good answers came before the last request could be sent, which is so in
    runs shorter than two answers, it reaches to the last answer.
    """
    start = round(max(config.ramp_up, config.warm_up) * 1e9)
    samples = run.samples
    ended = samples.done_ns[samples.ok]
    last = int(samples.done_ns.max(initial=0))
    end = max(run.plan_ns, start + 1)
    after = ended[ended >= start]
    if len(after) and int((after < end).sum()) * 2 < len(after):
        end = int(after.max()) + 1
    return Window(start, end, max(last, end))
