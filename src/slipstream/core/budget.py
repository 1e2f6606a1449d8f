"""How many retries are allowed: a share of the requests, so that trying again never becomes the load.

A storm that makes every request fail must not double the traffic (metastable failures, OSDI 2022; the
10 % per client of Google's SRE book). It knows nothing of what is tried again.
"""

from slipstream.core.window import Window

WINDOW_SECONDS = 60


class RetryBudget:
    """Grants at most `share` of the requests of the last 60 s as retries, and a few to a quiet server.

    In no 60 s that end with a grant are there more retries than `max(minimum, share * requests)`: retries
    are counted over a second more than requests are.
    """

    __slots__ = ("_granted", "_minimum", "_requests", "_share", "refused")

    def __init__(self, share: float, minimum: int) -> None:
        self._share = share
        self._minimum = minimum
        self._requests = Window(WINDOW_SECONDS)
        self._granted = Window(WINDOW_SECONDS + 1)
        self.refused = 0

    def asked(self, now_ns: int) -> None:
        """A request has come, for its first attempt."""
        self._requests.add(now_ns)

    def has_room(self, now_ns: int) -> bool:
        """Whether one more retry would be granted."""
        allowed = max(self._minimum, int(self._share * self._requests.total(now_ns)))
        return self._granted.total(now_ns) < allowed

    def grant(self, now_ns: int) -> bool:
        """Take one retry out of the budget; False, and counted, where there is none left."""
        if self.has_room(now_ns):
            self._granted.add(now_ns)
            return True
        self.refused += 1
        return False
