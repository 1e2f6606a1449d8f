"""The HTTP client against real sockets: what it sends, what it takes, what it refuses."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from net.conftest import Run
from net.upstream import Upstream, Visit, accepting, answer, chunked, replying, serving
from slipstream.core.errors import (
    BadRequest,
    ConfigurationError,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from slipstream.core.meters import Counters
from slipstream.net.client import ClientOptions, HttpClient
from slipstream.net.response import PAUSE_BYTES, Response

JSON = ((b"content-type", b"application/json"),)


async def body_of(response: Response) -> bytes:
    return b"".join([piece.data async for piece in response])


def test_request_goes_out_whole(run: Run) -> None:
    """Method, base path, host, length and headers are on the wire as the RFC wants them."""

    async def main() -> None:
        async with serving(replying(answer())) as up:
            client = HttpClient(up.url + "/v1/")
            response = await client.request("POST", "/chat/completions?x=1", JSON, b"{}")
            assert (response.status, response.whole) == (200, b"hello")
            response.close()
            await client.aclose()
        head = up.visits[0].head
        assert head.startswith(b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % up.port)
        assert b"content-length: 2\r\ncontent-type: application/json\r\n\r\n" in head
        assert up.visits[0].body == b"{}"

    run(main())


def test_connection_headers_of_a_caller_are_left_out(run: Run) -> None:
    """Nobody upstream of us can set framing or the host a second time."""

    async def main() -> None:
        async with serving(replying(answer())) as up:
            client = HttpClient(up.url)
            headers = [
                (b"Host", b"evil"),
                (b"Transfer-Encoding", b"chunked"),
                (b"x-a", b"1"),
                (b"content-length", b"9"),
            ]
            (await client.request("POST", "/", headers, b"{}")).close()
            await client.aclose()
        assert up.visits[0].head.count(b"\r\n") == 5
        assert b"evil" not in up.visits[0].head

    run(main())


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        ("GET", "/a b", (b"x", b"1")),
        ("GET", "/a\r\nx: y", (b"x", b"1")),
        ("GET", "/ä", (b"x", b"1")),
        ("G T", "/", (b"x", b"1")),
        ("GET", "/", (b"x", b"1\r\ny: 2")),
        ("GET", "/", (b"x y", b"1")),
        ("GET", "/", (b"x:", b"1")),
        ("GET", "/", (b"", b"1")),
        ("GET", "/", (b"x", b"\0")),
    ],
)
def test_nothing_can_be_smuggled_into_a_head(method: str, path: str, header: tuple[bytes, bytes]) -> None:
    """What cannot stand in a head is refused before anything is opened."""

    async def main() -> None:
        client = HttpClient("http://127.0.0.1:1")
        with pytest.raises(BadRequest):
            await client.request(method, path, [header])

    asyncio.run(main())


@pytest.mark.parametrize(
    "url",
    ["", "ftp://x", "http://", "http://u:p@x/", "http://x:99999", "http://x/?q", "x:80", "http://x/a b"],
)
def test_unusable_url_is_a_configuration_error(url: str) -> None:
    """A wrong URL is named when the client is made, not at the first request."""
    with pytest.raises(ConfigurationError):
        HttpClient(url)


def test_connection_is_kept_and_reused(run: Run) -> None:
    """One after the other go over one connection."""

    async def main() -> None:
        async with serving(replying(answer())) as up:
            client = HttpClient(up.url)
            for _ in range(5):
                response = await client.request("POST", "/", JSON, b"{}")
                assert response.whole == b"hello"
            state = client.snapshot()
            assert (state.open, state.idle, state.in_use, state.created, state.reused) == (1, 1, 0, 1, 4)
            await client.aclose()
            assert client.snapshot().open == 0
        assert up.accepted == 1

    run(main())


@pytest.mark.parametrize(
    ("data", "is_kept", "body"),
    [
        (answer(), True, b"hello"),
        (chunked(b"he", b"llo"), True, b"hello"),
        (chunked(b"hello", trailers=b"X-Late: 1\r\n"), True, b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + answer(), True, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", True, b""),
        (answer(b""), True, b""),
        (answer(b"hello", "200 OK", "Connection: close"), False, b"hello"),
        (answer().replace(b"1.1", b"1.0", 1), False, b"hello"),
        (answer() + b"H", False, b"hello"),
        (answer() + b"garbage", False, b"hello"),
        (answer() + answer(b"other"), False, b"hello"),
        (chunked(b"hello") + answer(b"other"), False, b"hello"),
    ],
)
def test_framing(run: Run, data: bytes, is_kept: bool, body: bytes) -> None:
    """Each way to frame an answer gives its body, and only a clean one keeps its connection."""

    async def main() -> None:
        async with serving(replying(data)) as up:
            client = HttpClient(up.url)
            response = await client.request("GET", "/", ())
            assert await body_of(response) == body
            assert client.snapshot().idle == int(is_kept)
            assert client.snapshot().in_use == 0
            await client.aclose()

    run(main())


def test_body_until_the_end_of_the_connection(run: Run) -> None:
    """A body without a length ends with the connection, which is not kept."""

    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\n\r\nhel")
        await asyncio.sleep(0.01)
        await visit.send(b"lo")
        visit.writer.close()

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            response = await client.request("GET", "/", ())
            assert response.whole is None
            assert await response.read(100) == b"hello"
            assert client.snapshot().closed.ended == 1
            await client.aclose()

    run(main())


def test_head_request_has_no_body(run: Run) -> None:
    """The length of a HEAD's answer announces nothing that comes."""

    async def main() -> None:
        async with serving(replying(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")) as up:
            client = HttpClient(up.url)
            response = await client.request("HEAD", "/", ())
            assert (response.header(b"content-length"), response.whole) == (b"500", b"")
            await client.aclose()

    run(main())


@pytest.mark.parametrize("status", ["301 Moved", "307 Temporary Redirect"])
def test_redirects_are_answers(run: Run, status: str) -> None:
    """A redirect is never followed."""

    async def main() -> None:
        async with serving(replying(answer(b"", status, "Location: http://169.254.169.254/"))) as up:
            client = HttpClient(up.url)
            response = await client.request("GET", "/", ())
            assert response.status == int(status[:3])
            await client.aclose()
        assert len(up.visits) == 1

    run(main())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "upstream_malformed"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n", "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000, "upstream_header_too_large"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", "upstream_header_too_large"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 4000, "upstream_header_too_large"),
    ],
)
def test_answers_that_are_none(run: Run, data: bytes, code: str) -> None:
    """What is no HTTP/1.1 answer, or a head without end, is a typed error and a closed connection."""

    async def script(visit: Visit) -> None:
        await visit.send(data)
        await visit.until_left()

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            with pytest.raises(UpstreamFailed) as caught:
                await client.request("GET", "/", ())
            assert caught.value.code == code
            assert client.snapshot().open == 0
            await up.deserted()
            await client.aclose()

    run(main())


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: " + b"a" * 200_000,
    ],
)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_broken_body(run: Run, data: bytes, how: str) -> None:
    """What had arrived comes out first, then the break is an error: never a silent end."""

    async def script(visit: Visit) -> None:
        await visit.send(data)
        await asyncio.sleep(0.02)
        visit.writer.close() if how == "close" else visit.reset()

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            response = await client.request("GET", "/", ())
            got = b""
            with pytest.raises(UpstreamFailed) as caught:  # noqa: PT012
                async for piece in response:
                    got += piece.data
            assert got == b"hello"
            assert caught.value.code in {"upstream_broke", "upstream_header_too_large"}
            assert client.snapshot().open == 0
            response.close()
            await client.aclose()

    run(main())


