"""Requests with two readings (docs/faults.md, row C6): refused by us, and never read in two ways behind a proxy.

Each probe carries a second request, which one of two readers might see. Directly, we must refuse the probe
and close. Behind nginx and haproxy, which may refuse it, repair it or pass it on, what the proxy takes for a
request must be what we take for one.
"""

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.serving import Serving
from faults.byte_server import ByteServer, byte_server
from faults.probes import FINE, HEAD, LINE, PROBES, SECOND, probe_of
from faults.raw import Answer, Collector, address, ask, eventually, request, wire
from faults.rig import Behind, backstage, counters, gateway

BODY_BYTES = 100_000

SILENCE_SECONDS = 2.0
"""How long a client waits for one more answer."""


@dataclass
class House:
    """The server under test and the upstream behind it."""

    server: Serving
    bytes: ByteServer
    folder: Path

    def seen(self, kind: str, where: str) -> set[str]:
        """The paths of this kind that came through to the upstream."""
        return {path for path in self.bytes.requests if path.startswith(f"/v1/{kind}/{where}")}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("smuggling")
    with backstage() as stage:
        served = stage.open(byte_server())
        behind = [Behind(f"http://127.0.0.1:{served.port}/v1", "any")]
        with gateway(folder, behind, SERVER__BODY_BYTES=str(BODY_BYTES)) as server:
            yield House(server, served, folder)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return found or pytest.skip(f"{name} is not installed: apt-get install {name}")


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[str]:
    """A proxy, as soon as it listens."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        eventually(listens)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def nginx(folder: Path, url: str) -> contextlib.AbstractContextManager[str]:
    """nginx with kept connections to us, bodies passed on as they come: where a disagreement would show."""
    port, config = free_port(), folder / "nginx.conf"
    paths = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
        events {{ worker_connections 512; }}
        http {{
            access_log off;
            {paths}
            upstream ours {{ server {url.removeprefix("http://")}; keepalive 8; }}
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    proxy_pass http://ours;
                    proxy_http_version 1.1;
                    proxy_set_header Connection "";
                    proxy_set_header Host 127.0.0.1;
                    proxy_request_buffering off;
                }}
            }}
        }}""")
    command = [program("nginx"), "-p", str(folder), "-c", str(config), "-e", "stderr"]
    return running(command, port, folder / "nginx.log")


def haproxy(folder: Path, url: str) -> contextlib.AbstractContextManager[str]:
    """haproxy with connections to us shared by all clients."""
    port, config = free_port(), folder / "haproxy.cfg"
    config.write_text(f"""
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    http-reuse always
frontend all
    bind 127.0.0.1:{port}
    default_backend ours
backend ours
    server ours {url.removeprefix("http://")}
""")
    return running([program("haproxy"), "-db", "-f", str(config)], port, folder / "haproxy.log")


Proxy = Callable[[Path, str], contextlib.AbstractContextManager[str]]


async def probe(url: str, raw: bytes) -> list[Answer]:
    """Send it; every answer until the connection ends or stays silent."""
    reader, writer = await asyncio.open_connection(*address(url))
    collector = Collector()
    try:
        writer.write(raw)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while data := await asyncio.wait_for(reader.read(65536), SILENCE_SECONDS):
                collector.feed(data)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return collector.answers


async def probe_all(url: str, where: str) -> dict[str, list[Answer]]:
    """All probes at once, so that they share what connections the proxy keeps."""
    names = list(PROBES | FINE)
    answers = await asyncio.gather(*(probe(url, probe_of(name, where)) for name in names))
    return dict(zip(names, answers, strict=True))


@pytest.mark.parametrize("name", PROBES)
def test_refused_directly(house: House, name: str) -> None:
    """C6: a 4xx (501, 505 where that says more) with a typed error, and the connection ends: one answer at most."""
    with wire(house.server.url) as client:
        client.send(probe_of(name, "d-"))
        answer = client.answer()
        assert 400 <= answer.status < 500 or answer.status in {501, 505}, answer
        assert answer.error["code"]
        assert answer.headers[b"connection"] == b"close"
        assert client.end()
        assert client.answer().status == 0
    assert not house.seen("smuggled", "d-")
    assert not house.seen("probe", "d-")


