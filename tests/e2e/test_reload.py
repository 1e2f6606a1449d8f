"""Other settings while the server serves: nothing under way is dropped, wrong ones are refused."""

import asyncio
from pathlib import Path

import msgspec

from e2e.serving import Serving, serving
from faults.rig import backstage
from slipstream.config.live import LiveServer
from slipstream.config.settings import Simulated
from slipstream.core.errors import SlipstreamError
from slipstream.doctor.driver import drive
from slipstream.doctor.outcome import Took
from slipstream.doctor.replay_model import Asked
from slipstream.monitoring import admin
from slipstream.server.renewal import DoctorView, Renewed
from slipstream.testing.simulator import run_simulator


def told(url: str, name: str, more: str = "") -> str:
    return f'[models.upstreams.{name}]\nurl = "{url}/v1"\nmodels = ["m"]\n{more}\n'


def live(server: Serving) -> LiveServer:
    return LiveServer(0, server.url, "", server.token, 0, "", "")


async def reload(server: Serving) -> Renewed:
    return admin.understood(await admin.request(live(server), "POST", "settings/reload"), Renewed)


def test_settings_are_taken_and_nothing_is_dropped(tmp_path: Path) -> None:
    """Weights, connections, an upstream more and one less, under load: every request is answered."""
    file = tmp_path / "slipstream.toml"
    with backstage() as stage:
        one, two = (stage.open(run_simulator(Simulated(ttft_ms=150, itl_ms=10, seed=s))).url for s in (1, 2))
        file.write_text(told(one, "a"), "utf-8")
        with serving(tmp_path) as server:

            async def under_load() -> tuple[list[Took], list[Renewed]]:
                asked = [Asked(at / 20, "m", 5, 20, True) for at in range(80)]
                driving = asyncio.ensure_future(drive(live(server), asked))
                done = []
                for text in (
                    told(one, "a", "weight = 0.5"),
                    told(one, "a", "connections = 3"),
                    told(one, "a") + told(two, "b"),
                    told(two, "b"),
                    told(two, "b") + "[server]\nworkers = 2\n",
                ):
                    await asyncio.sleep(0.6)
                    file.write_text(text, "utf-8")
                    done.append(await reload(server))
                return await driving, done

            met, done = asyncio.run(under_load())
            view = msgspec.convert(server.json("/_slipstream/doctor"), DoctorView)
            marks = server.json("/_slipstream/marks")
            file.write_text("[server]\nno_such = 1\n", "utf-8")
            refused = server_error(server)

    assert [each.is_served for each in met] == [True] * 80
    assert done[0].taken == ("models.upstreams.a.weight",)
    assert set(done[1].taken) == {"models.upstreams.a.connections", "models.upstreams.a.weight"}
    assert done[4] == Renewed((), ("server.workers",))
    assert list(view.settings.models.upstreams) == ["b"]
    assert view.file == str(file)
    assert "no_such" in refused
    assert str(marks).count("settings changed: models.upstreams.") == 4


def server_error(server: Serving) -> str:
    """What the server says where the file is wrong; it serves on."""
    try:
        asyncio.run(reload(server))
    except SlipstreamError as error:
        assert server.get("/readyz")[0] == 200
        return str(error)
    raise AssertionError
