"""Upstreams behind an HTTP proxy: through a real forward and CONNECT proxy, on both event loops."""

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from net.conftest import Run
from net.upstream import CancelledAt, Script, Upstream, Visit, answer, chunked, replying, serving
from slipstream.config.settings import Upstream as UpstreamSettings
from slipstream.core.chat import Route, parse
from slipstream.core.errors import (
    BadRequest,
    ConfigurationError,
    MissingExtra,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from slipstream.core.record import open_record
from slipstream.models.openai import OpenAIUpstream
from slipstream.net.client import ClientOptions
from slipstream.net.proxied import ProxiedClient


class Proxy:
    """A small forward proxy: absolute-form requests and CONNECT. Counts; may refuse."""

    def __init__(self) -> None:
        self.url = ""
        self.heads: list[bytes] = []
        self.refusal = b""
        self.is_silent = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = [writer]
        self._writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            if self.is_silent:
                await reader.read()
                return
            if self.refusal:
                writer.write(self.refusal)
                await writer.drain()
                return
            method, target, _ = head.split(b"\r\n")[0].split(b" ")
            if method == b"CONNECT":
                host, port = target.decode().rsplit(":", 1)
                up_reader, up = await asyncio.open_connection(host, int(port))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                host, _, path = target.decode().removeprefix("http://").partition("/")
                name, port = host.rsplit(":", 1)
                up_reader, up = await asyncio.open_connection(name, int(port))
                up.write(head.replace(target, b"/" + path.encode(), 1))
            own.append(up)
            self._writers.add(up)
            await asyncio.gather(pump(reader, up), pump(up_reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for each in own:
                self._writers.discard(each)
                each.transport.abort()

    def close_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@contextlib.asynccontextmanager
async def proxying() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.close_all()
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def connected(
    script: Script, options: ClientOptions | None = None, **tls: ssl.SSLContext
) -> AsyncIterator[tuple[ProxiedClient, Proxy, Upstream]]:
    async with proxying() as proxy, serving(script, **tls) as up:
        client = ProxiedClient(up.url + "/v1", proxy.url, options or ClientOptions())
        try:
            yield client, proxy, up
        finally:
            await client.aclose()
            proxy.close_all()


def test_a_request_goes_through_the_proxy(run: Run) -> None:
    """In absolute form, with our headers and no others; the answer is as if it were direct."""

    async def main() -> None:
        async with connected(replying(answer(b"hello", "200 OK", "X-Kind: test"))) as (client, proxy, up):
            headers = [(b"authorization", b"Bearer k"), (b"content-type", b"application/json")]
            response = await client.request("POST", "/chat/completions?a=%2F", headers, b"{}")
            assert (response.status, response.header(b"x-kind")) == (200, b"test")
            assert await response.read(100) == b"hello"
            response.close()
            (visit,) = up.visits
            assert visit.body == b"{}"
            assert visit.head.startswith(b"POST /v1/chat/completions?a=%2F HTTP/1.1\r\n")
            names = {line.split(b":")[0].lower() for line in visit.head.split(b"\r\n")[1:] if line}
            assert names == {b"host", b"authorization", b"content-type", b"content-length"}
            assert proxy.heads[0].startswith(b"POST http://127.0.0.1:")

    run(main())


def test_tls_goes_through_a_tunnel(run: Run, tmp_path: Path) -> None:
    """The proxy sees CONNECT and nothing of the request; the certificate is verified end to end."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def main() -> None:
        trusting = ClientOptions(ca_file=str(tmp_path / "ca.pem"))
        async with connected(replying(answer()), trusting, tls=context) as (client, proxy, _):
            response = await client.request("GET", "/models", [(b"authorization", b"Bearer secret")])
            assert await response.read(100) == b"hello"
            assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1:")
            assert b"secret" not in proxy.heads[0]
        async with connected(replying(answer()), tls=context) as (client, _, _):
            with pytest.raises(UpstreamFailed) as caught:
                await client.request("GET", "/models", [])
            assert caught.value.code == "tls_failed"

    run(main())


def test_a_stream_arrives_piece_by_piece(run: Run) -> None:
    """Each as soon as it was sent, chunked coding removed, time stamped."""

    async def main() -> None:
        go_on = asyncio.Event()

        async def script(visit: Visit) -> None:
            whole = chunked(b"data: one\n\n", b"data: two\n\n")
            cut = whole.index(b"two") - 12
            await visit.send(whole[:cut])
            await go_on.wait()
            await visit.send(whole[cut:])

        async with connected(script) as (client, _, _):
            response = await client.request("POST", "/x", [], b"{}")
            assert response.whole is None
            pieces = [await anext(response)]
            assert b"one" in pieces[0].data
            go_on.set()
            pieces += [piece async for piece in response]
            assert b"".join(piece.data for piece in pieces) == b"data: one\n\ndata: two\n\n"
            assert pieces[-1].arrived_ns >= pieces[0].arrived_ns > 0

    run(main())


def test_connections_are_kept_and_used_again(run: Run) -> None:
    """Three requests, one connection; a closed client takes none."""

    async def main() -> None:
        async with connected(replying(answer())) as (client, proxy, up):
            for _ in range(3):
                response = await client.request("GET", "/models", [])
                assert await response.read(100) == b"hello"
                response.close()
            assert (up.accepted, len(proxy.heads)) == (1, 1)
            await client.aclose()
            with pytest.raises(Unavailable):
                await client.request("GET", "/models", [])

    run(main())


def test_closing_an_unfinished_answer_cuts_it_at_the_upstream(run: Run) -> None:
    """The upstream sees its client leave, as it would without a proxy between."""

    async def main() -> None:
        left = asyncio.Event()

        async def script(visit: Visit) -> None:
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello")
            await visit.until_left()
            left.set()

        async with connected(script) as (client, _, _):
            response = await client.request("POST", "/x", [], b"{}")
            response.close()
            async with asyncio.timeout(10):
                await left.wait()

    run(main())


def test_cancelled_anywhere_it_leaves_nothing(run: Run) -> None:
    """At every await of a request and its body: no place is kept, the next request is served."""

    async def main() -> None:
        async with connected(replying(chunked(b"a" * 100, b"b" * 100))) as (client, _, up):

            async def work() -> None:
                response = await client.request("POST", "/x", [], b"{}")
                try:
                    async for _ in response:
                        pass
                finally:
                    response.close()

            async def awaiting(cancelled: CancelledAt) -> None:
                await cancelled

            step, has_cancelled = 0, True
            while has_cancelled and step < 60:
                cancelled = CancelledAt(work(), step, "asleep")
                task = asyncio.ensure_future(awaiting(cancelled))
                await asyncio.wait([task])
                has_cancelled = cancelled.has_cancelled
                assert not client._asking
                step += 1
            assert step >= 3
            assert not task.cancelled()
            task.result()
            await client.aclose()
            await up.deserted()

    run(main())


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello", "upstream_broke"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "upstream_broke"),
        (b"nonsense\r\n\r\n", "upstream_broke"),
        (b"", "upstream_broke"),
    ],
)
def test_a_broken_answer_is_a_typed_error(run: Run, broken: bytes, code: str) -> None:
    """Before the head or inside the body."""

    async def main() -> None:
        async def script(visit: Visit) -> None:
            await visit.send(broken)
            visit.writer.close()

        async with connected(script) as (client, _, _):

            async def ask() -> bytes:
                response = await client.request("POST", "/x", [], b"{}")
                return await response.read(10_000)

            with pytest.raises(UpstreamFailed) as caught:
                await ask()
            assert caught.value.code == code
            assert not client._asking

    run(main())


def test_redirects_are_not_followed_and_bodies_not_inflated(run: Run) -> None:
    """What the upstream says arrives as it is."""

    async def main() -> None:
        reply = answer(b"\x1f\x8bnot gzip", "302 Found", "Location: http://x/", "Content-Encoding: gzip")
        async with connected(replying(reply)) as (client, _, up):
            response = await client.request("GET", "/models", [])
            assert response.status == 302
            assert await response.read(100) == b"\x1f\x8bnot gzip"
            assert len(up.visits) == 1

    run(main())


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden"])
def test_a_proxy_that_refuses_a_tunnel_is_named(run: Run, status: str) -> None:
    """Its status is told, its password is not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def main() -> None:
        async with proxying() as proxy, serving(replying(answer()), tls=context) as up:
            proxy.refusal = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
            client = ProxiedClient(up.url, proxy.url.replace("//", "//me:hunter2@"))
            with pytest.raises(UpstreamFailed) as caught:
                await client.request("GET", "/models", [])
            assert caught.value.code == "proxy_refused"
            assert status[:3] in str(caught.value)
            assert "hunter2" not in str(caught.value)
            assert b"\r\nproxy-authorization: basic " in proxy.heads[0].lower()
            await client.aclose()

    run(main())


def test_a_proxy_that_is_not_there_is_a_typed_error(run: Run) -> None:
    """Nobody listens; or it never answers."""

    async def main() -> None:
        async with proxying() as proxy:
            gone = proxy.url
        client = ProxiedClient("http://127.0.0.1:9/v1", gone)
        with pytest.raises(UpstreamFailed) as caught:
            await client.request("GET", "/models", [])
        assert caught.value.code == "connect_failed"
        await client.aclose()

        async with proxying() as proxy:
            proxy.is_silent = True
            options = ClientOptions(connect_seconds=0.1, wait_seconds=0.1)
            client = ProxiedClient("https://127.0.0.1:9/v1", proxy.url, options)
            with pytest.raises(UpstreamTimeout) as late:
                await client.request("GET", "/models", [])
            assert late.value.code == "connect_timeout"
            await client.aclose()

    run(main())


def test_too_many_requests_are_refused(run: Run) -> None:
    """As many as connections and waiters together, then 503."""

    async def main() -> None:
        async def script(visit: Visit) -> None:
            await visit.until_left()

        async with connected(script, ClientOptions(connections=1, waiting=1)) as (client, _, _):
            tasks = [asyncio.ensure_future(client.request("GET", "/models", [])) for _ in range(2)]
            await asyncio.sleep(0.1)
            with pytest.raises(Unavailable) as caught:
                await client.request("GET", "/models", [])
            assert caught.value.code == "pool_exhausted"
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert not client._asking

    run(main())


def test_headers_that_cannot_be_sent_are_refused(run: Run) -> None:
    """Nothing smuggles a line in, and nothing that belongs to the connection is taken over."""

    async def main() -> None:
        async with connected(replying(answer())) as (client, _, up):
            for path, header in [
                ("/x", (b"a", b"b\r\nc: d")),
                ("/x y", (b"a", b"b")),
                ("/x", (b"a b", b"c")),
            ]:
                with pytest.raises(BadRequest):
                    await client.request("GET", path, [header])
            response = await client.request("GET", "/x", [(b"Proxy-Authorization", b"x"), (b"Expect", b"y")])
            response.close()
            assert b"proxy-authorization" not in up.visits[0].head.lower()
            assert b"expect" not in up.visits[0].head.lower()

    run(main())


@pytest.mark.parametrize(
    "proxy", ["socks5://p:1", "p:3128", "http://", "http://p:99999", "http://p/path", "https://p"]
)
def test_a_proxy_that_cannot_be_used_is_a_wrong_setting(proxy: str) -> None:
    """It is found when the client is built."""
    with pytest.raises(ConfigurationError, match="http://proxy:3128"):
        ProxiedClient("http://127.0.0.1:9", proxy)


def test_without_aiohttp_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`MissingExtra`, with the line to type; without a proxy nothing of it is needed."""
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    settings = UpstreamSettings(url="http://127.0.0.1:9/v1", proxy="http://127.0.0.1:3128")

    with pytest.raises(MissingExtra, match=r'pip install "slipstream\[proxy\]"'):
        OpenAIUpstream("up", settings)
    OpenAIUpstream("up", UpstreamSettings(url="http://127.0.0.1:9/v1"))


def test_an_upstream_of_the_settings_uses_it(run: Run) -> None:
    """`proxy` in the settings: chat, streamed and not, goes through."""

    async def main() -> None:
        stream = b"data: {}\n\n"
        whole = chunked(stream, b"data: [DONE]\n\n").replace(
            b"\r\n", b"\r\nContent-Type: text/event-stream\r\n", 1
        )
        async with proxying() as proxy, serving(replying(whole)) as up:
            model = OpenAIUpstream("up", UpstreamSettings(url=up.url + "/v1", proxy=proxy.url))
            request = parse(Route.CHAT, b'{"model":"m","stream":true,"messages":[]}')
            reply = await model.open(request, open_record(route="chat"))
            assert reply.head.streamed
            events = [event async for chunk in reply for event in chunk.events]
            assert events == [stream, b"data: [DONE]\n\n"]
            await reply.aclose()
            up.script = replying(answer(b'{"id":1}', "200 OK", "Content-Type: application/json"))
            reply = await model.open(request, open_record(route="chat"))
            assert [event async for chunk in reply for event in chunk.events] == [b'{"id":1}']
            await reply.aclose()
            assert len(proxy.heads) == 1
            await model.aclose()
            proxy.close_all()

    run(main())
