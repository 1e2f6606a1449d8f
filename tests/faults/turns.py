"""Event loops that count their turns and strike at one of them."""

import asyncio
from collections.abc import Callable

from slipstream.flow import virtual


class Turns:
    """Counts the turns of a loop, and strikes at one of them."""

    def __init__(self) -> None:
        self.count = 0
        self._at = 0
        self._strike: Callable[[], object] | None = None
        self._is_so: Callable[[], object] | None = None
        self._told: asyncio.Future[int] | None = None

    def arm(self, at: int, strike: Callable[[], object]) -> None:
        """Call `strike` after `at` further turns."""
        self._at, self._strike = self.count + at, strike

    def turn(self) -> None:
        """One turn is over."""
        self.count += 1
        if self._strike is not None and self.count >= self._at:
            strike, self._strike = self._strike, None
            strike()
        if self._is_so is not None and self._told is not None and not self._told.done() and self._is_so():
            self._told.set_result(self.count)

    async def until(self, is_so: Callable[[], object]) -> int:
        """Wait until something is so, looked at after every turn and causing none; the turn it was so after."""
        self._is_so, self._told = is_so, asyncio.get_running_loop().create_future()
        async with asyncio.timeout(60):
            return await self._told

    def disarm(self) -> bool:
        """Strike no more. Whether it has struck."""
        has_struck, self._strike = self._strike is None, None
        return has_struck


class VirtualTurns(virtual.VirtualLoop):
    """The loop on virtual time, with its turns counted."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns()

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        self.turns.turn()


class RealTurns(asyncio.SelectorEventLoop):
    """The usual loop, with its turns counted."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns()

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        self.turns.turn()
