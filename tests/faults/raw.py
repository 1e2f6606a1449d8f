"""Clients that speak HTTP byte by byte, so that a test can send what no client would and see what came back."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httptools
import msgspec

GUARD_SECONDS = 30.0
"""When a test gives up; no promise about speed."""

RESET = struct.pack("ii", 1, 0)
CHAT = "/v1/chat/completions"
JSON_LINE = "Content-Type: application/json"
PROMPT = [{"role": "user", "content": "Tell me about the sea, please."}]


def address(url: str) -> tuple[str, int]:
    """Host and port of `http://host:port`."""
    host, port = url.removeprefix("http://").split("/")[0].rsplit(":", 1)
    return host, int(port)


def request(
    method: str, path: str, *lines: str, body: bytes = b"", host: str = "127.0.0.1", framed: bool = True
) -> bytes:
    """A request as bytes; `framed` adds its Content-Length."""
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", *lines]
    if framed and (body or method == "POST"):
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*head, "", "")).encode("latin-1") + body


def post(path: str, payload: object, *lines: str) -> bytes:
    """A JSON request; `payload` is encoded unless it is bytes."""
    body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    return request("POST", path, JSON_LINE, *lines, body=body)


def chat(model: str, *, stream: bool = True, max_tokens: int = 8, **fields: object) -> bytes:
    """A chat request."""
    return post(
        CHAT, {"model": model, "messages": PROMPT, "stream": stream, "max_tokens": max_tokens, **fields}
    )


@dataclass
class Answer:
    """One HTTP answer. `whole`: its framing says that nothing is missing."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False

    @property
    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        decoded = msgspec.json.decode(self.body)
        assert isinstance(decoded, dict)
        return decoded

    @property
    def error(self) -> dict[str, object]:
        """The error that it is, in OpenAI's shape."""
        error = self.json["error"]
        assert isinstance(error, dict)
        assert error["message"]
        assert error["type"]
        assert error["code"]
        return error

    @property
    def datas(self) -> list[bytes]:
        """The payloads of its server-sent events."""
        lines = bytes(self.body).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        return [line.removeprefix(b"data:").removeprefix(b" ") for line in lines if line.startswith(b"data:")]

    @property
    def text(self) -> str:
        """What the model said in a stream, as far as its events can be read."""
        said = []
        for data in self.datas:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                event = msgspec.json.decode(data)
                said += [choice["delta"].get("content") or "" for choice in event.get("choices") or []]
        return "".join(said)

    @property
    def stream_error(self) -> dict[str, object] | None:
        """The error event that a stream ends with, None if there is none."""
        if not self.datas or not self.datas[-1].startswith(b"{"):
            return None
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            event = msgspec.json.decode(self.datas[-1])
            error = event.get("error")
            assert error is None or (error["message"] and error["type"] and error["code"])
            return error
        return None


class Collector:
    """Collects answers from bytes."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """More of what a server sent."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.answers.append(Answer())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answers[-1].headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.answers[-1].status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.answers[-1].body += body

    def on_message_complete(self) -> None:
        if self.answers[-1].status < 200:
            self.answers.pop()
        else:
            self.answers[-1].whole = True


class Wire:
    """One connection to a server."""

    def __init__(self, url: str, *, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(GUARD_SECONDS)
        self.socket.connect(address(url))
        self.received = bytearray()
        self.ended = ""
        """How the server ended it: `fin` or `reset`; empty = it has not."""
        self._parser = Collector()

    def send(self, data: bytes) -> None:
        """Send all of it; a server that has closed is no error."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def receive(self) -> bytes:
        """What comes next; empty at the end."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            self.ended = "reset"
            return b""
        if data:
            self.received += data
            self._parser.feed(data)
        else:
            self.ended = "fin"
        return data

    def answer(self) -> Answer:
        """The next answer, whole or as far as it came."""
        answers = self._parser.answers
        while not (answers and answers[0].whole) and self.receive():
            pass
        return answers.pop(0) if answers else Answer()

    def until(self, mark: bytes) -> None:
        """Read until `mark` has come."""
        while mark not in self.received:
            assert self.receive(), self.received[-500:]

    def end(self) -> str:
        """Wait until the server ends the connection, and say how."""
        while not self.ended and self.receive():
            pass
        return self.ended

    def is_kept(self) -> bool:
        """Whether the server serves another request on this connection."""
        if self.ended:
            return False
        self.send(request("GET", "/healthz"))
        return self.answer().status == 200

    def reset(self) -> None:
        """Leave by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()

    def fin(self) -> None:
        """Leave by FIN (RST, if something was not read: the kernel decides)."""
        self.socket.close()

    def half_close(self) -> None:
        """Close the sending half only."""
        self.socket.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def wire(url: str, *, receive_buffer: int = 0) -> Iterator[Wire]:
    """A connection that is closed at the end."""
    connection = Wire(url, receive_buffer=receive_buffer)
    try:
        yield connection
    finally:
        connection.socket.close()


def ask(url: str, data: bytes) -> Answer:
    """Send bytes on a connection of their own; the first answer."""
    with wire(url) as connection:
        connection.send(data)
        return connection.answer()


def eventually(happens: Callable[[], object], seconds: float = GUARD_SECONDS) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def body_of(size: int, model: str = "well") -> bytes:
    """The body of a chat call, of exactly so many bytes."""
    body = {"model": model, "messages": PROMPT, "stream": False, "user": ""}
    short = len(msgspec.json.encode(body))
    return msgspec.json.encode(body | {"user": "x" * (size - short)})


def chunked(body: bytes, size: int, *trailers: str) -> bytes:
    """A chat call whose body comes in chunks of `size` bytes."""
    head = request("POST", CHAT, JSON_LINE, "Transfer-Encoding: chunked", framed=False)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + chunks + "\r\n".join(("0", *trailers, "", "")).encode()
