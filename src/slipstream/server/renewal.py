"""The settings in force while the server serves: read again when asked, taken as far as that is possible.

Also what the doctor is told: those settings, the file that a person would change, and where event loops
stood still.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from slipstream.config import names
from slipstream.config.renewable import has_other_orders, is_live, merged
from slipstream.config.settings import Local, Settings
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, SlipstreamError, StoreFailed
from slipstream.core.stalls import StallSeen
from slipstream.profiling.stalls import Stall
from slipstream.store import settings_since

_log = logging.getLogger(__name__)

STALLS_MAX = 2_000
"""Stalls that are kept, the latest; older ones are counted."""

MARK_CHARACTERS = 200


class Origin(Struct, frozen=True):
    """Where settings come from: how they are read again, and the file that a change belongs into."""

    read: Callable[[], Settings]
    file: str


class Renewed(Struct, frozen=True):
    """What has come of reading the settings again, by the settings' names."""

    taken: tuple[str, ...]
    need_restart: tuple[str, ...]
    refused: tuple[str, ...] = ()
    """Could be taken, but not now: those before hold on. They are tried again at the next time."""
    why: str = ""
    """Why they are refused."""


class DoctorView(Struct, frozen=True):
    """What the doctor asks of a live server."""

    settings: Settings
    file: str
    stalls: tuple[StallSeen, ...]
    stalls_forgotten: int
    changed_wall_ns: int = 0
    """When settings last changed, while serving or by a restart with others; 0 = not as far as is known."""


class Renewal:
    """The settings in force.

    Args:
        settings: those it was started with.
        origin: where they came from; None where they cannot be read again.
        tell: passes others on to the workers; returns when they hold.
        mark: makes a mark in the charts, of a text.
        prepare: has the embedded model ready with another section of its own; raises `SlipstreamError` where
            it cannot be, and then what serves is as it was. It is let serve by `tell`.
    """

    def __init__(
        self,
        settings: Settings,
        origin: Origin | None,
        tell: Callable[[Settings], Awaitable[None]],
        mark: Callable[[str], Awaitable[object]],
        *,
        prepare: Callable[[Local], Awaitable[None]],
    ) -> None:
        self.settings = settings
        self._origin = origin
        self._tell = tell
        self._mark = mark
        self._prepare = prepare
        self._one_at_a_time = asyncio.Lock()
        self._stalls: deque[StallSeen] = deque(maxlen=STALLS_MAX)
        self._stalls_seen = 0
        self._changed_wall_ns = 0
        self._home: tuple[Settings, int] | None = None
        """The settings that others were tried beside, and since when they held."""
        self._path: Path | None = None

    def begin(self, path: Path) -> None:
        """It begins to serve: since when these settings hold is read there, and written from now on."""
        self._path = path
        try:
            self._changed_wall_ns = settings_since.begun(path, self.settings, clock.wall_ns())
        except StoreFailed as error:  # it serves all the same; the doctor looks back too far at worst
            _log.warning("%s", error)

    def stalled(self, stall: StallSeen) -> None:
        """An event loop has stood still."""
        self._stalls_seen += 1
        self._stalls.append(stall)

    def view(self) -> DoctorView:
        """What the doctor asks for."""
        file = self._origin.file if self._origin is not None else ""
        forgotten = self._stalls_seen - len(self._stalls)
        return DoctorView(self.settings, file, tuple(self._stalls), forgotten, self._changed_wall_ns)

    async def renew(self) -> Renewed:
        """Read the settings again. Raises `ConfigurationError` for wrong ones, and those before hold on."""
        if self._origin is None:
            raise ConfigurationError("The settings of this server cannot be read again.", status=409)
        async with self._one_at_a_time:
            read = await asyncio.to_thread(self._origin.read)
            taken, left = differences(self.settings, read)
            now, why = merged(self.settings, read), ""
            refused: tuple[str, ...] = ()
            if has_other_orders(self.settings, now):
                try:
                    await self._prepare(now.models.local)
                except SlipstreamError as error:
                    now, why = _without_local(now, self.settings), str(error)
                    wanted, (taken, _) = taken, differences(self.settings, now)
                    refused = tuple(each for each in wanted if each not in taken)
            if taken:
                was, since_ns = self.settings, self._changed_wall_ns
                self.settings = now
                await self._tell(now)
                if self._home is not None and self._home[0] == now:  # what was tried is taken back
                    self._changed_wall_ns = self._home[1]
                else:
                    if self._home is None or self._home[0] != was:
                        self._home = was, since_ns
                    self._changed_wall_ns = clock.wall_ns()
                await asyncio.to_thread(self._write)
                await self._mark(f"settings changed: {', '.join(taken)}"[:MARK_CHARACTERS])
            return Renewed(taken, left, refused, why)

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            settings_since.hold(self._path, self.settings, self._changed_wall_ns)
        except StoreFailed as error:
            _log.warning("%s", error)


def seen(stall: Stall, slot: int) -> StallSeen:
    """A stall as the doctor is told of it."""
    place = str(stall.culprit or "")
    return StallSeen(stall.wall_ns, stall.seconds, place, stall.task, stall.victims or 0, slot)


def differences(old: Settings, new: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of settings that differ: those that are taken while serving, and the others."""
    before, after = dict(_leaves(msgspec.to_builtins(old))), dict(_leaves(msgspec.to_builtins(new)))
    paths = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    taken = tuple(names.written(path) for path in paths if is_live(path))
    return taken, tuple(names.written(path) for path in paths if not is_live(path))


def _without_local(new: Settings, old: Settings) -> Settings:
    models = msgspec.structs.replace(new.models, local=old.models.local)
    return msgspec.structs.replace(new, models=models)


def _leaves(tree: object, path: names.Path = ()) -> Iterator[tuple[names.Path, object]]:
    if isinstance(tree, dict) and tree:
        for name, inner in tree.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield path, tree
