"""The live stream: one frame a second, encoded once, given to everybody who watches.

A viewer that does not keep up is dropped and counted; one more than there may be is refused.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable

import msgspec

from slipstream.core.errors import Unavailable
from slipstream.core.histogram import Sketch
from slipstream.core.metrics import RECORDED
from slipstream.core.readings import Point
from slipstream.monitoring.aggregate import Aggregate

VIEWERS_MAX = 16
"""Half of the connections that a worker has for pages: the other half stays free for the pages themselves."""
BEHIND_MAX = 5
"""Frames that wait for a slow viewer before it is dropped."""
_END = b""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
"""Quantiles that are told of every histogram."""


class LiveFeed:
    """Tells the newest second to all viewers. For one loop.

    Args:
        frame: makes what is told; asked once a second, and only while somebody watches.
        dropped: called for each viewer that is dropped.
    """

    def __init__(self, frame: Callable[[], object], dropped: Callable[[], None]) -> None:
        self._frame = frame
        self._dropped = dropped
        self._viewers: set[asyncio.Queue[bytes]] = set()

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self._viewers)

    def tell(self) -> None:
        """A second is over: encode it, once, if anybody watches."""
        if not self._viewers:
            return
        frame = b"event: frame\ndata: " + msgspec.json.encode(self._frame()) + b"\n\n"
        for viewer in list(self._viewers):
            if viewer.qsize() >= BEHIND_MAX:
                self._viewers.discard(viewer)
                viewer.put_nowait(_END)
                self._dropped()
            else:
                viewer.put_nowait(frame)

    def watch(self) -> AsyncGenerator[bytes, None]:
        """The frames from now on, as server-sent events. Raises `Unavailable` where too many watch."""
        if len(self._viewers) >= VIEWERS_MAX:
            raise Unavailable(
                f"{VIEWERS_MAX} others are watching already.",
                hint="Close one of the pages.",
                code="too_many_viewers",
            )
        viewer: asyncio.Queue[bytes] = asyncio.Queue()  # `tell` holds it within BEHIND_MAX
        self._viewers.add(viewer)
        return self._frames(viewer)

    async def _frames(self, viewer: asyncio.Queue[bytes]) -> AsyncGenerator[bytes, None]:
        try:
            yield b"retry: 2000\n\n"
            while (frame := await viewer.get()) != _END:
                yield frame
        finally:
            self._viewers.discard(viewer)

    def close(self) -> None:
        """End every stream."""
        for viewer in self._viewers:
            viewer.put_nowait(_END)
        self._viewers.clear()


def live_frame(readings: Aggregate) -> dict[str, object]:
    """The newest second: what has grown, every gauge, and the histograms that got values."""
    metrics: dict[str, list[dict[str, object]]] = {}
    for key in readings.tracks:
        point = readings.step(key, readings.frame, readings.frame)
        if point is not None:
            metric = RECORDED[key[0]]
            told = point_json(point)
            told["labels"] = dict(zip(metric.labels, key[1], strict=True))
            metrics.setdefault(metric.name, []).append(told)
    return {"at_ms": readings.now_wall_ns() // 1_000_000, "metrics": metrics}


def point_json(point: Point) -> dict[str, object]:
    """A point for pages; of a histogram with quantiles, and the buckets from which any can be told."""
    told: dict[str, object] = {"sum": point.sum, "count": point.count, "low": point.low, "high": point.high}
    if point.sketch is not None:
        told |= sketch_json(point.sketch)
    return told


def sketch_json(sketch: Sketch) -> dict[str, object]:
    """Count, sum, mean and quantiles in the metric's unit, and the counts of the slots (`core.histogram`)."""
    told: dict[str, object] = {"count": sketch.count, "sum": sketch.sum, "mean": sketch.mean}
    told |= {name: sketch.quantile(q) for name, q in QUANTILES.items()}
    told["buckets"] = sorted(sketch.buckets.items())
    return told
