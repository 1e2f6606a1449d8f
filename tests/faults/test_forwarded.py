"""Requests beside the calls that we know: bounded in time, known paths only by their own name, pages of ours."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.serving import Serving
from faults.byte_server import body, byte_server
from faults.raw import CHAT, PROMPT, Answer, ask, post, request
from faults.rig import Behind, backstage, gateway, gateway_here

ORIGIN = "https://chat.example"
HALF = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("forwarded")
    with backstage() as stage:
        behind = stage.open(byte_server())
        behind.plays |= {"/v1/silent": ("hang",), "/v1/half": (HALF, "hang"), "/v1/well": (body(b"{}"),)}
        up = Behind(f"http://127.0.0.1:{behind.port}/v1", "m")
        with gateway(folder, (up,), SERVER__ALLOWED_ORIGINS=f'["{ORIGIN}"]') as serving:
            yield serving


def test_silence_ends(server: Serving) -> None:
    """U2: an upstream that says nothing to a forwarded request costs the time to the first byte."""
    answer = ask(server.url, request("GET", "/v1/silent"))

    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")


def test_half_an_answer_ends(server: Serving) -> None:
    """U2: one that falls silent inside its answer is cut, and the client can see that it is not whole."""
    answer = ask(server.url, request("GET", "/v1/half"))

    assert answer.status == 200
    assert not answer.whole


@pytest.mark.parametrize(
    "path", ["/v1//chat/completions", "/v1/chat/completions/", "/v1/chat%2fcompletions", "//v1/embeddings"]
)
def test_known_calls_go_by_their_own_name(server: Serving, path: str) -> None:
    """An upstream that tidies paths must not get a call past all that we do for it."""
    answer = ask(server.url, post(path, {"model": "m", "messages": PROMPT, "input": "x"}))

    assert answer.status == 404


def test_unknown_model_is_told(server: Serving) -> None:
    """`GET /v1/models/NAME` of none lists those there are."""
    answer = ask(server.url, request("GET", "/v1/models/nope"))

    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert "Known: m" in str(answer.error["message"])


def preflight(server: Serving, origin: str) -> Answer:
    lines = (
        f"Origin: {origin}", "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization,content-type,x-stainless-os",
    )  # fmt: skip
    return ask(server.url, request("OPTIONS", CHAT, *lines))


def test_page_of_an_allowed_origin(server: Serving) -> None:
    """Its browser asks first, and is told yes, with all the headers that the client's library sends."""
    answer = preflight(server, ORIGIN)

    assert answer.status == 204
    assert answer.headers[b"access-control-allow-origin"] == ORIGIN.encode()
    assert b"x-stainless-os" in answer.headers[b"access-control-allow-headers"]
    assert b"x-request-id" in answer.headers[b"access-control-expose-headers"]


def test_page_of_another_origin(server: Serving) -> None:
    """It is told no."""
    answer = preflight(server, "https://evil.example")

    assert answer.status == 403
    assert b"access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("options", [None, {"include_usage": False}, {"include_usage": False, "other": [1]}])
def test_usage_is_asked_for_whatever_the_client_says(options: object) -> None:
    """The record needs it; the client gets its event only if it wanted it. Other options stay."""
    events = b"".join(
        b"data: %b\n\n" % json.dumps(event).encode()
        for event in (
            {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}},
        )
    )

    async def main() -> None:
        async with byte_server() as behind:
            behind.plays["m"] = (body(events + b"data: [DONE]\n\n", "text/event-stream"),)
            async with gateway_here([Behind(f"http://127.0.0.1:{behind.port}/v1", "m")]) as here:
                asked = {"model": "m", "messages": PROMPT, "stream": True, "stream_options": options}
                answer = await asyncio.to_thread(ask, here.url, post(CHAT, asked))
                await here.settled()
                sent = json.loads(behind.bodies["m"])["stream_options"]
                (record,) = here.records
        assert b"usage" not in answer.body
        assert (record.prompt_tokens, record.output_tokens, record.tokens_estimated) == (7, 1, False)
        assert sent == {**(options if isinstance(options, dict) else {}), "include_usage": True}

    asyncio.run(main())
