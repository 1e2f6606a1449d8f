"""A real webhook receiver on loopback for tests: keeps what it got, answers what it is told to."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hook:
    """What has arrived, and how it is answered."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    """Statuses of the next answers; 200 where none is left."""
    said: bytes = b"ok"
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextlib.contextmanager
def webhook() -> Iterator[Hook]:
    """A receiver in a thread, on a free port."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            hook.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(hook.answers.pop(0) if hook.answers else 200)
            self.send_header("content-length", str(len(hook.said)))
            self.end_headers()
            self.wfile.write(hook.said)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()
