"""Counting what happens, with a bound on how many names there may be.

A part takes a `Counters`, bumps names that are declared here, and never asks who reads them.
"""

from array import array
from collections.abc import Mapping, MutableSequence

NAMES: dict[str, str] = {
    "requests": "requests that reached a route of the API",
    "requests_refused": "requests answered with a 4xx of ours",
    "requests_failed": "requests answered with a 5xx",
    "requests_aborted": "requests whose client left before the end",
    "http_errors": "connections closed for a framing, header or timeout error",
    "http_timeouts": "connections closed because the client was too slow",
    "readers_timed_out": "connections dropped because the client left its answer unread",
    "pipelines_cut": "connections closed because the client sent too many requests ahead",
    "connections_refused": "connections turned away at the connection limit",
    "records_dropped": "closed records that found no room in a queue",
    "records_written": "records committed to the store",
    "record_batches_failed": "batches that the store refused; they are tried again, then dropped",
    "readers_dropped": "readers of a flight dropped for falling too far behind",
    "upstream_errors": "attempts at a model that failed",
    "upstream_retries": "attempts after the first one",
    "upstream_timeouts": "attempts that ran into a timeout",
    "upstream_retries_refused": "retries for which the budget had no room",
    "upstream_waits": "requests that waited for an upstream to come back",
    "upstream_waits_refused": "requests that found no room to wait for an upstream",
    "upstream_stale_connections": "kept connections that turned out closed before a byte was received",
    "worker_restarts": "workers started again after they died",
    "local_restarts": "starts of the embedded model's process after it died",
    "metrics_unshared": "processes that found no slab; their metrics are missing",
    "unexpected_errors": "errors of a kind that nobody planned for; each is in the log",
}


class Counters:
    """Named counts of one process. A name that is not declared is a mistake of ours.

    It counts in an array of its own until it is given a place in one that others can read.
    """

    __slots__ = ("_base", "_cells", "_places")

    def __init__(self) -> None:
        self._cells: MutableSequence[float] | memoryview[float] = array("d", bytes(8 * len(NAMES)))
        self._places = {name: place for place, name in enumerate(NAMES)}
        self._base = dict.fromkeys(NAMES, 0)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a count."""
        self._cells[self._places[name]] += by

    def snapshot(self) -> dict[str, int]:
        """All counts of this process as they are now."""
        cells, base = self._cells, self._base
        return {name: int(cells[place]) - base[name] for name, place in self._places.items()}

    def move(self, cells: "memoryview[float]", places: Mapping[str, int]) -> None:
        """Go on counting in `cells`, where an earlier process may have counted; nothing is lost."""
        counted = self.snapshot()
        self._base = {name: int(cells[place]) for name, place in places.items()}
        for name, place in places.items():
            cells[place] += counted[name]
        self._cells, self._places = cells, dict(places)

    def leave(self) -> None:
        """Go on counting in an array of its own, before the shared one is closed."""
        own = array("d", map(float, self.snapshot().values()))
        self._base = dict.fromkeys(NAMES, 0)
        self._places = {name: place for place, name in enumerate(self._places)}
        self._cells = own
