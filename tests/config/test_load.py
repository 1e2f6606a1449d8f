"""Settings from a file, the environment and flags: which wins, and how a mistake is named."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.config import names
from slipstream.config.load import Loaded, load, load_folders, load_with_origins
from slipstream.config.settings import Settings
from slipstream.core.errors import ConfigurationError


def loaded(
    folder: Path,
    toml: str | None = None,
    *,
    environ: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> Loaded:
    path = None
    if toml is not None:
        path = folder / "slipstream.toml"
        path.write_text(toml, encoding="utf-8")
    return load_with_origins(path=path, environ=environ or {}, flags=flags)


def refused(folder: Path, toml: str | None = None, *, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as error:
        loaded(folder, toml, environ=environ)
    return str(error.value).replace(str(folder) + os.sep, "")


def test_nothing_given_is_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file, a variable or a flag every setting has its default."""
    monkeypatch.chdir(tmp_path)

    assert load(environ={}) == Settings()


def test_later_sources_win(tmp_path: Path) -> None:
    """Defaults < file < environment < flags, each setting by itself."""
    found = loaded(
        tmp_path,
        "[server]\nport = 1\nworkers = 2\nconnections = 3\n",
        environ={"SLIPSTREAM__SERVER__PORT": "10", "SLIPSTREAM__SERVER__WORKERS": "20"},
        flags={"server.port": 100, "server.host": None},
    )
    server = found.settings.server

    assert (server.port, server.workers, server.connections, server.host) == (100, 20, 3, "127.0.0.1")
    assert [found.source(("server", name)).kind for name in ("port", "workers", "connections", "host")] == [
        "flag",
        "environment",
        "file",
        "default",
    ]


