"""A settings file with a fix in it is read by whoever could read it before; taken back, it is as it was."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.config.edit import with_value
from slipstream.config.settings import Models, Settings, Upstream
from slipstream.core.errors import ConfigurationError
from slipstream.doctor.file_text import fixed, newly_refused
from slipstream.doctor.finding import Fix
from slipstream.doctor.undo import undone
from slipstream.store.ledger import Entry

NAME = "127.0.0.1:29102"
SETTING = f'models.upstreams."{NAME}".weight'
FIX = Fix(SETTING, "1", "0.01", "send it next to nothing")
FILES = ["", "# mine\n[server]\nport = 1\n", "[server]\r\nport = 1\r\n", "[models]\nattempts = 3"]


def has(**more: object) -> Settings:
    known = Upstream(url=f"http://{NAME}/v1", **more)  # type: ignore[arg-type]
    return Settings(models=Models(upstreams={NAME: known}))


def row(written: str, file_before: str) -> Entry:
    return Entry(wall_ns=1, kind="k", subject=NAME, setting=SETTING, before="1", after="0.01", state="applying",
                 file="f", file_before=file_before, written=written)  # fmt: skip


@given(
    st.sampled_from(FILES),
    st.sampled_from([(), ("m",), ('a"b', "c#d")]),
    st.sampled_from(["", "KEY"]),
    st.booleans(),
)
def test_an_upstream_that_the_file_lacks_is_written_whole(
    before: str, models: tuple[str, ...], key_env: str, is_cached: bool
) -> None:
    """What the server has of it from its flags; without a weight alone, which no command could read."""
    done = fixed(before, FIX, has(models=models, key_env=key_env, caches_prompts=is_cached))

    entry = tomllib.loads(done.text)["models"]["upstreams"][NAME]
    assert entry.pop("weight") == 0.01
    assert (entry["url"], entry.get("models", [])) == (f"http://{NAME}/v1", list(models))
    assert (entry.get("key_env", ""), entry.get("caches_prompts", False)) == (key_env, is_cached)
    assert newly_refused(before, done.text) == ""
    assert newly_refused(before, with_value(before, SETTING, "0.01")) != ""


@given(st.sampled_from(FILES), st.sampled_from(["", "# by hand\r\n", '[log]\nlevel = "debug"\n']))
def test_taken_back_it_is_as_it_was(before: str, theirs: str) -> None:
    """All that was written is gone, and nothing else; also out of a file that was changed meanwhile."""
    done = fixed(before, FIX, has(models=("m",)))
    told = undone(row(done.written, "b" if before else ""), done.text + theirs, before)

    if not theirs:
        assert (told.what, told.text) == (("write", before) if before else ("remove", ""))
    else:
        assert told.what == "write"
        assert told.text.replace(theirs, "").rstrip() == before.rstrip()


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (f'[models.upstreams."{NAME}"]\nconnections = 7\n', {"connections", "url", "models"}),
        (f'[models.upstreams."{NAME}"]\nkey_env = "K"\n', {"key_env", "url", "models"}),
    ],
)
def test_an_entry_that_somebody_has_added_to_can_still_be_read(change: str, kept: set[str]) -> None:
    """Only the setting is taken out: their line would be nothing without the address."""
    done = fixed("", FIX, has(models=("m",)))
    now = done.text.replace(f'[models.upstreams."{NAME}"]\n', change)
    told = undone(row(done.written, ""), now, "")

    assert set(tomllib.loads(told.text)["models"]["upstreams"][NAME]) == kept
    assert newly_refused("", told.text) == ""


def test_no_line_is_left_where_none_was() -> None:
    """Not `weight = 1` either."""
    before = f'[models.upstreams."{NAME}"]\nurl = "http://{NAME}/v1"\n'
    done = fixed(before, FIX, has())
    told = undone(row(done.written, "b"), done.text + "# by hand\n", before)

    assert (done.written, told.text) == ("", before + "# by hand\n")


def test_a_file_before_that_is_broken_is_as_one_that_is_lost() -> None:
    """What the ledger knows is enough."""
    done = fixed("", FIX, has())

    assert undone(row(done.written, "b"), done.text + "# by hand\n", "[[[bad").text.strip() == "# by hand"


@pytest.mark.parametrize("url", ["http://me:secret@127.0.0.1:1/v1", "http://127.0.0.1:1/v1?api_key=secret"])
def test_credentials_are_written_nowhere(url: str) -> None:
    """It is refused with what to write, before anything is changed."""
    settings = Settings(models=Models(upstreams={NAME: Upstream(url=url)}))
    with pytest.raises(ConfigurationError) as raised:
        fixed("", FIX, settings)

    assert "secret" not in str(raised.value) + raised.value.hint
    assert f'[models.upstreams."{NAME}"]' in raised.value.hint


def test_what_could_not_be_read_after_is_not_written() -> None:
    """An entry that is not an upstream's has nothing that could be written with it."""
    with pytest.raises(ConfigurationError, match="is not written"):
        fixed("", Fix("monitoring.prices.m.output", "1", "2", ""), Settings())