def test_dead_kept_connection_is_replaced_once(run: Run) -> None:
    """Closed after the request and before any byte: once more, on a fresh connection, and counted."""

    async def script(visit: Visit) -> None:
        if visit.nth_on_connection == 2:
            visit.writer.close()
        else:
            await visit.send(answer())

    async def main() -> None:
        counters = Counters()
        async with serving(script) as up:
            client = HttpClient(up.url, counters=counters)
            for _ in range(3):
                response = await client.request("POST", "/", JSON, b"{}")
                assert response.whole == b"hello"
            assert counters.snapshot()["upstream_stale_connections"] == 2
            assert client.snapshot().stale == 2
            await client.aclose()
        assert up.accepted == 3

    run(main())


def test_fresh_connection_that_closes_is_no_stale_one(run: Run) -> None:
    """A server that closes without an answer gets no second request."""

    async def script(visit: Visit) -> None:
        visit.writer.close()

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            with pytest.raises(UpstreamFailed) as caught:
                await client.request("POST", "/", JSON, b"{}")
            assert caught.value.code == "upstream_closed"
            await client.aclose()
        assert len(up.visits) == 1

    run(main())


def test_kept_connection_that_dies_after_a_byte_is_no_stale_one(run: Run) -> None:
    """One byte of an answer, and the request is not repeated."""

    async def script(visit: Visit) -> None:
        if visit.nth_on_connection == 2:
            await visit.send(b"H")
            visit.writer.close()
        else:
            await visit.send(answer())

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            (await client.request("POST", "/", JSON, b"{}")).close()
            with pytest.raises(UpstreamFailed):
                await client.request("POST", "/", JSON, b"{}")
            await client.aclose()
        assert len(up.visits) == 2

    run(main())


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"])
def test_idle_connection_closed_by_the_server_leaves_the_pool(run: Run, farewell: bytes) -> None:
    """It is gone at once, with or without a last word; the next request opens another."""

    async def script(visit: Visit) -> None:
        await visit.send(answer())
        await asyncio.sleep(0.01)
        if farewell:
            await visit.send(farewell)
        visit.writer.close()

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            (await client.request("GET", "/", ())).close()
            await up.deserted()
            await asyncio.sleep(0.01)
            assert (client.snapshot().open, client.snapshot().closed.lost) == (0, 1)
            assert (await client.request("GET", "/", ())).whole == b"hello"
            await client.aclose()

    run(main())