def test_file_in_the_working_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`slipstream.toml` here, unless $SLIPSTREAM_CONFIG or --config name another."""
    for name, port in (("slipstream.toml", 1), ("variable.toml", 2), ("flag.toml", 3)):
        (tmp_path / name).write_text(f"server.port = {port}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    variable = {"SLIPSTREAM_CONFIG": str(tmp_path / "variable.toml")}

    assert load(environ={}).server.port == 1
    assert load(environ=variable).server.port == 2
    assert load(environ=variable, path=tmp_path / "flag.toml").server.port == 3


def test_named_file_must_exist(tmp_path: Path) -> None:
    """A file that is named and not there is an error that says who named it."""
    with pytest.raises(ConfigurationError, match="--config"):
        load(path=tmp_path / "none.toml", environ={})
    with pytest.raises(ConfigurationError, match=r"\$SLIPSTREAM_CONFIG"):
        load(environ={"SLIPSTREAM_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[server]\n\nprot = 1\n", "line 3: there is no setting `server.prot`. Did you mean `server.port`?"),
        ("port = 1\n", "line 1: there is no setting `port`. Did you mean `server.port` or `mail.port`?"),
        ("[servr]\nport = 1\n", "line 1: there is no setting `servr`. Did you mean `server`?"),
        (
            "[models.upstreams.x]\nurl = ''\nkey = 'sk-secret'\n",
            "line 3: there is no setting `models.upstreams.x.key`. Did",
        ),
        ("[server]\nport = '80'\n", "line 2: `server.port` has a wrong value: expected `int`, got `str`."),
        ("[server]\nport = 70000", "line 2: `server.port` has a wrong value: expected `int` <= 65535."),
        ("[log]\nlevel = 'loud'", "line 2: `log.level` must be one of `debug`, `info`, `warning`, `error`."),
        ("[server]\ndrain_seconds = inf", "line 2: `server.drain_seconds` must be a finite number."),
        (
            "[server]\nallowed_hosts = [\n 'a',\n\n # one\n 'b',\n]\nport = true\n",
            "line 8: `server.port` has a wrong",
        ),
        (
            "[models.upstreams.x]\nmodels = ['*']\n",
            "line 1: `models.upstreams.x` lacks `url`. Write: models.upstreams.x.url",
        ),
        ("server = 1", "line 1: `server` is a table: expected `key = value` below `[server]`."),
    ],
)
def test_mistake_in_the_file_is_named(tmp_path: Path, toml: str, said: str) -> None:
    """File, line, the name, what is expected, and what was probably meant; never the value itself."""
    found = refused(tmp_path, toml)

    assert found.startswith(f"slipstream.toml, {said}")
    assert "sk-secret" not in found


@pytest.mark.parametrize(
    ("toml", "spot"),
    [
        ("[server\nport = 1", "slipstream.toml, line 1, column 8:"),
        ("[server]\nport = \n", "slipstream.toml, line 2, column 8:"),
        ("[server]\nport = 1\nport = 2\n", "slipstream.toml, line 3, column 9:"),
        ("a = '''\n\n", "slipstream.toml, line 1, column 8:"),
    ],
)
def test_bad_toml_is_named(tmp_path: Path, toml: str, spot: str) -> None:
    """File, line and column of what is no TOML."""
    assert refused(tmp_path, toml).startswith(spot)


def test_file_that_is_no_text(tmp_path: Path) -> None:
    """Wrong encoding and endless files are refused with a sentence."""
    path = tmp_path / "slipstream.toml"
    path.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigurationError, match="line 2: is not UTF-8"):
        load(path=path, environ={})
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigurationError, match="is larger than"):
        load(path=path, environ={})


def test_file_of_another_system(tmp_path: Path) -> None:
    """A byte order mark and CRLF line ends do no harm."""
    path = tmp_path / "slipstream.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 5\r\n")

    assert load(path=path, environ={}).server.port == 5


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SERVER__PROT", "1", "there is no setting `server.prot`. Did you mean SLIPSTREAM__SERVER__PORT?"),
        ("SERVR__PORT", "1", "there is no setting `servr`. Did you mean SLIPSTREAM__SERVER?"),
        ("SERVER__PORT", "sk-secret", "`server.port` has a wrong value: expected `int`, got `str`."),
        (
            "SERVER__PORT__X",
            "1",
            "there is no setting `server.port.x`. SLIPSTREAM__SERVER__PORT is",
        ),
        ("SERVER", "1", "`server` is a table: expected `key = value` below `[server]`."),
        ("SERVER", "sk-secret", "`server` is a table: expected a JSON object."),
        (
            "MODELS__UPSTREAMS__ONE__KEY",
            "sk-secret",
            "there is no setting `models.upstreams.one.key`.",
        ),
        ("MODELS__UPSTREAMS__ONE__KEY_ENV", "sk-secret", "`models.upstreams.one` lacks `url`."),
        ("RECORD__ENABLED", "sk-secret", "`record.enabled` has a wrong value: expected `bool`, got `str`."),
        ("SERVER__DRAIN_SECONDS", "nan", "`server.drain_seconds` has a wrong value"),
        ("", "1", 'there is no setting `""`.'),
    ],
)
def test_mistake_in_the_environment_is_named(tmp_path: Path, name: str, value: str, said: str) -> None:
    """The variable, the name, what is expected, and what was probably meant; never the value itself."""
    found = refused(tmp_path, "", environ={f"SLIPSTREAM__{name}": value})

    assert found.startswith(f"$SLIPSTREAM__{name}: {said}")
    assert "sk-secret" not in found


def test_environment_reaches_everything(tmp_path: Path) -> None:
    """Numbers, words for yes and no, lists, entries of tables, whole tables."""
    settings = loaded(
        tmp_path,
        environ={
            "SLIPSTREAM__SERVER__DRAIN_SECONDS": "1.5",
            "SLIPSTREAM__RECORD__ENABLED": "off",
            "SLIPSTREAM__SERVER__ALLOWED_HOSTS": "a.example, b.example",
            "SLIPSTREAM__SERVER__ALLOWED_ORIGINS": '["https://c.example"]',
            "SLIPSTREAM__MODELS__UPSTREAMS__OPENAI__URL": "https://api.example/v1",
            "SLIPSTREAM__MODELS__ALIASES__FAST": "small",
            "SLIPSTREAM__MODELS__SIMULATED": '{"Big-1.0": {"slots": 3}}',
            "SLIPSTREAM__DATA_FOLDER": "/elsewhere",
        },
    ).settings

    assert settings.server.drain_seconds == 1.5
    assert settings.record.enabled is False
    assert settings.server.allowed_hosts == ("a.example", "b.example")
    assert settings.server.allowed_origins == ("https://c.example",)
    assert settings.models.upstreams["openai"].url == "https://api.example/v1"
    assert settings.models.aliases == {"fast": "small"}
    assert settings.models.simulated["Big-1.0"].slots == 3
    assert settings.data_folder == "/elsewhere"


def test_environment_finds_a_name_with_dots(tmp_path: Path) -> None:
    """A variable cannot spell `gpt-4.1`; `GPT_4_1` means it where the file names it."""
    settings = loaded(
        tmp_path,
        '[models.simulated."gpt-4.1"]\nslots = 1\n',
        environ={"SLIPSTREAM__MODELS__SIMULATED__GPT_4_1__SLOTS": "2"},
    ).settings

    assert {name: each.slots for name, each in settings.models.simulated.items()} == {"gpt-4.1": 2}


def test_table_without_keys_is_an_entry(tmp_path: Path) -> None:
    """A header alone makes a simulated model with its defaults."""
    assert list(loaded(tmp_path, "[models.simulated.echo]").settings.models.simulated) == ["echo"]


def test_flag_names_are_checked() -> None:
    """A flag that sets what does not exist is our own mistake, named like any other."""
    with pytest.raises(ConfigurationError, match=r"no setting `server.prot`. Did you mean `server.port`"):
        load(environ={}, flags={"server.prot": 1})


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(TEXT, min_size=1, max_size=4).map(tuple))
def test_names_are_toml_keys(path: tuple[str, ...]) -> None:
    """Every path that is written as a name is read back as itself."""
    assert names.read(names.written(path)) == path


@pytest.mark.parametrize("name", ["", "a b", "a =", "a = 1\nb", "[a]", "a.", "a.b = 1 #"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """What TOML does not take as a key is no setting's name."""
    with pytest.raises(ConfigurationError):
        names.read(name)


@pytest.mark.parametrize(
    "wrong", ["[server]\nno_such = 1\n", "[server\nport = 1\n", "[models.upstreams.a]\nweight = 1\n"]
)
def test_folders_are_read_off_a_file_that_is_wrong(tmp_path: Path, wrong: str) -> None:
    """For whoever mends it; the environment wins over it as ever, and a right file is read as a whole."""
    file = tmp_path / "slipstream.toml"
    file.write_text('# ours\ndata_folder = "/data"\nstate_folder = "/state"\n' + wrong, "utf-8")
    found = load_folders(path=file, environ={"SLIPSTREAM__STATE_FOLDER": "/other"})

    assert (found.data_folder, found.state_folder) == ("/data", "/other")
    assert load_folders(path=tmp_path / "none", environ={}) == Settings()
    file.write_text("[server]\nport = 1\n", "utf-8")
    assert load_folders(path=file, environ={}).server.port == 1
