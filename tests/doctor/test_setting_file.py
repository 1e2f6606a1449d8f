"""A setting put into the file of a real server and taken out: nobody else's line is lost, nothing of it stays."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from e2e.serving import Serving, serving
from faults.rig import backstage
from slipstream.config.live import LiveServer
from slipstream.config.load import load
from slipstream.config.settings import Simulated
from slipstream.core.errors import ConfigurationError
from slipstream.doctor.apply import _tried
from slipstream.doctor.finding import Fix
from slipstream.doctor.setting_file import Change, write
from slipstream.monitoring import admin
from slipstream.server.renewal import DoctorView
from slipstream.store.ledger import LedgerStore
from slipstream.testing.simulator import run_simulator


class Put(msgspec.Struct):
    """A server with one upstream from its flags, and the file that it reads."""

    server: Serving
    file: Path
    fix: Fix

    def live(self) -> LiveServer:
        return LiveServer(0, self.server.url, "", self.server.token, 0, "", "")

    def change(self) -> Change:
        return Change(self.live(), self.file, self.fix, self.view().settings)

    def view(self) -> DoctorView:
        return msgspec.convert(self.server.json("/_slipstream/doctor"), DoctorView)

    def weight(self) -> float:
        """As the server has it."""
        (upstream,) = self.view().settings.models.upstreams.values()
        return upstream.weight


@pytest.fixture(scope="module")
def put(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Put]:
    folder = tmp_path_factory.mktemp("put")
    with backstage() as stage:
        url = stage.open(run_simulator(Simulated())).url
        name = url.removeprefix("http://").rstrip("/")
        with serving(folder, "--upstream", f"{url}/v1") as server:
            fix = Fix(f'models.upstreams."{name}".weight', "1", "0.01", "")
            yield Put(server, folder / "slipstream.toml", fix)


@pytest.fixture(autouse=True)
def clean(put: Put) -> None:
    """No file, and the server as without one."""
    put.file.unlink(missing_ok=True)
    asyncio.run(admin.request(put.live(), "POST", "settings/reload"))


def in_and_out(change: Change, edited: str | None = None) -> None:
    async def both() -> None:
        await change.put_in()
        if edited is not None:
            change.file.write_bytes(edited.encode())
        await change.take_out()

    asyncio.run(both())


@pytest.mark.parametrize("before", [None, '# mine\r\n[log]\r\nlevel = "info"\r\n'])
def test_an_upstream_from_a_flag_is_read_by_every_command(put: Put, before: str | None) -> None:
    """While it is in, the file loads by itself; taken out, the file is as it was to the byte, with its rights."""
    if before is not None:
        put.file.write_bytes(before.encode())
        put.file.chmod(0o660)
    change = put.change()
    asyncio.run(change.put_in())

    assert put.weight() == 0.01
    (upstream,) = load(path=put.file, environ={}).models.upstreams.values()
    assert upstream == next(iter(put.view().settings.models.upstreams.values()))
    asyncio.run(change.take_out())
    assert put.weight() == 1.0
    assert change.is_out
    if before is None:
        assert not put.file.exists()
    else:
        assert change.file_before is not None
        for each in (put.file, change.file_before):
            assert (each.read_bytes(), each.stat().st_mode & 0o777) == (before.encode(), 0o660)


def test_what_others_change_meanwhile_stays_and_the_fix_goes(put: Put) -> None:
    """Their line is kept, ours is taken out, the server is told, and so is the one who applied it."""
    change = put.change()
    with pytest.raises(ConfigurationError, match="changed meanwhile") as raised:
        in_and_out(change, "# theirs\n" + change._after)

    assert "is out of the file again" in raised.value.hint
    assert put.file.read_text() == "# theirs\n"
    assert (put.weight(), change.is_out, change.is_theirs) == (1.0, True, False)


def test_a_value_that_others_give_is_theirs(put: Put) -> None:
    """It is neither taken out nor called ours."""
    change = put.change()
    theirs = change._after.replace("weight = 0.01", "weight = 0.5")
    with pytest.raises(ConfigurationError) as raised:
        in_and_out(change, theirs)

    assert "was changed since, and is left as it is" in raised.value.hint
    assert put.file.read_text() == theirs
    assert (put.weight(), change.is_out, change.is_theirs) == (0.5, False, True)


def test_what_cannot_be_told_apart_is_left_for_recover(put: Put) -> None:
    """A file that is half written by an editor: nothing is lost, and it is said what to do."""
    change = put.change()
    with pytest.raises(ConfigurationError) as raised:
        in_and_out(change, "half a [")

    assert "slipstream doctor --recover" in raised.value.hint
    assert put.file.read_text() == "half a ["
    assert (change.is_out, change.is_theirs) == (False, False)


@pytest.mark.parametrize(
    ("edited", "states"),
    [
        (("weight", "# theirs\nweight"), ["rolled back"]),
        (("weight = 0.01", "weight = 0.5"), ["interrupted"]),
        (("weight = 0.01", "half a ["), ["applying"]),
        (None, []),
    ],
)
def test_the_ledger_says_what_came_of_a_fix_that_was_broken_off(
    put: Put, tmp_path: Path, edited: tuple[str, str] | None, states: list[str]
) -> None:
    """Where others changed the file, a row with a sentence; where it was broken off by itself, none."""
    change = put.change()

    async def work() -> None:
        try:
            await change.put_in()
            if edited is not None:
                put.file.write_text(put.file.read_text().replace(*edited))
            raise ConfigurationError("It was broken off.")
        finally:
            with contextlib.suppress(ConfigurationError):
                await change.take_out()

    with contextlib.closing(LedgerStore(tmp_path / "doctor.db")) as store:
        with pytest.raises(ConfigurationError):
            _tried(store, change.row, change, work)
        found = store.entries()

    assert [each.state for each in found] == states
    for each in found:
        assert each.written
        assert ("Somebody changed the file meanwhile" in each.note) == (each.state != "applying")


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_a_file_is_replaced_with_its_rights(tmp_path: Path, mode: int) -> None:
    """Whatever the mask of this process; also the owner's group where that may be given."""
    file = tmp_path / "slipstream.toml"
    file.write_bytes(b"a\r\n")
    file.chmod(mode)
    if os.geteuid() == 0:
        os.chown(file, 1234, 1235)
    was = file.stat()
    write(file, "b\r\n", file)

    assert file.read_bytes() == b"b\r\n"
    assert (file.stat().st_mode, file.stat().st_uid, file.stat().st_gid) == (
        was.st_mode,
        was.st_uid,
        was.st_gid,
    )
