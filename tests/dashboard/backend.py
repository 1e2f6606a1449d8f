"""A scripted API behind the real page: it plays on command what a real model cannot (faults, hostile text).

The question chooses the scene: `/name argument`; anything else is answered with a short text. What a test
changes stands in `Scene`.
"""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from slipstream.dashboard import pages

CODE = '''Here is a small function:

```python
def is_palindrome(word: str) -> bool:
    """Whether `word` reads the same from both ends, ignoring case."""
    letters = [c for c in word.lower() if c.isalnum()]
    return letters == letters[::-1]  # compare with its mirror image


assert is_palindrome("Never odd or even")
print(is_palindrome("Slipstream"), 42)
```

It keeps only letters and digits, so `"A man, a plan, a canal: Panama"` counts as one too.
'''
TABLE = """## Where the time went

| Step | p50 | p95 | Share |
|:-----|----:|----:|------:|
| Queue | 4 ms | 31 ms | 2 % |
| First token | 310 ms | 612 ms | **38 %** |
| Decode | 480 ms | 1,020 ms | 60 % |

Two things stand out:

1. **First token** grows with the prompt:
   - shorten the system prompt,
   - reuse the prefix, so that it is *cached*.
2. **Decode** is bound by memory bandwidth, see [the paper](https://example.org/paper).

> Measure first, then change one thing.
"""
PARIS = "The capital of France is **Paris**."


@dataclass
class Scene:
    """What the backend plays; tests set it."""

    models: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {
                "id": "smollm2-135m-instruct",
                "owned_by": "slipstream",
                "slipstream": {"backend": "local", "default": True, "state": "ready"},
            },
            {
                "id": "gpt-oss-120b",
                "owned_by": "slipstream",
                "slipstream": {"backend": "openai", "state": "ready"},
            },
            {"id": "all-minilm-l6-v2", "slipstream": {"backend": "embedder", "state": "ready"}},
        ]
    )
    loading: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    key: str = ""
    error: dict[str, Any] = field(
        default_factory=lambda: {
            "message": "The model `gpt-oss-120b` did not answer within 60 s."
            " It may be loading. Try again in a minute.",
            "type": "upstream_error",
            "code": "upstream_timeout",
            "param": None,
            "hint": "It may be loading. Try again in a minute.",
        }
    )
    answers: dict[str, str] = field(default_factory=dict)
    failures: int = 0
    delay: float = 0.004
    first: float = 0.03
    seen: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    record_delay: float = 0.1
    record_polls: int = 0
    steps: list[list[Any]] = field(default_factory=list)


