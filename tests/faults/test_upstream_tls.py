"""Upstreams that cannot be reached or must not be trusted (docs/faults.md, row U1), behind a real server."""

import datetime as dt
import ssl
from collections.abc import Iterator

import pytest
import trustme

from e2e.serving import Serving
from faults import byte_server as play
from faults.byte_server import ByteServer, byte_server
from faults.raw import ask, chat
from faults.rig import Behind, backstage, gateway
from faults.upstreams import DONE, EVENT, LAST
from slipstream.testing.simulator import run_simulator


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, dict[str, ByteServer]]]:
    """Upstreams with certificates, good and bad."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificates = {
        "good": authority.issue_cert("127.0.0.1"),
        "expired": authority.issue_cert("127.0.0.1", not_before=past, not_after=past.replace(year=2021)),
        "other host": authority.issue_cert("other.example"),
        "other authority": trustme.CA().issue_cert("127.0.0.1"),
    }
    with backstage() as stage:
        servers: dict[str, ByteServer] = {}
        behind = []
        for name, certificate in certificates.items():
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            certificate.configure_cert(context)
            servers[name] = stage.open(byte_server(context))
            url = f"https://127.0.0.1:{servers[name].port}/v1"
            behind.append(Behind(url, name, {"ca_file": str(folder / "ca.pem")}))
        simulator = stage.open(run_simulator())
        behind.append(Behind(f"{simulator.url.replace('http', 'https')}/v1", "no tls"))
        behind.append(Behind(f"https://127.0.0.1:{servers['good'].port}/v1", "system's authorities"))
        behind.append(Behind(f"http://127.0.0.1:{servers['good'].port}/v1", "plain to tls"))
        behind.append(Behind("http://nowhere.invalid/v1", "no such host"))
        for server in servers.values():
            server.plays.update({name: (play.stream(EVENT, LAST, DONE),) for name in certificates})
        with gateway(folder, behind) as running:
            yield running, servers


def test_good_certificate(secure: tuple[Serving, dict[str, ByteServer]]) -> None:
    """U1: the authority of the settings is trusted."""
    answer = ask(secure[0].url, chat("good"))
    assert (answer.status, answer.text) == (200, "sea")


@pytest.mark.parametrize(
    "name", ["expired", "other host", "other authority", "system's authorities", "no tls"]
)
def test_bad_certificates(secure: tuple[Serving, dict[str, ByteServer]], name: str) -> None:
    """U1: a typed error that says so; not one byte of a request goes out, and TLS is never left out."""
    server, upstreams = secure
    answer = ask(server.url, chat(name))
    assert (answer.status, answer.error["code"]) == (502, "tls_failed")
    if name in upstreams:
        assert upstreams[name].requests.total() == 0


def test_plain_http_to_a_tls_port(secure: tuple[Serving, dict[str, ByteServer]]) -> None:
    """U1: a typed error."""
    answer = ask(secure[0].url, chat("plain to tls"))
    assert answer.status == 502
    assert str(answer.error["code"]).startswith("upstream_")


def test_host_that_does_not_exist(secure: tuple[Serving, dict[str, ByteServer]]) -> None:
    """U1: a typed error within the time for connecting, whatever the resolver does."""
    answer = ask(secure[0].url, chat("no such host"))
    assert answer.error["code"] in {"dns_failed", "connect_timeout"}
