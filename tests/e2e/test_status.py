"""What the server says of itself: the status tells of each upstream, and the models by how they are."""

import subprocess
import sys
from pathlib import Path

import msgspec

from e2e.serving import serving
from faults.raw import ask, chat, eventually
from faults.rig import Behind, backstage, gateway
from slipstream.config.settings import Simulated
from slipstream.testing.simulator import run_simulator


def test_a_store_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """Where metrics and alerts cannot be stored the status says so and why; requests are answered all the same."""
    for name in ("metrics.db", "alerts.db"):
        (tmp_path / "data" / name).mkdir(parents=True)
    settings = {"SLIPSTREAM__MODELS__LOCAL__ENABLED": "off", "SLIPSTREAM__MODELS__DEFAULT": "sim",
                "SLIPSTREAM__MODELS__SIMULATED__SIM__OUTPUT_TOKENS": "2"}  # fmt: skip
    with serving(tmp_path, **settings) as server:

        def part(name: str) -> dict[str, object]:
            return server.json("/_slipstream/status")[name]  # type: ignore[return-value]

        assert server.ask("hello")
        eventually(lambda: not part("metrics")["healthy"], seconds=25)
        metrics, alerts = part("metrics"), part("alerts")
        assert server.ask("hello")

    assert "metrics.db" in str(metrics["detail"])
    assert alerts["healthy"] is False
    assert "alerts.db" in str(alerts["detail"])


def test_an_upstream_that_is_left_alone_is_shown(tmp_path: Path) -> None:
    """Its breaker is in the status with why and for how long; its model is told as `open`, the other as `ready`."""
    with backstage() as stage:
        simulator = stage.open(run_simulator(Simulated(output_tokens=2)))
        behind = [Behind("http://127.0.0.1:9/v1", "dead"), Behind(f"{simulator.url}/v1", "well")]
        bounds = {"MODELS__ATTEMPTS": "1", "MODELS__BREAKER_OPEN_SECONDS": "600"}
        with gateway(tmp_path, behind, **bounds) as server:
            assert ask(server.url, chat("well")).whole
            for _ in range(5):
                assert ask(server.url, chat("dead")).status in (502, 503)

            def endpoints() -> list[dict[str, object]]:
                return server.json("/_slipstream/status")["workers"][0]["endpoints"]  # type: ignore[index]

            eventually(lambda: [each["state"] for each in endpoints()] == ["open", "closed"])
            dead, well = endpoints()

            def healthy() -> list[str]:
                lines = server.get("/metrics", token=server.token)[1].decode().splitlines()
                return sorted(line for line in lines if line.startswith("slipstream_upstream_healthy{"))

            eventually(lambda: [float(line.split()[-1]) for line in healthy()] == [0, 1])
            listed = subprocess.run(
                [sys.executable, "-m", "slipstream", "models", "--json"],
                env=server.environ, cwd=server.folder, capture_output=True, text=True, timeout=60, check=True,
            )  # fmt: skip

    assert (dead["upstream"], dead["model"], dead["why"]) == ("up0", "dead", "connect_failed")
    assert isinstance(dead["seconds_left"], float)
    assert 0 < dead["seconds_left"] <= 600
    assert (well["upstream"], well["model"], well["why"]) == ("up1", "well", "")
    states = {row["name"]: row["state"] for row in msgspec.json.decode(listed.stdout)}
    assert states == {"dead": "open", "well": "ready"}