class Backend:
    """The routes that the page calls, played from `scene`."""

    def __init__(self) -> None:
        self.scene = Scene()
        self._ids = itertools.count(1)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                *pages.routes(),
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/_slipstream/requests/{id}", self.record),
                Route("/readyz", self.readyz),
                Route("/healthz", self.healthz),
            ]
        )

    def refused(self, request: Request) -> Response | None:
        if not self.scene.key or request.headers.get("authorization") == f"Bearer {self.scene.key}":
            return None
        error = {"message": "No valid key.", "code": "invalid_api_key", "type": "authentication_error"}
        return JSONResponse({"error": error}, 401)

    async def healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        loading, failed = self.scene.loading, self.scene.failed
        ready = not loading and not failed
        body = {"ready": ready, "draining": False, "loading": loading, "failed": failed}
        return JSONResponse(body, 200 if ready else 503)

    async def models(self, request: Request) -> Response:
        return self.refused(request) or JSONResponse({"object": "list", "data": self.scene.models})

    async def record(self, request: Request) -> Response:
        self.scene.record_polls += 1
        found = self.scene.records.get(request.path_params["id"])
        if found is None or time.monotonic() < found["_ready"]:
            return JSONResponse({"error": {"message": "no such request"}}, 404)
        return JSONResponse({key: value for key, value in found.items() if key != "_ready"})

    async def chat(self, request: Request) -> Response:
        refused = self.refused(request)
        if refused is not None:
            return refused
        body = await request.json()
        self.scene.seen.append(body)
        question = body["messages"][-1]["content"]
        name = f"req_{next(self._ids):08x}4f1c9a"
        headers = {"x-request-id": name, "server-timing": "admit;dur=0.02"}
        if question.startswith("/refuse") or self.scene.failures > 0:
            self.scene.failures -= 1
            return JSONResponse({"error": self.scene.error}, 504, headers)
        return StreamingResponse(
            self.stream(name, body, question), media_type="text/event-stream", headers=headers
        )

    async def stream(self, name: str, body: dict[str, Any], question: str) -> AsyncIterator[bytes]:
        scene = self.scene
        started = time.monotonic()
        first = last = 0.0
        pieces = cut(self.answer(question))
        sent = 0
        ended = ""
        try:
            await asyncio.sleep(3600 if question.startswith("/hang") else scene.first)
            for piece in pieces:
                if question.startswith("/break") and sent == 6:
                    yield event({"error": scene.error})
                    return
                if question.startswith("/cut") and sent == 6:
                    return
                last = time.monotonic()
                first = first or last
                sent += 1
                yield event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
                await asyncio.sleep(scene.delay)
            ended = "length" if question.startswith("/long-end") else "stop"
            yield event({"choices": [{"index": 0, "delta": {}, "finish_reason": ended}]})
            yield event({"choices": [], "usage": {"prompt_tokens": 31, "completion_tokens": sent}})
            yield b"data: [DONE]\n\n"
        finally:
            if not ended:
                scene.left.append(name)
            if not question.startswith("/unrecorded"):
                self.keep(name, body, [started, first, last, time.monotonic()], sent, ended)

    def answer(self, question: str) -> str:
        if question in self.scene.answers:
            return self.scene.answers[question]
        if "palindrome" in question:
            return CODE
        if question.startswith("/table"):
            return TABLE
        if question.startswith(("/endless", "/lines")):
            return "\n\n".join(
                f"Line {number} of a long answer." for number in range(60 if "lines" in question else 4000)
            )
        if question.startswith("/nothing"):
            return ""
        return PARIS

    def keep(self, name: str, body: dict[str, Any], times: list[float], sent: int, ended: str) -> None:
        started, first, last, over = (round(each * 1e9) for each in times)
        total = over - started
        until = first - started if first else total
        steps = [
            ["admit", 0, 21_000],
            ["read", 22_000, 64_000],
            ["select", 90_000, 8_000],
            ["open", 101_000, 1_900_000],
            ["first_byte", 2_003_000, until - 2_003_000],
        ]
        steps.extend(self.scene.steps)
        if first:
            steps.append(["relay", until + 10_000, total - until - 10_000])
            steps.append(["prompt", 2_500_000, until - 2_600_000])
            steps.append(["decode", until - 90_000, total - until])
        self.scene.records[name] = {
            "_ready": time.monotonic() + self.scene.record_delay,
            "id": name,
            "model": body.get("model", ""),
            "upstream": "local",
            "outcome": "served" if ended else "aborted",
            "finish_reason": ended,
            "prompt_tokens": 31,
            "output_tokens": sent or None,
            "cached_tokens": 12,
            "duration_ns": total,
            "first_token_ns": until if first else None,
            "last_token_ns": last - started if first else None,
            "chunk_gap_max_ns": 9_000_000,
            "chunk_gap_p95_ns": 6_000_000,
            "steps": [
                {"name": step[0], "start_ns": step[1], "duration_ns": max(step[2], 0)} for step in steps
            ],
        }


def event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def cut(text: str) -> Iterator[str]:
    """Pieces like a tokenizer's: words with the space before them; a large text in large pieces."""
    size = max(4, len(text) // 20_000)
    return (text[at : at + size] for at in range(0, len(text), size))


@contextmanager
def running(backend: Backend, *, port: int = 0) -> Iterator[str]:
    """Serve in a thread of its own; yields the base URL."""
    config = uvicorn.Config(
        backend.app(),
        host="127.0.0.1",
        port=port,
        log_level="critical",
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="page-backend")
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
