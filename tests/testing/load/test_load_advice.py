"""What is said about a run's errors: the target's own words, and what to do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from slipstream.core.errors import BadRequest
from slipstream.testing.load.advice import advice
from slipstream.testing.load.config import read_config
from slipstream.testing.load.result import LoadResult
from slipstream.testing.load.target import Target
from slipstream.testing.load.tester import LoadTester
from slipstream.testing.load.words import SAID_MAX, STATUSES_MAX, Said, Words, words_in


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """A server that has one answer for everything; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def whole(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


def outcome_of(answer: bytes, duration: float) -> LoadResult:
    async def main() -> LoadResult:
        async with answering(answer) as url:
            tester = LoadTester(Target(url=url), keep=False)
            return await tester.run_test({"concurrent_users": 2, "duration": duration})

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        ("401 Unauthorized", '{"error":{"message":"Wrong key."}}', ["401", '"Wrong key."', "--key-env"]),
        ("404 Not Found", "404 page not found\n", ["404", '"404 page not found"', "--model"]),
    ],
)
def test_a_target_that_refuses_everything(status: str, body: str, said: list[str]) -> None:
    """The run ends after about a second, and one line has the status, the target's words, what to do."""
    result = outcome_of(whole(status, body), 30)

    assert result.summary.stopped == "refused"
    assert result.successful_requests == 0
    for each in said:
        assert each in result.summary.hint
    assert "\n" not in result.summary.hint


def test_a_target_that_is_not_ready() -> None:
    """503 may pass: the run goes on, and the line says what to wait for."""
    loading = '{"error":{"message":"The model is being loaded."}}'

    result = outcome_of(whole("503 Service Unavailable", loading), 1.5)

    assert result.summary.stopped == "finished"
    assert "The model is being loaded." in result.summary.hint
    assert "/readyz" in result.summary.hint


def test_few_errors_need_no_advice() -> None:
    """Below one in a hundred nothing is said; the most frequent kind is what is spoken of."""
    assert advice({"reset": 1}, [], ended=1000) == ""
    assert "30 of 40 requests ended as reset" in advice({"reset": 30, "timeout": 2}, [], ended=40)
    assert advice({}, [Said(404, "x")], ended=5) == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"detail":"No \\"such\\" model"}', 'No "such" model'),
        ("<html><h1>502 Bad Gateway</h1></html>", "502 Bad Gateway"),
        ("\x1b[2Jgone\r\n", "[2Jgone"),
        ("", ""),
        ("x" * 1000, "x" * SAID_MAX),
    ],
)
def test_words_of_an_answer(body: str, words: str) -> None:
    """JSON's message, else the text; nothing that moves a terminal's cursor, and not much of it."""
    assert words_in(f"HTTP/1.1 500 x\r\nserver: y\r\n\r\n{body}".encode()) == words


def test_words_are_bounded() -> None:
    """The first words of each status, of so many statuses."""
    words = Words()
    for status in range(400, 500):
        words.take(status, b"\r\n\r\nfirst")
        words.take(status, b"\r\n\r\nsecond")

    assert words.kept == [Said(400 + number, "first") for number in range(STATUSES_MAX)]


def test_a_wrong_objective_is_told_before_the_test() -> None:
    """Nobody waits through a test to hear that its objective was mistyped."""
    with pytest.raises(BadRequest, match="no objective"):
        read_config({"concurrent_users": 1, "slo": ["tfft<3s"]})
