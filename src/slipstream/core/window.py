"""Counts over the last seconds, by the second: what rates and budgets are made of. Told the time."""

SECOND_NS = 1_000_000_000


class Window:
    """How often something happened in the current second and the `seconds - 1` before it.

    So it covers between `seconds - 1` and `seconds` of time, and forgets a second at a time.
    """

    __slots__ = ("_counts", "_length", "_second", "_sum")

    def __init__(self, seconds: int) -> None:
        self._length = seconds
        self._counts = [0] * seconds
        self._second = 0
        self._sum = 0

    def add(self, now_ns: int) -> None:
        """Count one."""
        second = now_ns // SECOND_NS
        if second > self._second:
            self._advance(second)
        self._counts[self._second % self._length] += 1
        self._sum += 1

    def take_back(self) -> None:
        """Forget the youngest that was counted, if any is left."""
        for second in range(self._second, self._second - self._length, -1):
            place = second % self._length
            if self._counts[place]:
                self._counts[place] -= 1
                self._sum -= 1
                return

    def total(self, now_ns: int) -> int:
        """The sum over the window that ends now."""
        second = now_ns // SECOND_NS
        if second > self._second:
            self._advance(second)
        return self._sum

    def clear(self) -> None:
        """Forget everything."""
        self._counts = [0] * self._length
        self._sum = 0

    def _advance(self, second: int) -> None:
        passed = second - self._second
        if passed >= self._length:
            self.clear()
        else:
            for each in range(self._second + 1, second + 1):
                place = each % self._length
                self._sum -= self._counts[place]
                self._counts[place] = 0
        self._second = second
