"""Settings as text: where each value came from, the commented file, the effective file."""

import re
from pathlib import Path

import pytest

from slipstream.config import names, template
from slipstream.config.explain import explain, shown
from slipstream.config.load import load, load_with_origins
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError

EVERYTHING = """\
data_folder = "/data"

[server]
port = 1
allowed_hosts = ["a", 'b"c']

[models.aliases]
"fast one" = "small"

[models.upstreams.open-ai]
url = "https://api.example/v1"

[models.simulated."gpt-4.1"]
itl_ms = 1.5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that sets some of everything."""
    path = tmp_path / "slipstream.toml"
    path.write_text(EVERYTHING, encoding="utf-8")
    return path


def test_every_setting_is_explained(file: Path) -> None:
    """Every setting is there once, with the line, the variable or the default that it came from."""
    explained = explain(load_with_origins(path=file, environ={"SLIPSTREAM__LOG__LEVEL": "debug"}))
    spots = {each.name: each.spot for each in explained}
    plain = [each for each in names.every() if isinstance(each, names.Setting)]

    assert {names.written(each.path) for each in plain} <= set(spots)
    assert len(spots) == len(explained)
    assert spots["data_folder"] == f"{file}, line 1"
    assert spots["server.allowed_hosts"] == f"{file}, line 5"
    assert spots["server.host"] == "default"
    assert spots['models.aliases."fast one"'] == f"{file}, line 8"
    assert spots['models.simulated."gpt-4.1".itl_ms'] == f"{file}, line 14"
    assert spots['models.simulated."gpt-4.1".slots'] == "default"
    assert spots["log.level"] == "$SLIPSTREAM__LOG__LEVEL"


def test_one_setting_one_section(file: Path) -> None:
    """A name chooses itself and what is below it; a wrong one is answered with the nearest."""
    found = load_with_origins(path=file, environ={})

    assert [each.value for each in explain(found, only="server.port")] == [1]
    assert {each.name.rpartition(".")[0] for each in explain(found, only="server")} == {"server"}
    assert explain(load_with_origins(environ={}), only="models.upstreams") == []
    with pytest.raises(ConfigurationError, match=r"Did you mean `server.port`"):
        explain(found, only="server.prot")
    with pytest.raises(ConfigurationError, match=r"Did you mean `server.port`"):
        explain(found, only="port")


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("postgres://me:secret@host/db", "postgres://***@host/db"),
        ("https://host/v1?api_key=secret&x=1", "https://host/v1?api_key=***&x=1"),
        ("https://host/?access-token=secret#end", "https://host/?access-token=***#end"),
        ("https://host/v1", "https://host/v1"),
        (("https://u:secret@h",), ["https://***@h"]),
        (5, 5),
    ],
)
def test_credentials_are_never_shown(value: object, safe: object) -> None:
    """What a URL carries for its server only is masked wherever settings are shown."""
    assert shown(value) == safe


def test_effective_file_says_the_same(file: Path, tmp_path: Path) -> None:
    """`config show` is a file that gives the very settings it shows."""
    settings = load(path=file, environ={})
    again = tmp_path / "again.toml"
    again.write_text(template.effective(settings), encoding="utf-8")

    assert load(path=again, environ={}) == settings


def test_commented_file_changes_nothing(tmp_path: Path) -> None:
    """`config init` writes a file that is valid and sets nothing."""
    path = tmp_path / "slipstream.toml"
    path.write_text(template.commented(), encoding="utf-8")
    found = load_with_origins(path=path, environ={})

    assert found.settings == Settings()
    assert found.sources == {}


def test_commented_file_holds_every_setting(tmp_path: Path) -> None:
    """With every line uncommented it is valid still, and sets every setting to its default."""
    lines = template.commented().splitlines()
    active = [re.sub(r"^#\s*", "", line) for line in lines if re.match(r'#\s*(\[|[a-z_]+ = |"another)', line)]
    path = tmp_path / "slipstream.toml"
    headers = [line for line in lines if line.startswith("[")]
    path.write_text("\n".join(_in_order(lines)), encoding="utf-8")
    found = load_with_origins(path=path, environ={})

    assert headers
    assert active
    for each in names.every():
        if isinstance(each, names.Setting):
            assert found.source(each.path).kind == "file", each.path
    assert found.settings.models.upstreams.keys() == {"name"}
    assert found.settings.server == Settings().server


def _in_order(lines: list[str]) -> list[str]:
    """The lines with what is commented out put in force; descriptions dropped."""
    active = re.compile(r'#\s*(\[[a-z_.]+\]|[a-z0-9_]+ = .*|"another-name" = .*)$')
    return [found[1] if (found := active.match(line)) else line for line in lines]
