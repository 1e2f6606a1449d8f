"""Control groups of both versions, laid out in a folder as the kernel lays them out."""

from pathlib import Path

import pytest

from slipstream.monitoring.cgroup import Limits, Throttling, free_memory, limits, throttling


def laid_out(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A root and a /proc/self/cgroup."""
    root, listed = folder / "cgroup", folder / "own"
    root.mkdir()
    listed.write_text(own)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root, listed


V2 = {
    "cgroup.controllers": "cpu memory\n",
    "pod/cpu.max": "400000 100000\n",
    "pod/memory.max": "1073741824\n",
    "pod/box/cpu.max": "150000 100000\n",
    "pod/box/memory.max": "max\n",
    "pod/box/cpu.stat": "usage_usec 5\nnr_periods 40\nnr_throttled 10\nthrottled_usec 3\n",
}
V1 = {
    "cpu/box/cpu.cfs_quota_us": "50000\n",
    "cpu/box/cpu.cfs_period_us": "100000\n",
    "cpu/box/cpu.stat": "nr_periods 8\nnr_throttled 2\nthrottled_time 9\n",
    "cpu/cpu.cfs_quota_us": "-1\n",
    "cpu/cpu.cfs_period_us": "100000\n",
    "memory/box/memory.limit_in_bytes": "536870912\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
}
OWN_V1 = "4:memory:/box\n2:cpu,cpuacct:/box\n0::/\n"


def test_version_2_takes_the_smallest_limit_upwards(tmp_path: Path) -> None:
    """The quota of the inner group and the memory of the outer one both bind."""
    root, own = laid_out(tmp_path, "0::/pod/box\n", V2)

    assert limits(root, own) == Limits(1.5, 1 << 30)
    assert throttling(root, own) == Throttling(40, 10)


def test_version_1(tmp_path: Path) -> None:
    """A controller has a folder of its own; near 2^63 and -1 mean no limit."""
    root, own = laid_out(tmp_path, OWN_V1, V1)

    assert limits(root, own) == Limits(0.5, 512 << 20)
    assert throttling(root, own) == Throttling(8, 2)


def test_path_of_the_host_inside_a_container(tmp_path: Path) -> None:
    """Where the path that the kernel names is not mounted, the mount itself is our group."""
    files = {"cgroup.controllers": "cpu", "cpu.max": "200000 100000\n", "memory.max": "268435456\n"}
    root, own = laid_out(tmp_path, "0::/kubepods/pod7/box\n", files)

    assert limits(root, own) == Limits(2.0, 256 << 20)


@pytest.mark.parametrize("text", ["", "max 100000\n", "nonsense\n", "-1 100000\n", "100000 0\n", "1000\n"])
def test_a_quota_that_is_none(tmp_path: Path, text: str) -> None:
    """No limit, and nothing that cannot be read, limits nothing."""
    root, own = laid_out(tmp_path, "0::/\n", {"cgroup.controllers": "cpu", "cpu.max": text})

    assert limits(root, own) == Limits()


def test_without_control_groups(tmp_path: Path) -> None:
    """On a system without them nothing is limited."""
    assert limits(tmp_path / "none", tmp_path / "own") == Limits()
    assert throttling(tmp_path / "none", tmp_path / "own") == Throttling()


def test_free_memory_is_what_the_tightest_group_has_left(tmp_path: Path) -> None:
    """File pages that the kernel can drop are free; version 1 names the same numbers otherwise."""
    tight = {
        **V2,
        "pod/memory.current": f"{900 << 20}\n",
        "pod/memory.stat": f"anon 1\ninactive_file {300 << 20}\n",
        "pod/box/memory.current": f"{800 << 20}\n",
    }
    root, own = laid_out(tmp_path, "0::/pod/box\n", tight)
    assert free_memory(root, own) == (1024 - 900 + 300) << 20

    older = {
        **V1,
        "memory/box/memory.usage_in_bytes": f"{500 << 20}\n",
        "memory/box/memory.stat": f"inactive_file 0\ntotal_inactive_file {100 << 20}\n",
    }
    (tmp_path / "v1").mkdir()
    root, own = laid_out(tmp_path / "v1", OWN_V1, older)
    assert free_memory(root, own) == (512 - 500 + 100) << 20
    assert free_memory(tmp_path / "none", tmp_path / "own-none") is None
