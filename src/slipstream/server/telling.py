"""Other settings on their way to the workers: told to all at once, in force when all have said so.

The embedded model goes with them: its address and its settings are told in one message, so that no request
meets one without the other.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from slipstream.config.settings import Local, Settings
from slipstream.core.meters import Counters
from slipstream.models.local_process import LocalAddress
from slipstream.server import messages
from slipstream.server.embedded import EmbeddedModel
from slipstream.server.slots import Slot

TAKE_SECONDS = 5.0
"""A worker that has not taken settings by then is held up; it takes them when it is not any more."""

DRAIN_SPARE_SECONDS = 5.0
"""What the embedded model's process of before gets beyond the longest that an answer may take."""

LOOK_SECONDS = 0.01
_log = logging.getLogger(__name__)


class Telling:
    """Tells the workers of other settings, and owns the embedded model that goes with them.

    `slots` are the workers; they are set before anything is told.
    """

    def __init__(self, settings: Settings) -> None:
        self.slots: Sequence[Slot] = ()
        self._settings = settings
        self._local: EmbeddedModel | None = None
        self._number = 0
        self._taking: set[int] = set()
        self._holding: dict[int, set[int]] = {}
        """Workers that may have requests under way from before, by the renewal that they were told."""

    @property
    def address(self) -> LocalAddress | None:
        """Where the embedded model is served now; None where there is none."""
        return self._local.address if self._local is not None else None

    def embed(self, data_folder: Path, counters: Counters) -> EmbeddedModel:
        """Serve an embedded model too; it is to be started and closed by whoever asks."""
        self._local = EmbeddedModel(
            self._settings.models.local,
            data_folder,
            counters=counters,
            tell=lambda address: self._to_all(messages.Local(address)),
            workers=self._workers,
        )
        return self._local

    async def prepare(self, settings: Local) -> None:
        """Have the embedded model ready with other settings; raises as `EmbeddedModel.prepare`."""
        if self._local is not None:
            await self._local.prepare(settings)

    async def tell(self, settings: Settings) -> None:
        """Let the settings hold; returns when all workers have taken them, or are gone."""
        seconds = max(self._settings.models.total_seconds, settings.models.total_seconds)
        self._settings = settings
        before = self._local.take(settings.models.local) if self._local is not None else None
        self._number += 1
        number = self._number
        told = self._to_all(messages.Renew(msgspec.json.encode(settings), number, self.address))
        if before is not None and self._local is not None:
            self._holding[number] = owing = set(told)
            draining = self._local.drain(before, owing, seconds + DRAIN_SPARE_SECONDS)
            draining.add_done_callback(lambda _: self._holding.pop(number))
        self._taking = told
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                while self._taking & self._workers():  # noqa: ASYNC110 (a worker may also die)
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            _log.warning("workers are held up and have not taken other settings yet: %s", self._taking)

    def heard(self, message: messages.Took | messages.LetGo) -> None:
        """A worker has taken settings, or has nothing under way any more from before them."""
        match message:
            case messages.Took(number, pid) if number == self._number:
                self._taking.discard(pid)
            case messages.LetGo(number, pid) if number in self._holding:
                self._holding[number].discard(pid)
            case _:
                pass

    def stop(self) -> None:
        """The server ends: give up what is being prepared."""
        if self._local is not None:
            self._local.stop()

    def _to_all(self, message: msgspec.Struct) -> set[int]:
        return set[int]().union(*(slot.tell(message) for slot in self.slots))

    def _workers(self) -> set[int]:
        return set[int]().union(*(slot.pids for slot in self.slots))
