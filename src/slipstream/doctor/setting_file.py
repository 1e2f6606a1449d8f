"""One setting in the file of a live server, put in and taken out. Nobody else's line is written over."""

import asyncio
import contextlib
import os
from pathlib import Path

from slipstream.config import names
from slipstream.config.edit import tree, value_at
from slipstream.config.live import LiveServer
from slipstream.config.settings import Settings
from slipstream.core import clock
from slipstream.core.errors import ConfigurationError, UpstreamFailed
from slipstream.doctor.file_text import fixed
from slipstream.doctor.finding import Fix
from slipstream.doctor.undo import undone
from slipstream.monitoring import admin
from slipstream.server.renewal import Renewed
from slipstream.store.ledger import Entry

BEFORE = ".before-doctor"
"""What the name of the file before ends in."""

RELOAD_SECONDS = 600.0
"""Longest wait for the server to take settings: the embedded model may have to load anew."""

NOBODY_LISTENS = "connect_failed"

SETTLE_SECONDS = 0.3
"""From when the server has taken settings until its workers surely have."""


class Change:
    """One setting in the file of a live server, put in and taken out.

    Args:
        settings: those of the server. Where the file lacks the upstream that the fix is about, what the
            server has of it is written too.
    """

    def __init__(self, server: LiveServer, file: Path, fix: Fix, settings: Settings) -> None:
        self.server = server
        self.file = file
        self._fix = fix
        self._before = text_of(file) if file.exists() else None
        """What is left behind: the file as it was; None = none."""
        if self._before is None and file.exists():
            raise ConfigurationError(f"{file} cannot be read.", hint="Be the user whose file it is.")
        done = fixed(self._before or "", fix, settings)
        self._after, self._written = done.text, self._before
        self._was_there = self._before is not None
        self.row = Entry(
            wall_ns=clock.wall_ns(),
            kind="",
            subject="",
            setting=fix.setting,
            before=fix.before,
            after=fix.after,
            state="applying",
            file=str(file),
            file_before=str(self.file_before or ""),
            written=done.written,
        )
        """What the ledger needs in order to take it back."""
        self.note = ""
        """What came of it where somebody else changed the file meanwhile."""
        self.is_theirs = False
        """Whether somebody else gave the setting another value meanwhile; that one is left."""
        self._is_in = False
        self._is_lost = False

    @property
    def file_before(self) -> Path | None:
        """Where that file lies as it was, once the setting is in; None where there was none."""
        return self.file.with_name(self.file.name + BEFORE) if self._was_there else None

    @property
    def is_out(self) -> bool:
        """Whether nothing of it is left, in the file and in the server, as far as is known."""
        return not self._is_in and not self._is_lost and not self.is_theirs

    async def put_in(self) -> None:
        """Write the setting and have the server take it. Raises `ConfigurationError` where that is no use."""
        if self._is_in:
            if not self._stands():
                await self.take_out()
            return
        if self._found() != self._written:
            self.note = "it was out just then, and the file is left as it is."
            raise self._changed_meanwhile()
        if self.file_before is not None:
            write(self.file_before, self._before or "", self.file)
        write(self.file, self._after, self.file)
        self._written = self._after
        self._is_in = True
        renewed = await self._reload()
        if self._fix.setting in renewed.refused:
            await self.take_out()
            raise ConfigurationError(f"The server cannot take `{self._fix.setting}` now. {renewed.why}")
        if self._fix.setting not in renewed.taken:
            await self.take_out()
            raise ConfigurationError(
                f"The server does not take `{self._fix.setting}` from {self.file.name}.",
                hint="A flag or a variable sets it too: `slipstream config explain` says which.",
            )

    async def take_out(self) -> None:
        """The file as it was, and the server with it.

        Raises `ConfigurationError` where somebody else changed the file meanwhile: what was written is taken
        out of it, and theirs is kept.
        """
        if not self._is_in:
            return
        is_changed = self._found() != self._written
        if is_changed:
            self._heed_others()
        if self._before is None:
            self.file.unlink(missing_ok=True)
        elif self._before != self._found():
            write(self.file, self._before, self.file)
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
        if is_changed:
            raise self._changed_meanwhile()

    async def switch(self, is_fixed: bool) -> None:
        """Put it in or take it out."""
        await (self.put_in() if is_fixed else self.take_out())

    def _found(self) -> str | None:
        return text_of(self.file) if self.file.exists() else None

    def _stands(self) -> bool:
        """Whether it is in the file as it was put in, whatever else was changed there."""
        found = self._found()
        if found == self._written:
            return True
        held = value_at(tree(found or ""), names.read(self._fix.setting))
        return held == value_at(tree(self._after), names.read(self._fix.setting))

    def _heed_others(self) -> None:
        """Somebody has changed the file: what is to be left behind is theirs, without what was written here.

        Raises `ConfigurationError` where it cannot be told apart.
        """
        found = self._found()
        told = undone(self.row, found, self._before or "")
        self.note = told.note
        if told.left == "unclear":
            self._is_lost, self._is_in = True, False
            raise self._changed_meanwhile(" It may still be in force: `slipstream doctor --recover`.")
        self.is_theirs = told.left == "theirs"
        self._before = told.text if told.what == "write" else None if told.what == "remove" else found

    def _changed_meanwhile(self, more: str = "") -> ConfigurationError:
        said = f"{self.file.name} was changed meanwhile by somebody else: the fix was not verified."
        return ConfigurationError(said, hint=f"{self.note[:1].upper()}{self.note[1:]}{more}")

    async def _reload(self) -> Renewed:
        said = await admin.request(self.server, "POST", "settings/reload", seconds=RELOAD_SECONDS)
        await asyncio.sleep(SETTLE_SECONDS)
        return admin.understood(said, Renewed)


def text_of(path: Path) -> str | None:
    """What a settings file holds, with its line ends; None where it cannot be read."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def write(path: Path, text: str, like: Path) -> None:
    """Replace a file as a whole, with the rights of `like`: a reader sees the old or the new.

    The owner is that of `like` too, where we may give files away. Raises `ConfigurationError` where it cannot
    be replaced.
    """
    path = path.resolve()  # a link stays one
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        was = like.stat() if like.is_file() else None
        fresh.unlink(missing_ok=True)  # of a process that had this number, and was killed
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644 if was is None else 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if was is not None:
                with contextlib.suppress(PermissionError):  # only root gives files away
                    os.fchown(descriptor, was.st_uid, was.st_gid)
                os.fchmod(descriptor, was.st_mode & 0o777)
            file.write(text.encode())
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"{path.name} cannot be replaced: {error.strerror}.",
            hint="Its folder must be writable, and the file no mount of its own.",
        ) from None
    finally:
        fresh.unlink(missing_ok=True)