def test_answer_before_the_request_is_out(run: Run) -> None:
    """An early refusal is read; the connection with half a request on it is not used again."""

    async def main() -> None:
        told = asyncio.Event()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(answer(b"too large", "413 Content Too Large"))
            await told.wait()

        async with accepting(accept) as at:
            client = HttpClient(f"http://{at}")
            response = await client.request("POST", "/", JSON, b"x" * 30_000_000)
            assert (response.status, response.whole) == (413, b"too large")
            assert client.snapshot().open == 0
            told.set()
            await client.aclose()

    run(main())


def test_large_bodies_go_both_ways(run: Run) -> None:
    """Megabytes arrive byte by byte as sent."""
    body = bytes(range(256)) * 8192

    async def script(visit: Visit) -> None:
        await visit.send(answer(visit.body))

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            response = await client.request("POST", "/", JSON, body)
            assert await response.read(len(body)) == body
            assert client.snapshot().idle == 1
            await client.aclose()

    run(main())


def test_slow_reader_pauses_the_upstream(run: Run) -> None:
    """What nobody reads stays with the upstream: memory is bounded, and nothing is lost."""
    size = 20_000_000
    sent = 0

    async def script(visit: Visit) -> None:
        nonlocal sent
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 50_000):
            await visit.send(b"x" * 50_000)
            sent += 50_000

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            response = await client.request("GET", "/", ())
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.1)
            assert sent < size
            assert response.unread_bytes < 3 * PAUSE_BYTES
            assert sum([len(piece.data) async for piece in response]) == size
            assert client.snapshot().idle == 1
            await client.aclose()

    run(main())


def test_single_bytes_count_with_what_they_cost(run: Run) -> None:
    """A stream of tiny pieces that nobody reads is paused long before its bytes say so."""

    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3000):
            await visit.send(b"1\r\nx\r\n")
            await asyncio.sleep(0)
        await visit.send(b"0\r\n\r\n")

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            response = await client.request("GET", "/", ())
            await asyncio.sleep(0.5)
            assert response.unread_bytes < 2 * PAUSE_BYTES
            assert len(await response.read(3000)) == 3000
            await client.aclose()

    run(main())


