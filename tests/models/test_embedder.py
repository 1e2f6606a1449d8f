"""The embedder: vectors that mean something, in OpenAI's form. The model is the real one."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from slipstream.config.settings import Embedder
from slipstream.core.chat import Route, parse
from slipstream.core.errors import BadRequest, ConfigurationError, MissingExtra, Unavailable
from slipstream.core.ports import Head
from slipstream.core.record import Record, open_record
from slipstream.models.embedder import DIMENSIONS, TOKENS_MAX, TRUNCATED, EmbedderModel

TEXTS_MAX = 200
SETTINGS = Embedder(queue=2 * TEXTS_MAX, texts=TEXTS_MAX)

pytestmark = pytest.mark.model


def with_embedder(
    data_folder: Path, use: Callable[[EmbedderModel], Awaitable[None]], settings: Embedder = SETTINGS
) -> None:
    async def main() -> None:
        model = EmbedderModel(settings, data_folder)
        try:
            await use(model)
        finally:
            await model.aclose()

    asyncio.run(main())


async def ask(model: EmbedderModel, record: Record | None = None, **fields: object) -> tuple[Head, dict]:
    request = parse(Route.EMBEDDINGS, json.dumps(fields).encode())
    reply = await model.open(request, record or open_record(route="embeddings"))
    body = b"".join([event async for chunk in reply for event in chunk.events])
    await reply.aclose()
    return reply.head, json.loads(body)


async def embed(model: EmbedderModel, texts: list[str]) -> np.ndarray:
    """One row a text."""
    _, answer = await ask(model, input=texts)
    return np.array([row["embedding"] for row in answer["data"]], np.float32)


def test_paraphrases_are_closer_than_strangers(data_folder: Path) -> None:
    """Cosine similarity follows the meaning, whatever the words and whatever else is in the batch."""

    async def use(model: EmbedderModel) -> None:
        one = await embed(model, ["How do I reset my password?"])
        rows = await embed(
            model,
            [
                "I forgot my password, how can I change it?",
                "Bake the bread at 220 degrees for half an hour. " * 20,
            ],
        )
        near, far = (rows @ one[0]).tolist()
        assert near > 0.75
        assert far < 0.3
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        alone = await embed(model, ["I forgot my password, how can I change it?"])
        assert float(alone[0] @ rows[0]) > 0.99  # int8 activations feel their neighbours a little

    with_embedder(data_folder, use)


def test_rows_come_in_the_order_of_their_texts(data_folder: Path) -> None:
    """Batches are sorted by length inside; nobody sees it."""
    texts = [f"{'word ' * (n % 7)}number {n}" for n in range(40)]

    async def use(model: EmbedderModel) -> None:
        together = await embed(model, texts)
        for index in (0, 13, 39):
            alone = (await embed(model, [texts[index]]))[0]
            assert int(np.argmax(together @ alone)) == index

    with_embedder(data_folder, use)


def test_base64_holds_the_same_numbers(data_folder: Path) -> None:
    """Little-endian float32, as the official client decodes it."""

    async def use(model: EmbedderModel) -> None:
        record = open_record(route="embeddings")
        head, plain = await ask(model, record, input="Hello world")
        _, packed = await ask(model, input=["Hello world"], encoding_format="base64")
        numbers = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
        assert np.allclose(numbers, plain["data"][0]["embedding"], atol=1e-6)
        assert (numbers.size, head.headers) == (DIMENSIONS, ())
        assert plain["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
        assert (plain["object"], plain["model"], plain["data"][0]["object"]) == (
            "list",
            SETTINGS.name,
            "embedding",
        )
        assert (record.prompt_tokens, [step.name for step in record.steps]) == (4, ["embed"])

    with_embedder(data_folder, use)


def test_fewer_dimensions_are_cut_and_normalised(data_folder: Path) -> None:
    """`dimensions` keeps the first numbers, scaled to length one."""

    async def use(model: EmbedderModel) -> None:
        _, answer = await ask(model, input="Hello", dimensions=64)
        vector = np.array(answer["data"][0]["embedding"])
        assert vector.size == 64
        assert np.isclose(np.linalg.norm(vector), 1, atol=1e-5)

    with_embedder(data_folder, use)


def test_what_is_not_read_of_a_long_text_is_said(data_folder: Path) -> None:
    """At most 256 tokens are read, and a header says of how many texts that was not all."""

    async def use(model: EmbedderModel) -> None:
        head, answer = await ask(model, input=["word " * 1000, "short"])
        assert head.headers == ((TRUNCATED, b"1"),)
        assert answer["usage"]["prompt_tokens"] == TOKENS_MAX + 3

    with_embedder(data_folder, use)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": ["a"] * (TEXTS_MAX + 1)}, "input"),
        ({"input": "x" * 200_000}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 385}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_a_wrong_field_is_named(data_folder: Path, fields: dict[str, object], param: str) -> None:
    """Empty input, tokens, too many texts, wrong formats: 400 before anything is loaded."""

    async def use(model: EmbedderModel) -> None:
        with pytest.raises(BadRequest) as caught:
            await ask(model, **fields)
        assert caught.value.param == param

    with_embedder(data_folder, use)


def test_more_texts_than_may_wait_are_refused(data_folder: Path) -> None:
    """The queue is counted in texts and has an end; those who wait are served."""

    async def use(model: EmbedderModel) -> None:
        first = asyncio.create_task(embed(model, ["a", "b", "c"]))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await embed(model, ["d", "e"])
        assert (await first).shape == (3, DIMENSIONS)
        assert (await embed(model, ["d", "e"])).shape == (2, DIMENSIONS)

    with_embedder(data_folder, use, Embedder(queue=4))


def test_a_missing_library_is_one_sentence(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra: 501 with the pip line."""
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)

    async def use(model: EmbedderModel) -> None:
        with pytest.raises(MissingExtra, match=r"slipstream\[semantic\]"):
            await embed(model, ["a"])

    with_embedder(data_folder, use)


def test_a_broken_file_is_the_settings_fault(data_folder: Path) -> None:
    """An ONNX file that is none does not take the worker down."""
    data_folder.mkdir()
    broken = data_folder / "broken.onnx"
    broken.write_bytes(b"no model")

    async def use(model: EmbedderModel) -> None:
        with pytest.raises(ConfigurationError, match=r"broken\.onnx"):
            await embed(model, ["a"])

    with_embedder(data_folder, use, Embedder(path=str(broken)))


def test_it_closes_while_the_interpreter_ends() -> None:
    """Nothing is printed at the end of a script that has embedded, and what is closed after it is closed too."""
    code = """
import asyncio, atexit, pathlib
from slipstream.config.settings import Embedder
from slipstream.models.embedder import EmbedderModel
model = EmbedderModel(Embedder(), pathlib.Path("."))
model._thread.submit(int)
atexit.register(lambda: (asyncio.run(model.aclose()), print("closed")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.stdout, done.stderr, done.returncode) == ("closed\n", "", 0)
