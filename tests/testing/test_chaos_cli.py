"""`slipstream chaos` as a process: it relays, breaks, says what it did, and ends by itself."""

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from slipstream.cli.chaos import chaos

START = "import sys; from slipstream.cli.chaos import chaos; chaos(sys.argv[1:])"


class _Ok(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), _Ok) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", START, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_it_relays_with_faults_until_it_is_told_to_stop(server):
    """The first line says where; SIGTERM ends it with the counts on standard output and exit code 0."""
    with start(
        "--to", server, "--fault", "latency:down,ms=1", "--fault", "http_content_type", "--seed", "7"
    ) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split(" ", 1)[0]
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert answer.read() == b"ok"
            assert answer.headers["content-type"] == "text/html"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    counts = json.loads(out)["counts"]
    assert counts["hits"] == {"latency_down": 1, "http_content_type": 1}
    assert counts["responses"] == 1


def test_it_ends_by_itself():
    """`--for` is a bound, not a wish."""
    result = CliRunner().invoke(chaos, ["--to", "127.0.0.1:9", "--for", "0.05"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["counts"]["connections"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "http://192.0.2.7:80"], "--allow-host 192.0.2.7"),
        (["--to", "127.0.0.1:9", "--fault", "nonsense"], "There are: refuse"),
        (["--to", "https://127.0.0.1"], "no TLS"),
        ([], "--to"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments, says):
    """No traceback, a non-zero exit code, and what to write instead."""
    result = CliRunner().invoke(chaos, arguments)
    assert result.exit_code != 0
    assert says in result.output
    assert "Traceback" not in result.output


def test_a_taken_port_is_a_clear_line():
    """The port is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(chaos, ["--to", "127.0.0.1:9", "--listen", port])
    assert result.exit_code == 1
    assert port in result.output
