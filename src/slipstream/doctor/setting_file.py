"""One setting in the file of a live server, put in and taken out. Nobody else's line is written over."""

import asyncio
import os
from pathlib import Path

from slipstream.config.edit import with_value
from slipstream.config.live import LiveServer
from slipstream.core.errors import ConfigurationError, UpstreamFailed
from slipstream.doctor.finding import Fix
from slipstream.monitoring import admin
from slipstream.server.renewal import Renewed

BEFORE = ".before-doctor"
"""What the name of the file before ends in."""

RELOAD_SECONDS = 600.0
"""Longest wait for the server to take settings: the embedded model may have to load anew."""

NOBODY_LISTENS = "connect_failed"

SETTLE_SECONDS = 0.3
"""From when the server has taken settings until its workers surely have."""


class Change:
    """One setting in the file of a live server, put in and taken out."""

    def __init__(self, server: LiveServer, file: Path, fix: Fix) -> None:
        self.server = server
        self._file = file
        self._fix = fix
        self._was_there = file.is_file()
        self._before = self._written = file.read_text("utf-8") if self._was_there else ""
        self._after = with_value(self._before, fix.setting, fix.after)
        self._is_in = False
        self._is_lost = False

    @property
    def file(self) -> Path:
        """The settings file."""
        return self._file

    @property
    def file_before(self) -> Path | None:
        """Where that file lies as it was, once the setting is in; None where there was none."""
        return self._file.with_name(self._file.name + BEFORE) if self._was_there else None

    @property
    def is_out(self) -> bool:
        """Whether nothing of it is left, in the file and in the server, as far as is known."""
        return not self._is_in and not self._is_lost

    async def put_in(self) -> None:
        """Write the setting and have the server take it. Raises `ConfigurationError` where that is no use."""
        if self._is_in:
            return
        self._check()
        if self.file_before is not None:
            write(self.file_before, self._before, self._file)
        write(self._file, self._after, self._file)
        self._written = self._after
        self._is_in = True
        renewed = await self._reload()
        if self._fix.setting in renewed.refused:
            await self.take_out()
            raise ConfigurationError(f"The server cannot take `{self._fix.setting}` now. {renewed.why}")
        if self._fix.setting not in renewed.taken:
            await self.take_out()
            raise ConfigurationError(
                f"The server does not take `{self._fix.setting}` from {self._file.name}.",
                hint="A flag or a variable sets it too: `slipstream config explain` says which.",
            )

    async def take_out(self) -> None:
        """The file as it was, and the server with it."""
        if not self._is_in:
            return
        self._check()
        if self._was_there:
            write(self._file, self._before, self._file)
        else:
            self._file.unlink(missing_ok=True)
        self._written = self._before
        try:
            renewed = await self._reload()
        except UpstreamFailed as error:
            self._is_in = (
                error.code != NOBODY_LISTENS
            )  # a server that has gone, or goes, holds nothing in force
            raise
        self._is_in = False  # not before: interrupted here, the server is told once more
        if self._fix.setting in renewed.refused:
            self._is_lost = True
            raise ConfigurationError(
                f"`{self._fix.setting}` stands in the file as it was, and the server cannot take it back now."
                f" {renewed.why}",
                hint="It is taken with the next reload or restart.",
            )

    def _check(self) -> None:
        """Nobody else's line is written over: what stands in the file must be what we left there."""
        found = self._file.read_text("utf-8") if self._file.is_file() else ""
        if found != self._written:
            self._is_lost, self._is_in = self._is_in, False
            raise ConfigurationError(
                f"{self._file.name} was changed meanwhile, and is left as it is.",
                hint=f"`{self._fix.setting}` was {self._fix.before} before: see what stands there now.",
            )

    async def switch(self, is_fixed: bool) -> None:
        """Put it in or take it out."""
        await (self.put_in() if is_fixed else self.take_out())

    async def _reload(self) -> Renewed:
        said = await admin.request(self.server, "POST", "settings/reload", seconds=RELOAD_SECONDS)
        await asyncio.sleep(SETTLE_SECONDS)
        return admin.understood(said, Renewed)


def write(path: Path, text: str, like: Path) -> None:
    """Replace a file as a whole, with the rights of `like`: a reader sees the old or the new.

    Raises `ConfigurationError` where it cannot be replaced.
    """
    path = path.resolve()  # a link stays one
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    mode = like.stat().st_mode & 0o777 if like.is_file() else 0o644
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"{path.name} cannot be replaced: {error.strerror}.",
            hint="Its folder must be writable, and the file no mount of its own.",
        ) from None
    finally:
        fresh.unlink(missing_ok=True)