@pytest.mark.parametrize("data", [answer(b"x" * 101), chunked(*[b"x" * 10] * 11)])
def test_read_has_a_limit(run: Run, data: bytes) -> None:
    """A body beyond the limit is an error, and the connection is let go of."""

    async def main() -> None:
        async with serving(replying(data)) as up:
            client = HttpClient(up.url)
            response = await client.request("GET", "/", ())
            with pytest.raises(UpstreamFailed) as caught:
                await response.read(100)
            assert caught.value.code == "answer_too_large"
            assert client.snapshot().in_use == 0
            await client.aclose()

    run(main())


def test_closing_an_unfinished_answer_closes_its_connection(run: Run) -> None:
    """The upstream sees the end at once; closing again does nothing."""

    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        await visit.until_left()

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            response = await client.request("GET", "/", ())
            assert response.whole is None
            response.close()
            response.close()
            assert (client.snapshot().open, client.snapshot().closed.abandoned) == (0, 1)
            await up.deserted()
            with pytest.raises(UpstreamFailed):
                await anext(response)
            await client.aclose()

    run(main())


def test_closing_wakes_who_reads(run: Run) -> None:
    """A reader in another task is told, not left waiting."""

    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await visit.until_left()

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            response = await client.request("GET", "/", ())
            reader = asyncio.ensure_future(body_of(response))
            await asyncio.sleep(0.01)
            response.close()
            with pytest.raises(UpstreamFailed):
                await reader
            await client.aclose()

    run(main())


def test_refused_connection(run: Run) -> None:
    """Nobody listens: a typed error that says where."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def main() -> None:
        client = HttpClient(f"http://127.0.0.1:{port}")
        with pytest.raises(UpstreamFailed, match=str(port)) as caught:
            await client.request("GET", "/", ())
        assert caught.value.code == "connect_failed"
        assert caught.value.hint
        assert (client.snapshot().open, client.snapshot().opening, client.snapshot().closed.unopened) == (
            0,
            0,
            1,
        )
        await client.aclose()

    run(main())


def test_unknown_host(run: Run) -> None:
    """A name that does not exist is named."""

    async def main() -> None:
        client = HttpClient("http://no-such-host.invalid")
        with pytest.raises(UpstreamFailed, match=r"no-such-host\.invalid") as caught:
            await client.request("GET", "/", ())
        assert caught.value.code in {"dns_failed", "connect_timeout"}
        await client.aclose()

    run(main())


def test_connect_timeout(run: Run) -> None:
    """A TLS server that says nothing is given up after the time to connect."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def main() -> None:
        async with accepting(accept) as at:
            url = f"https://{at}"
            client = HttpClient(url, ClientOptions(connect_seconds=0.2))
            with pytest.raises(UpstreamTimeout) as caught:
                await client.request("GET", "/", ())
            assert caught.value.code == "connect_timeout"
            assert client.snapshot().opening == 0
            await client.aclose()

    run(main())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def _server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_tls_with_an_own_authority(run: Run, authority: trustme.CA, tmp_path: Path) -> None:
    """`ca_file` is trusted; answers, streams and reuse work as without TLS."""
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))

    async def main() -> None:
        async with serving(
            replying(chunked(b"a" * 100_000, b"b")), tls=_server_context(authority, "127.0.0.1")
        ) as up:
            client = HttpClient(up.url, ClientOptions(ca_file=str(ca_file)))
            for _ in range(3):
                response = await client.request("POST", "/", JSON, b"x" * 100_000)
                assert len(await body_of(response)) == 100_001
            assert client.snapshot().created == 1
            await client.aclose()

    run(main())


@pytest.mark.parametrize("name", ["other.example", "127.0.0.1"])
def test_untrusted_certificates_are_refused(
    run: Run, authority: trustme.CA, tmp_path: Path, name: str
) -> None:
    """A wrong name, or an authority that is not ours: refused, with a hint, never downgraded."""
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    options = ClientOptions(ca_file=str(ca_file) if name != "127.0.0.1" else "")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's side of it
        async with serving(replying(answer()), tls=_server_context(authority, name)) as up:
            client = HttpClient(up.url, options)
            with pytest.raises(UpstreamFailed) as caught:
                await client.request("GET", "/", ())
            assert caught.value.code == "tls_failed"
            assert caught.value.hint
            await client.aclose()
        assert not up.visits

    run(main())


