"""Asking a real server, killing it, and looking at what it left."""

import contextlib
import http.client
import json
import socket
from pathlib import Path

import apsw
import psutil

from e2e.serving import Serving
from slipstream.config.live import live_servers
from slipstream.config.settings import Settings
from slipstream.store.records import RecordStore


def connect(server: Serving) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)


def ask(
    connection: http.client.HTTPConnection, *, tokens: int = 2, stream: bool = False
) -> http.client.HTTPResponse:
    body = {
        "model": "sim",
        "max_tokens": tokens,
        "stream": stream,
        "messages": [{"role": "user", "content": "hello"}],
    }
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    return connection.getresponse()


def ask_once(server: Serving) -> str:
    """A whole answer; the id it is recorded by."""
    connection = connect(server)
    try:
        response = ask(connection)
        assert response.status == 200, response.read()
        response.read()
        return response.headers["x-request-id"]
    finally:
        connection.close()


def worker_pid(server: Serving) -> int:
    return server.json("/_slipstream/status")["workers"][0]["pid"]


def committed(server: Serving) -> set[str]:
    """Ids of the records that the store has."""
    listed = server.json("/_slipstream/requests?limit=500")["data"]
    return {record["id"] for record in listed}


def stored(server: Serving) -> set[str]:
    """Ids in the record file of a server that is gone; the file must be whole."""
    path = server.folder / "data" / "records.db"
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        assert connection.pragma("integrity_check") == "ok"
    finally:
        connection.close()
    store = RecordStore(path)
    try:
        assert store.quarantined == ()
        return {record.id for record in store.recent(1000)}
    finally:
        store.close()


def state(server: Serving) -> Settings:
    return Settings(state_folder=server.environ["SLIPSTREAM__STATE_FOLDER"])


def leftovers(server: Serving) -> list[str]:
    """What a server that ended should not have left in its state folder."""
    assert live_servers(state(server)) == []
    return [
        path.name
        for path in Path(state(server).state_folder).rglob("*")
        if path.is_file() or path.is_socket()
    ]


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def everything_stored(server: Serving) -> set[str]:
    stored(server)
    connection = apsw.Connection(str(server.folder / "data" / "records.db"))
    try:
        return {row[0] for row in connection.execute("SELECT id FROM requests")}
    finally:
        connection.close()


def may_ask(server: Serving, secret: str) -> bool:
    headers = {"content-type": "application/json"}
    if secret:
        headers["authorization"] = f"Bearer {secret}"
    connection = connect(server)
    try:
        connection.request(
            "POST", "/v1/chat/completions", b'{"model":"sim","max_tokens":1,"messages":[]}', headers
        )
        status = connection.getresponse().status
    finally:
        connection.close()
    assert status in {200, 401}
    return status == 200


def try_once(server: Serving) -> str:
    """Like `ask_once`, of a server that may be dying; empty where there was no whole answer."""
    connection = connect(server)
    try:
        response = ask(connection)
        response.read()
        return response.headers["x-request-id"] if response.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def refuses(server: Serving) -> bool:
    host, port = server.url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionError:
        return True
    return False


def read_rest(response: http.client.HTTPResponse) -> bytes:
    """What still comes, also of a body that breaks off."""
    try:
        return response.read()
    except http.client.IncompleteRead as error:
        return error.partial


def workers(server: Serving) -> list[dict[str, object]]:
    """What the status says of the workers, however often a worker dies while it is asked."""
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, body = server.get("/_slipstream/status", token=server.token)
            if status == 200:
                return json.loads(body)["workers"]


def committed_if_up(server: Serving) -> set[str]:
    """Like `committed`; nothing where the worker that is asked dies over it."""
    try:
        return committed(server)
    except (OSError, http.client.HTTPException):
        return set()
