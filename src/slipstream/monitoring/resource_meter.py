"""Writes what a process and all below it use of the machine, look by look, whatever the machine refuses.

Without files left to open, or in a sandbox, a look fails: it is counted, said once, and its gauges are unset
rather than left at what was true before. The next look tries anew.
"""

import logging
from pathlib import Path

import psutil

from slipstream.monitoring.meter import Meter
from slipstream.monitoring.resources import ResourceReader, Resources

_log = logging.getLogger(__name__)
REFUSALS = (OSError, psutil.Error, ValueError, LookupError)
"""What a look may raise; the last two where a sandbox's files of /proc have another form."""
_Series = tuple[str, tuple[str, ...]]


class ResourceMeter:
    """Looks and writes. Looking is for one thread at a time, writing for the thread of the meter.

    Args:
        meter: where the values go.
        folder: the folder whose disk must not fill up; none unless given.
    """

    def __init__(self, meter: Meter, folder: Path | None = None) -> None:
        self._meter = meter
        self._folder = folder
        self._reader: ResourceReader | None = None
        self._is_told = False
        self._gauges: set[_Series] = set()
        self._counted: dict[_Series, float] = {}

    def read(self) -> Resources | None:
        """One look; None where the machine refused it. It reads files: not for an event loop."""
        try:
            if self._reader is None:
                self._reader = ResourceReader(None, self._folder)
            seen = self._reader.read()
        except REFUSALS as error:
            if not self._is_told:
                _log.error("the use of resources is unknown for now: %s", error)
            self._is_told = True
            return None
        self._is_told = False
        return seen

    def write(self, seen: Resources | None) -> None:
        """What was seen, into the slab."""
        if seen is None:
            self._meter.count("resource_errors")
        before, self._gauges = self._gauges, set()
        for name, labels, value in seen.gauges() if seen is not None else ():
            self._meter.set(name, value, *labels.values())
            self._gauges.add((name, tuple(labels.values())))
        for name, values in before - self._gauges:
            self._meter.set(name, None, *values)
        for name, labels, value in seen.counters() if seen is not None else ():
            key = name, tuple(labels.values())
            self._meter.count(name, *key[1], by=max(0.0, value - self._counted.get(key, 0.0)))
            self._counted[key] = value