def test_tls_to_a_plain_server(run: Run) -> None:
    """https:// towards a server that speaks plain HTTP is a typed error."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def main() -> None:
        async with accepting(accept) as at:
            client = HttpClient(f"https://{at}")
            with pytest.raises(UpstreamFailed) as caught:
                await client.request("GET", "/", ())
            assert caught.value.code in {"tls_failed", "connect_failed"}
            await client.aclose()

    run(main())


def test_unreadable_authority_is_a_configuration_error(run: Run, tmp_path: Path) -> None:
    """A `ca_file` that is none is named, and the place in the pool comes back."""

    async def main() -> None:
        client = HttpClient("https://127.0.0.1:1", ClientOptions(ca_file=str(tmp_path / "none.pem")))
        with pytest.raises(ConfigurationError):
            await client.request("GET", "/", ())
        assert client.snapshot().opening == 0
        await client.aclose()

    run(main())


def test_unix_socket(run: Run, tmp_path: Path) -> None:
    """The same over a Unix socket."""
    path = str(tmp_path / "s")

    async def main() -> None:
        async with serving(replying(answer()), unix_path=path):
            client = HttpClient("http://localhost/base", unix_path=path)
            assert (await client.request("GET", "/x", ())).whole == b"hello"
            await client.aclose()

    run(main())


def test_small_packets_are_not_held_back(run: Run) -> None:
    """TCP_NODELAY is on."""

    async def main() -> None:
        async with serving(replying(answer())) as up:
            client = HttpClient(up.url)
            await client.request("GET", "/", ())
            assert client._pool is not None
            (connection,) = client._pool._live
            assert connection.transport is not None
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await client.aclose()

    run(main())


def test_closed_client_refuses(run: Run) -> None:
    """After `aclose` a request is told so, and running answers break off."""

    async def script(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await visit.until_left()

    async def main() -> None:
        async with serving(script) as up:
            client = HttpClient(up.url)
            response = await client.request("GET", "/", ())
            await client.aclose()
            await client.aclose()
            with pytest.raises(UpstreamFailed):
                await anext(response)
            with pytest.raises(Unavailable):
                await client.request("GET", "/", ())
        unused = HttpClient(up.url)
        await unused.aclose()
        with pytest.raises(Unavailable):
            await unused.request("GET", "/", ())

    run(main())


async def _warm_pool(up: Upstream) -> None:
    client = HttpClient(up.url, ClientOptions(minimum=3))
    await client.warm()
    assert client.snapshot().idle == 3
    await client.warm()
    assert client.snapshot().created == 3
    async with asyncio.timeout(5):
        while up.accepted < 3:
            await asyncio.sleep(0.001)
    for writer in list(up.open)[:2]:
        writer.transport.abort()
    async with asyncio.timeout(5):
        while up.accepted < 5 or client.snapshot().idle < 3:
            await asyncio.sleep(0.001)
    await client.aclose()


def test_minimum_is_kept_open(run: Run) -> None:
    """Warmed connections stand ready, and those that the server closes are replaced."""

    async def main() -> None:
        async with serving(replying(answer())) as up:
            await _warm_pool(up)

    run(main())


def test_warming_a_dead_upstream_is_no_error(run: Run) -> None:
    """It is not up yet: that is for the first request to say."""

    async def main() -> None:
        client = HttpClient("http://127.0.0.1:1", ClientOptions(minimum=2))
        await client.warm()
        assert client.snapshot().closed.unopened == 2
        await client.aclose()

    run(main())


def test_half_closed_upstream_does_not_hold_a_large_request(run: Run) -> None:
    """An upstream that stops sending and never reads on: an error now, not when the request is out."""

    async def main() -> None:
        told = asyncio.Event()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write_eof()
            await told.wait()

        async with accepting(accept) as at:
            client = HttpClient(f"http://{at}")
            async with asyncio.timeout(20):
                with pytest.raises(UpstreamFailed):
                    await client.request("POST", "/", JSON, b"x" * 30_000_000)
            told.set()
            await client.aclose()

    run(main())
