"""In front of somebody else's server: what the client sent arrives there byte for byte, and back again."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import openai
import pytest

from e2e.serving import Serving, serving

TOOL_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look_up", "arguments": '{"city":"Paris"}'},
}


class Upstream(BaseHTTPRequestHandler):
    """An OpenAI-compatible server of somebody else's; keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": "their-model", "object": "model"}]})
        else:
            self.take()
            self.answer(200, {"path": self.path})

    def do_POST(self) -> None:
        body = self.take()
        if b"too much" in body:
            self.answer(429, {"error": {"message": "slow down", "type": "rate_limit"}}, {"retry-after": "7"})
        elif b'"stream": true' in body or b'"stream":true' in body:
            self.stream()
        elif self.path.endswith("/transcriptions"):
            self.answer(200, {"text": "hello"})
        else:
            message = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            self.answer(200, {"id": "c", "object": "chat.completion", "created": 1, "model": "their-model",
                              "choices": [choice], "usage": usage})  # fmt: skip

    def take(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        return body

    def answer(self, status: int, document: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        deltas = [{"role": "assistant", "tool_calls": [{"index": 0, **TOOL_CALL}]}, {}]
        for delta, reason in zip(deltas, (None, "tool_calls"), strict=True):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "their-model"}
            self.wfile.write(b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    theirs = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=theirs.serve_forever, daemon=True).start()
    try:
        with serving(
            tmp_path_factory.mktemp("upstream"),
            SLIPSTREAM__MODELS__UPSTREAMS__THEIRS__URL=f"http://127.0.0.1:{theirs.server_port}/v1",
            SLIPSTREAM__MODELS__UPSTREAMS__THEIRS__KEY_ENV="THEIR_KEY",
            SLIPSTREAM__MODELS__ALIASES='{"gpt-4": "their-model"}',
            THEIR_KEY="sk-of-the-upstream",
        ) as running:
            yield running
    finally:
        theirs.shutdown()
        theirs.server_close()


@pytest.fixture
def client(server: Serving) -> Iterator[openai.OpenAI]:
    Upstream.asked.clear()
    with openai.OpenAI(base_url=server.url + "/v1", api_key="sk-of-the-client", max_retries=0) as made:
        yield made


TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
QUESTION = [{"role": "user", "content": "Where?"}]


def test_tool_calls(client: openai.OpenAI, server: Serving) -> None:
    """Tools go there, calls come back, unstreamed and streamed; the record has the tokens."""
    response = client.chat.completions.with_raw_response.create(
        model="their-model", messages=QUESTION, tools=TOOLS
    )
    (call,) = response.parse().choices[0].message.tool_calls or []
    assert call.function.arguments == '{"city":"Paris"}'
    record = server.record(response.headers["x-request-id"])
    assert (record["prompt_tokens"], record["output_tokens"], record["finish_reason"]) == (3, 2, "tool_calls")
    assert record["upstream"] == "theirs"
    chunks = list(
        client.chat.completions.create(model="their-model", messages=QUESTION, tools=TOOLS, stream=True)
    )
    assert chunks[0].choices[0].delta.tool_calls[0].function.name == "look_up"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_fields_arrive_as_they_were_sent(client: openai.OpenAI) -> None:
    """Unknown fields and the whole body are passed on unchanged; of a stream usage is asked for in addition."""
    client.chat.completions.create(
        model="their-model", messages=QUESTION, extra_body={"x_new": {"a": [1.50]}}
    )
    _, path, _, body = Upstream.asked[-1]
    assert path == "/v1/chat/completions"
    assert json.loads(body)["x_new"] == {"a": [1.50]}
    list(client.chat.completions.create(model="their-model", messages=QUESTION, stream=True))
    assert json.loads(Upstream.asked[-1][3])["stream_options"] == {"include_usage": True}


def test_the_key_is_ours_and_not_the_clients(client: openai.OpenAI) -> None:
    """The upstream sees the key of the settings; the caller's never leaves the gateway."""
    client.chat.completions.create(model="their-model", messages=QUESTION)
    headers = Upstream.asked[-1][2]
    assert headers["authorization"] == "Bearer sk-of-the-upstream"
    assert headers["accept-encoding"] == "identity"
    assert not any("sk-of-the-client" in value for value in headers.values())


def test_an_alias_is_resolved(client: openai.OpenAI) -> None:
    """Asked for by another name the model gets its own."""
    client.chat.completions.create(model="gpt-4", messages=QUESTION)
    assert json.loads(Upstream.asked[-1][3])["model"] == "their-model"


def test_an_upstreams_refusal_is_passed_back(client: openai.OpenAI) -> None:
    """Its 429 is the client's 429, with when to come back."""
    with pytest.raises(openai.RateLimitError) as refused:  # told at once: who asks again waits those seconds
        client.with_options(max_retries=0).chat.completions.create(
            model="their-model", messages=[{"role": "user", "content": "too much"}]
        )
    assert refused.value.response.headers["retry-after"] == "7"
    assert "slow down" in str(refused.value)


def test_other_routes_pass_through(client: openai.OpenAI) -> None:
    """What we do not know goes to the upstream as it is: query, content type and body."""
    assert client.audio.transcriptions.create(model="whisper", file=("a.wav", b"RIFF")).text == "hello"
    _, path, headers, body = Upstream.asked[-1]
    assert path == "/v1/audio/transcriptions"
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b"RIFF" in body
    assert client.get("/files?limit=2", cast_to=object) == {"path": "/v1/files?limit=2"}


def test_models_are_asked_for(client: openai.OpenAI) -> None:
    """The models of an upstream that names none in the settings are its own list, and others are a 404."""
    assert "their-model" in [model.id for model in client.models.list().data]
    with pytest.raises(openai.NotFoundError, match="their-model"):
        client.chat.completions.create(model="nobody's", messages=QUESTION)
