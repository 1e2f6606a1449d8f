"""What this process may use: the limits of its control group, version 1 or 2, read from the kernel's files.

Method: every group from ours up to the root binds, so the smallest limit counts (kernel documentation,
cgroup-v2.rst). Knows no process and no rate.
"""

from pathlib import Path

from msgspec import Struct

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")

_NO_LIMIT = 1 << 60
"""Version 1 writes a number near 2^63 where there is no limit."""


class Limits(Struct, frozen=True):
    """What a control group allows; None where it sets no limit."""

    cpu_cores: float | None = None
    memory_bytes: int | None = None


class Throttling(Struct, frozen=True):
    """How often the quota held the group up, since it was made; zeros where there is no quota."""

    periods: int = 0
    throttled: int = 0


def limits(root: Path = ROOT, own: Path = OWN) -> Limits:
    """The limits that bind this process; empty where there are no control groups."""
    cores = [quota for folder in _folders("cpu", root, own) if (quota := _quota(folder)) is not None]
    sizes = [size for folder in _folders("memory", root, own) if (size := _memory(folder)) is not None]
    return Limits(min(cores, default=None), min(sizes, default=None))


def throttling(root: Path = ROOT, own: Path = OWN) -> Throttling:
    """How often this process's group was held up."""
    for folder in _folders("cpu", root, own):
        words = _read(folder / "cpu.stat").split()
        counts = dict(zip(words[::2], words[1::2], strict=False))
        if "nr_periods" in counts:
            return Throttling(_number(counts["nr_periods"]) or 0, _number(counts["nr_throttled"]) or 0)
    return Throttling()


def free_memory(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Bytes that our control groups still grant, droppable file pages counted as free; None = no limit."""
    spare = []
    for folder in _folders("memory", root, own):
        size = _memory(folder)
        used = _first_number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if size is None or used is None:
            continue
        words = _read(folder / "memory.stat").split()
        counts = dict(zip(words[::2], words[1::2], strict=False))
        unneeded = _number(counts.get("total_inactive_file", counts.get("inactive_file", ""))) or 0
        spare.append(max(0, size - max(0, used - unneeded)))
    return min(spare, default=None)


def _folders(controller: str, root: Path, own: Path) -> list[Path]:
    """The folders of our groups for a controller, the innermost first."""
    for line in _read(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return _upwards(root / controller, path)
    unified = [line.partition("::")[2] for line in _read(own).splitlines() if line.startswith("0::")]
    mount = root if (root / "cgroup.controllers").is_file() else root / "unified"
    return _upwards(mount, unified[0]) if unified and mount.is_dir() else []


def _upwards(mount: Path, path: str) -> list[Path]:
    """A group and all above it. In a container the path may be the host's: then only the mount is ours."""
    inner = mount / path.strip("/")
    if ".." in Path(path).parts or not inner.is_dir():
        return [mount]
    return [inner, *(each for each in inner.parents if each == mount or mount in each.parents)]


def _quota(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    granted, over = _number(quota), _number(period)
    return granted / over if granted is not None and granted > 0 and over else None


def _memory(folder: Path) -> int | None:
    size = _first_number(folder / "memory.max", folder / "memory.limit_in_bytes")
    return size if size is not None and 0 < size < _NO_LIMIT else None


def _first_number(*files: Path) -> int | None:
    """The number in the first of these files that holds one."""
    return next((number for file in files if (number := _number(_read(file))) is not None), None)


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.lstrip("-").isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
