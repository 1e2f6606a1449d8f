"""When a receiver is told of which alerts: grouping, deduplication, repeats. Pure: data and `now` in.

A group is what one receiver hears of one severity. It is told after `wait_ns`, so that what breaks
together arrives together; of changes at most every `interval_ns`; of what still fires every `repeat_ns`.
"""

from collections.abc import Collection, Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from slipstream.core.alerts import Severity


class Alert(Struct, frozen=True):
    """One rule that fires or has fired, as receivers are told of it."""

    fingerprint: str
    owner: str
    name: str
    severity: Severity
    condition: str
    """Expanded, with its defaults."""
    value: str
    """What was compared when it was last told, with its unit; empty without data."""
    started_wall_ns: int
    ended_wall_ns: int = 0
    """0 while it fires."""


class Timing(Struct, frozen=True):
    """When groups are told."""

    wait_ns: int
    interval_ns: int
    repeat_ns: int


class Group(Struct, frozen=True):
    """What one receiver believes of one severity.

    Attributes:
        told: the alerts it believes to fire, by fingerprint.
        sent_ns: when it was last told, on the monotonic clock; None = never.
        changed_ns: since when there is something to tell; None = there is nothing.
    """

    receiver: str
    severity: Severity
    told: dict[str, Alert]
    sent_ns: int | None = None
    changed_ns: int | None = None


class Notification(Struct, frozen=True):
    """What a receiver is told at once."""

    receiver: str
    severity: Severity
    firing: tuple[Alert, ...]
    resolved: tuple[Alert, ...]
    reason: Literal["changed", "repeated", "test"] = "changed"

    @property
    def status(self) -> Literal["firing", "resolved"]:
        """`firing` while anything fires."""
        return "firing" if self.firing else "resolved"


def tell(
    group: Group,
    firing: Mapping[str, Alert],
    silenced: Collection[str],
    now_ns: int,
    *,
    timing: Timing,
    wall_ns: int,
) -> tuple[Group, Notification | None]:
    """The group after a look at what fires, and what is to be sent now, if anything.

    Args:
        group: what the receiver believes.
        firing: what fires now, silenced or not, by fingerprint.
        silenced: fingerprints that nobody is to be told of now, nor of their end while they are silenced.
        now_ns: monotonic.
        timing: the waits.
        wall_ns: the end of what no longer fires.
    """
    heard = {name: alert for name, alert in firing.items() if name not in silenced}
    fresh = [name for name, alert in heard.items() if _is_news(group, alert)]
    gone = [name for name in group.told if name not in firing and name not in silenced]
    if not fresh and not gone:
        return _repeated(replace(group, changed_ns=None), heard, now_ns, timing)
    changed_ns = group.changed_ns if group.changed_ns is not None else now_ns
    due_ns = changed_ns + timing.wait_ns
    if group.sent_ns is not None and group.told:
        due_ns = max(changed_ns, group.sent_ns + timing.interval_ns)
    if now_ns < due_ns:
        return replace(group, changed_ns=changed_ns), None
    resolved = tuple(replace(group.told[name], ended_wall_ns=wall_ns) for name in gone)
    kept = {name: alert for name, alert in group.told.items() if name in firing and name not in heard}
    return _sent(group, heard, kept, resolved, now_ns)


def _is_news(group: Group, alert: Alert) -> bool:
    told = group.told.get(alert.fingerprint)
    return told is None or told.started_wall_ns != alert.started_wall_ns


def _repeated(
    group: Group, heard: Mapping[str, Alert], now_ns: int, timing: Timing
) -> tuple[Group, Notification | None]:
    if not heard or (group.sent_ns is not None and now_ns < group.sent_ns + timing.repeat_ns):
        return group, None
    kept = {name: alert for name, alert in group.told.items() if name not in heard}
    changed, notification = _sent(group, heard, kept, (), now_ns)
    return changed, replace(notification, reason="repeated")


def _sent(
    group: Group,
    heard: Mapping[str, Alert],
    kept: Mapping[str, Alert],
    resolved: tuple[Alert, ...],
    now_ns: int,
) -> tuple[Group, Notification]:
    firing = tuple(sorted(heard.values(), key=lambda alert: (alert.started_wall_ns, alert.name)))
    told = replace(group, told={**kept, **heard}, sent_ns=now_ns, changed_ns=None)
    return told, Notification(group.receiver, group.severity, firing, resolved)