def test_each_refusal_is_counted(house: House) -> None:
    """C6: every probe shows in the counters."""
    before = counters(house.server)["http_errors"]
    for name in PROBES:
        ask(house.server.url, probe_of(name, "c-"))
    eventually(lambda: counters(house.server)["http_errors"] >= before + len(PROBES))


UNREAD = {
    "body larger than the limit": (HEAD + b"Content-Length: %d\r\n\r\n" % 10**9, 413),
    "chunk larger than the limit": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % 10**9 + b"x" * BODY_BYTES, 413),
    "another site's page": (HEAD + b"Origin: https://evil.example\r\nContent-Length: 9000\r\n\r\n", 403),
    "another server's name": (LINE + b"Host: evil.example\r\nContent-Length: 9000\r\n\r\n", 421),
    "a header too large": (HEAD + b"Content-Length: 9000\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "an answer that waits for no body": (HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % 10**9, 413),
}  # fmt: skip
"""Refused before the body was read; what of it follows begins like a request."""


@pytest.mark.parametrize("name", UNREAD)
def test_unread_body_is_no_request(house: House, name: str) -> None:
    """C6: where a body was not read to its end the connection ends: nothing of it is taken for a request."""
    head, status = UNREAD[name]
    with wire(house.server.url) as client:
        client.send(head.replace(b"NAME", b"u-00") + SECOND.replace(b"NAME", b"u-00") * 50)
        answer = client.answer()
        assert (answer.status, answer.headers[b"connection"]) == (status, b"close")
        assert client.end()
        assert client.answer().status == 0
    assert not house.seen("smuggled", "u-")
    assert not house.seen("probe", "u-")


@pytest.mark.parametrize("name", FINE)
def test_served_directly(house: House, name: str) -> None:
    """C6: what has one reading is served, as that one request and no other."""
    answer = ask(house.server.url, probe_of(name, "f-"))
    assert answer.status == 200
    assert str(answer.json["path"]).startswith("/v1/probe/f-")
    assert not house.seen("smuggled", "f-")


@pytest.mark.parametrize(("proxy", "where"), [(nginx, "n-"), (haproxy, "h-")], ids=["nginx", "haproxy"])
def test_one_reading_behind_a_proxy(house: House, proxy: Proxy, where: str) -> None:
    """C6: a second request reaches the upstream only if the proxy answered it as one; no answer goes astray."""
    with proxy(house.folder, house.server.url) as url:
        answered = asyncio.run(probe_all(url, where))
        told: dict[str, set[str]] = {}
        for name, answers in answered.items():
            mark = probe_of(name, where).partition(b"/probe/")[2][:4].decode()
            paths = {str(answer.json["path"]) for answer in answers if answer.status == 200}
            assert paths <= {f"/v1/probe/{mark}", f"/v1/smuggled/{mark}"}, name  # nobody else's answer
            assert name in PROBES or paths == {f"/v1/probe/{mark}"}, name
            told[name] = paths
        everything = set().union(*told.values())
        assert house.seen("smuggled", where) == {path for path in everything if "smuggled" in path}
        assert house.seen("probe", where) == {path for path in everything if "probe" in path}
        for number in range(20):  # and the connections between the two are in step
            path = f"/v1/after/{where}{number}"
            answer = ask(url, request("GET", path))
            assert (answer.status, answer.json["path"]) == (200, path)
    passed = sorted(name for name, paths in told.items() if paths and name in PROBES)
    print(f"\n{proxy.__name__} repaired and passed on {len(passed)} of {len(PROBES)}: {', '.join(passed)}")


def test_nothing_unplanned(house: House) -> None:
    """After all probes no error was unplanned."""
    eventually(lambda: counters(house.server)["http_errors"] > 0)
    assert counters(house.server)["unexpected_errors"] == 0, house.server.log.read_text()[-4000:]
