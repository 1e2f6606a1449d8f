"""Since when settings hold: over restarts, and whatever the file has come to."""

import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slipstream.config.settings import Models, Server, Settings, Upstream
from slipstream.store.settings_since import begun, digest, hold, since


def served(weight: float, **server: object) -> Settings:
    upstreams = {"a": Upstream(url="http://127.0.0.1:1", weight=weight)}
    return Settings(models=Models(upstreams=upstreams), server=Server(**server))  # type: ignore[arg-type]


@given(st.lists(st.sampled_from((0.5, 1.0, 2.0)), min_size=1, max_size=12))
def test_it_is_the_last_start_with_others(tmp_path_factory: object, weights: list[float]) -> None:
    """After any row of starts: when the last run of the same settings began; 0 where it is the first."""
    path = Path(tmp_path_factory.mktemp("since")) / "settings.json"  # type: ignore[attr-defined]
    told = [begun(path, served(weight), 100 + at) for at, weight in enumerate(weights)]
    expected, held = [], 0
    for at, weight in enumerate(weights):
        held = 100 + at if at and weights[at - 1] != weight else held
        expected.append(held)

    assert told == expected
    assert since(path) == told[-1]


def test_what_makes_settings_others() -> None:
    """A weight and the number of workers do; the port and what is asked of clients do not."""
    assert digest(served(1.0, port=0, header_count=9)) == digest(served(1.0))
    assert digest(served(1.0, workers=2)) != digest(served(1.0))
    assert digest(served(0.5)) != digest(served(1.0))


def test_a_damaged_file_is_none(tmp_path: Path) -> None:
    """Half of it, something else, too much of it: nothing is known, and the next start mends it."""
    path = tmp_path / "settings.json"
    for body in (b"", b'{"digest": "a', b"[1]", b"\xff", b'"' + b"x" * 9_000 + b'"'):
        path.write_bytes(body)
        assert since(path) == 0
        assert begun(path, served(1.0), 5) == 0
        assert begun(path, served(0.5), 6) == 6


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """A file of its owner's, and no setting in it: no address, no key."""
    path = tmp_path / "settings.json"
    hold(path, served(1.0), 5)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"127.0.0.1" not in path.read_bytes()
