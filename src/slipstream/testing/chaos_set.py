"""The faults that are set: which are active now, the seeded dice of each, and how often each struck.

A die depends on the seed, the fault's name and the number of the connection and response, and on
nothing else: faults added or taken away, and the order of other draws, do not change it.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from slipstream.core.errors import ConfigurationError
from slipstream.testing.chaos_faults import Fault, HttpFault, Refuse
from slipstream.testing.chaos_grammar import form, parse

_MOST = 64
_SECOND = 1_000_000_000


@dataclass(slots=True)
class _Placed:
    fault: Fault
    start_ns: int
    end_ns: int | None
    struck: int = 0

    def active(self, now: int) -> bool:
        return self.start_ns <= now and (self.end_ns is None or now < self.end_ns)


class FaultSet:
    """The faults of one proxy, by name, in the order they act.

    Args:
        seed: of every draw.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._placed: dict[str, _Placed] = {}
        self.hits: Counter[str] = Counter()
        """Connections (toxics) or responses (HTTP and SSE faults) struck, by fault name, since the start."""

    def replace(self, faults: Sequence[Fault | str], now: int) -> None:
        """Set these and no others.

        Raises:
            ConfigurationError: not of the grammar, a name is there twice, or too many; nothing changed.
        """
        before, self._placed = self._placed, {}
        try:
            for fault in faults:
                self.add(fault, now)
        except ConfigurationError:
            self._placed = before
            raise

    def add(self, fault: Fault | str, now: int) -> Fault:
        """Set one more and return it with its name; its window counts from `now` (ns).

        Raises:
            ConfigurationError: not of the grammar, the name is taken, or too many.
        """
        fault = parse(fault if isinstance(fault, str) else form(fault))  # a struct built by hand is unchecked
        if len(self._placed) >= _MOST:
            raise ConfigurationError(f"At most {_MOST} faults can be set.")
        if fault.name in self._placed:
            raise ConfigurationError(f"There is a fault named {fault.name!r}.", hint="Give it another name.")
        name, number = fault.label, 1
        while name in self._placed:
            number += 1
            name = f"{fault.label}_{number}"
        named = msgspec.structs.replace(fault, name=name)
        end_ns = now + int(fault.end * _SECOND) if fault.end else None
        self._placed[name] = _Placed(named, now + int(fault.start * _SECOND), end_ns)
        return named

    def remove(self, name: str) -> bool:
        """Take one away; False if there is none of this name."""
        return self._placed.pop(name, None) is not None

    def all(self) -> list[Fault]:
        """Every fault that is set, inside its window or not."""
        return [placed.fault for placed in self._placed.values()]

    def active(self, now: int) -> list[Fault]:
        """The faults inside their windows."""
        return [placed.fault for placed in self._placed.values() if placed.active(now)]

    def next_edge(self, now: int) -> int | None:
        """When (ns) the next window opens or closes."""
        edges = (edge for placed in self._placed.values() for edge in (placed.start_ns, placed.end_ns))
        return min((edge for edge in edges if edge is not None and edge > now), default=None)

    def draw(self, fault: Fault, *numbers: int) -> random.Random | None:
        """Cast the fault's die for a connection or response: its random source if it is to strike."""
        # A string seed is hashed with SHA-512: the same on every Python and for every process.
        dice = random.Random("/".join([str(self._seed), fault.name, *map(str, numbers)]))  # noqa: S311
        return dice if dice.random() < fault.rate else None

    def take(self, fault: Fault) -> bool:
        """Count a strike; False if the fault is gone or has struck as often as it may."""
        placed = self._placed.get(fault.name)
        if placed is None or (fault.times and placed.struck >= fault.times):
            return False
        placed.struck += 1
        self.hits[fault.name] += 1
        return True

    def strike(self, fault: Fault, *numbers: int) -> random.Random | None:
        """Draw, and count it if it strikes."""
        dice = self.draw(fault, *numbers)
        return dice if dice is not None and self.take(fault) else None

    def responses(self, now: int) -> list[HttpFault]:
        """The active faults on responses."""
        return [fault for fault in self.active(now) if isinstance(fault, HttpFault)]

    def refusals(self, now: int) -> list[Refuse]:
        """The active faults on new connections."""
        return [fault for fault in self.active(now) if isinstance(fault, Refuse)]
