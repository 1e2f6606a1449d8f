"""How much of the time work stood waiting for CPU, memory or disk, as the kernel tells it (PSI).

Method: Linux' pressure stall information (kernel documentation, accounting/psi.rst): `some` is the share of
time in which at least one task waited, `avg10` its mean over ten seconds. Ours is the control group's where
it tells one, else the machine's.
"""

import re
from pathlib import Path
from typing import Literal

from slipstream.monitoring.cgroup import OWN, ROOT

MACHINE = Path("/proc/pressure")
_NUMBER = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")

Resource = Literal["cpu", "memory", "io"]


def pressure(resource: Resource, root: Path = ROOT, own: Path = OWN, machine: Path = MACHINE) -> float | None:
    """Percent of the last ten seconds in which something waited; None where the kernel does not tell."""
    for path in (_group(root, own) / f"{resource}.pressure", machine / resource):
        told = some_avg10(_read(path))
        if told is not None:
            return told
    return None


def some_avg10(text: str) -> float | None:
    """`avg10` of the line `some` of a pressure file; None where it does not stand there."""
    for line in text.splitlines():
        if not line.startswith("some "):
            continue
        for field in line.split()[1:]:
            name, _, value = field.partition("=")
            if name == "avg10":
                return float(value) if _NUMBER.fullmatch(value) else None
    return None


def _group(root: Path, own: Path) -> Path:
    for line in _read(own).splitlines():
        if line.startswith("0::"):
            inner = root / line.removeprefix("0::").strip("/")
            return inner if inner.is_dir() and ".." not in inner.parts else root
    return root


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # pressure is off in some kernels: reading says EOPNOTSUPP
        return ""
