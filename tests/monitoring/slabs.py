"""Real slabs read by a real aggregate, on a clock that is set by hand."""

from collections.abc import Callable
from pathlib import Path

from slipstream.core.record import Record, Step
from slipstream.monitoring.aggregate import Aggregate, Source
from slipstream.monitoring.meter import Meter
from slipstream.monitoring.recorder import RequestRecorder
from slipstream.monitoring.slab import Slab, claim, make_slab
from slipstream.monitoring.slab_reader import SlabReader

WALL_NS = 1_795_608_000 * 1_000_000_000
SECOND = 1_000_000_000


class Measured:
    """One process that counts and one that reads."""

    def __init__(self, folder: Path) -> None:
        path = folder / "slab"
        file = make_slab(path, WALL_NS)
        self.slab: Slab = claim(path)
        self.meter = Meter(self.slab)
        self.recorder = RequestRecorder(self.slab)
        self.second = 0
        self.aggregate = Aggregate([Source("own", SlabReader(file))], self.slab, now_ns=0, wall_ns=WALL_NS)
        self.tick()

    def tick(self, seconds: int = 1, each: Callable[[], None] = lambda: None) -> None:
        """Let time pass; `each` is called in every second."""
        for _ in range(seconds):
            each()
            self.second += 1
            self.aggregate.tick(self.second * SECOND, WALL_NS + self.second * SECOND)


def served(model: str = "sim", ms: float = 100.0, **fields: object) -> Record:
    """The closed record of a streamed answer of ten tokens."""
    ns = int(ms * 1e6)
    given: dict[str, object] = {
        "outcome": "served", "status": 200, "prompt_tokens": 20, "output_tokens": 10, "cached_tokens": 4,
        "stream": True, **fields,
    }  # fmt: skip
    steps = [
        Step("open", 1000, ns // 5),
        Step("first_byte", ns // 5, ns // 20),
        Step("relay", ns // 4, ns // 2),
    ]
    return Record(
        id="req_1", arrived_wall_ns=WALL_NS, route="chat/completions", model=model, upstream="local",
        duration_ns=ns, first_token_ns=ns // 4, last_token_ns=ns, chunk_gap_mean_ns=ns // 12, steps=steps, **given,
    )  # fmt: skip
