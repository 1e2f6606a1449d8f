"""The control port: faults at run time as JSON, and no way in for a web page."""

import asyncio
import json

import pytest
from chaos_rig import dial, serving, until

from slipstream.testing.chaos import Chaos
from slipstream.testing.chaos_control import Control

JSON = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def ask(control, method, path, body=None, headers=None):
    """One raw control request: status and decoded answer."""
    port = int(control.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = b"" if body is None else json.dumps(body).encode()
    fields = {"host": f"127.0.0.1:{port}", "content-length": len(content), "content-type": "application/json"}
    lines = [f"{key}: {value}" for key, value in {**fields, **(headers or {})}.items()]
    writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + content)
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, answer = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(answer)


def controlled(body, *faults):
    async def main():
        async with (
            serving(JSON) as server,
            Chaos(server.url, faults=faults, seed=3) as chaos,
            Control(chaos) as control,
        ):
            await body(chaos, control)

    asyncio.run(main())


def test_faults_are_set_listed_counted_and_taken_away():
    """The whole life of a fault over HTTP."""

    async def body(chaos, control):
        assert await ask(control, "POST", "/faults", {"fault": "http_status,code=500,times=1"}) == (
            201,
            {"name": "http_status"},
        )
        client = await dial(chaos)
        await client.ended()
        status, state = await ask(control, "GET", "/")
        assert status == 200
        assert state["faults"] == [
            {
                "name": "http_status",
                "fault": "http_status,name=http_status,times=1,code=500",
                "active": True,
                "hits": 1,
            }
        ]
        assert state["counts"]["connections"] == 1
        assert state["seed"] == 3
        assert (await ask(control, "DELETE", "/faults/http_status"))[1]["faults"] == []
        assert (await ask(control, "DELETE", "/faults/http_status"))[0] == 404

    controlled(body)


def test_all_faults_are_replaced_or_taken_away_at_once():
    """PUT sets a list, DELETE clears it, and held connections go on."""

    async def body(chaos, control):
        client = await dial(chaos)
        await until(lambda: chaos.counts.hits)
        status, state = await ask(control, "PUT", "/faults", {"faults": ["split:up", "timeout"]})
        assert (status, [each["name"] for each in state["faults"]]) == (200, ["split_up", "timeout_down"])
        assert await ask(control, "GET", "/faults") == (200, {"faults": state["faults"]})
        assert client.data == b""
        assert (await ask(control, "DELETE", "/faults"))[1]["faults"] == []
        await client.got(JSON)
        client.transport.abort()

    controlled(body, "timeout")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "/faults", {"fault": "nonsense"}, {}, 400),
        ("POST", "/faults", {"fault": 7}, {}, 400),
        ("POST", "/faults", {"fault": "split", "more": 1}, {}, 400),
        ("PUT", "/faults", ["split"], {}, 400),
        ("POST", "/faults", {"fault": "split"}, {"content-type": "text/plain"}, 415),
        ("POST", "/faults", {"fault": "split"}, {"origin": "https://evil.example"}, 403),
        ("POST", "/faults", {"fault": "split"}, {"sec-fetch-site": "cross-site"}, 403),
        ("GET", "/", None, {"host": "evil.example"}, 421),
        ("GET", "/nothing", None, {}, 404),
        ("PATCH", "/faults", None, {}, 404),
        ("POST", "/faults", {"fault": "x" * 200_000}, {}, 413),
    ],
)
def test_what_cannot_be_carried_out_changes_nothing(method, path, body, headers, status):
    """A 4xx with a message, and no fault set."""

    async def run(chaos, control):
        got, answer = await ask(control, method, path, body, headers)
        assert (got, chaos.faults.all()) == (status, [])
        assert answer["error"]["message"]

    controlled(run)


def test_what_is_no_http_is_refused():
    """Garbage gets a 400 and the connection is closed."""

    async def body(_, control):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(control.url.rpartition(":")[2]))
        writer.write(b"\x16\x03\x01\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()

    controlled(body)


def test_open_control_connections_end_with_it():
    """A caller that never finishes its request does not keep the port alive."""

    async def body(_, control):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(control.url.rpartition(":")[2]))
        writer.write(b"GET / HT")
        await until(lambda: control.callers)
        await control.__aexit__(None, None, None)
        assert not control.callers
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    controlled(body)
