"""The embedding model: MiniLM on ONNX Runtime, in one thread of its own.

Loaded at its first use. Mean of the token vectors, normalised to length one, as its authors publish it.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from slipstream.config.settings import Embedder
from slipstream.core import clock
from slipstream.core.chat import ChatRequest, Route
from slipstream.core.errors import BadRequest, ConfigurationError, MissingExtra, Unavailable
from slipstream.core.ports import Chunk, Head
from slipstream.core.record import Record
from slipstream.core.use import UseRow, queue_row
from slipstream.core.wording import in_words
from slipstream.models.assets import find_embedder, sha256_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

DIMENSIONS = 384
TOKENS_MAX = 256
"""Tokens of a text that are read; the model was trained on no more."""
CHARACTERS_MAX = 100_000
"""Most characters of one text; far more than can be read of it."""
BATCH_TEXTS = 16
"""Most texts in one run of the model: the shortest wait for whoever comes next, at no loss of throughput."""
TOKENIZER = Path(__file__).parent / "data" / "tokenizer.json"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

TRUNCATED = b"x-slipstream-truncated"
"""Header that says how many texts of the request were longer than what is read of them."""


class Counts(Struct):
    """What was read: tokens in all, and texts of which only the first part was."""

    tokens: int = 0
    truncated: int = 0


class EmbeddingRequest(Struct, frozen=True):
    """The fields of a request that are read."""

    input: str | list[str]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=DIMENSIONS)] | None = None


class EmbedderModel:
    """The embedder as a `Model`: one row a text, float32, of length 384 and norm 1.

    Args:
        settings: its section of the settings.
        data_folder: where digest stamps lie.
    """

    def __init__(self, settings: Embedder, data_folder: Path) -> None:
        self._settings = settings
        self._data_folder = data_folder
        self._network: _Network | None = None
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedder")

    @property
    def name(self) -> str:
        """Always `embedder`."""
        return "embedder"

    def use(self) -> UseRow:
        """How full its queue is."""
        return queue_row("embedder queue", self._waiting, self._settings.queue, "texts")

    async def open(self, request: ChatRequest, record: Record) -> "EmbedderReply":
        """Embed the request's texts.

        Raises `BadRequest`, `Unavailable` when too many texts wait, `MissingExtra` (501) where the
        libraries are not installed.
        """
        if request.route is not Route.EMBEDDINGS:
            raise BadRequest(
                f"The model `{self._settings.name}` only makes embeddings.", param="model", code="wrong_model"
            )
        asked = _decode(request.body)
        texts = _texts(asked, self._settings.texts)
        with record.step("embed"):
            vectors, counts = await self._run(texts)
        record.prompt_tokens = counts.tokens
        body = _answer(vectors, asked, self._settings.name, counts.tokens)
        return EmbedderReply(Chunk((body,), clock.monotonic_ns()), truncated=counts.truncated)

    async def aclose(self) -> None:
        """End the thread; what it is computing now is finished and thrown away."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(RuntimeError):  # the interpreter ends, and has ended the thread already
            await asyncio.to_thread(self._thread.shutdown)

    async def _run(self, texts: list[str]) -> "tuple[Vectors, Counts]":
        if self._waiting + len(texts) > self._settings.queue:
            raise Unavailable(
                f"{self._waiting} texts wait for the embedder already.",
                code="embedder_busy",
                hint="The setting models.embedder.queue bounds this.",
                retry_after_seconds=1.0,
            )
        self._waiting += len(texts)
        try:
            return await self._batches(texts)
        finally:
            self._waiting -= len(texts)

    async def _batches(self, texts: list[str]) -> "tuple[Vectors, Counts]":
        """Run by batches of like length, so that requests take turns and little is padding."""
        loop = asyncio.get_running_loop()
        network = await loop.run_in_executor(self._thread, self._loaded)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        out = network.empty(len(texts))
        counts = Counts()
        for start in range(0, len(order), BATCH_TEXTS):
            indices = order[start : start + BATCH_TEXTS]
            batch = [texts[index] for index in indices]
            out[indices], read = await loop.run_in_executor(self._thread, network.run, batch)
            counts.tokens += read.tokens
            counts.truncated += read.truncated
        return out, counts

    def _loaded(self) -> "_Network":
        """In the thread: load on first use. A failure is met again at the next use."""
        if self._network is None:
            self._network = _Network(self._settings, self._data_folder)
        return self._network


class EmbedderReply:
    """An answer that is complete."""

    def __init__(self, chunk: Chunk, *, truncated: int) -> None:
        headers = ((TRUNCATED, b"%d" % truncated),) if truncated else ()
        self.head = Head(200, headers=headers)
        self._chunk = chunk

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        yield self._chunk

    async def aclose(self) -> None:
        """Nothing is left to let go of."""


class _Network:
    """Tokenizer and weights. Used by one thread."""

    def __init__(self, settings: Embedder, data_folder: Path) -> None:
        try:
            import numpy as np
            import onnxruntime
            import tokenizers
        except ImportError:
            raise MissingExtra("The embedder", "semantic") from None
        path = find_embedder(settings, data_folder)
        if sha256_of(TOKENIZER) != TOKENIZER_SHA256:
            raise ConfigurationError(f"{TOKENIZER} is damaged.", hint="Install Slipstream again.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would take the core from the event loop between two texts.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._numpy: Any = np
        self._session: Any = _session(onnxruntime, path, options)
        self._names = {given.name for given in self._session.get_inputs()}
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(TOKENIZER))
        self._tokenizer.enable_truncation(TOKENS_MAX)
        self._tokenizer.enable_padding()

    def empty(self, rows: int) -> "Vectors":
        """Room for the vectors of that many texts."""
        made: Vectors = self._numpy.empty((rows, DIMENSIONS), self._numpy.float32)
        return made

    def run(self, texts: list[str]) -> "tuple[Vectors, Counts]":
        """Vectors of a few texts, and what was read of them."""
        np = self._numpy
        encoded = self._tokenizer.encode_batch(texts)
        mask = np.array([each.attention_mask for each in encoded], np.int64)
        ids = np.array([each.ids for each in encoded], np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states = self._session.run(None, {name: given[name] for name in self._names})[0]
        weights = mask[:, :, None].astype(np.float32)
        means = (states * weights).sum(axis=1) / weights.sum(axis=1)
        return normalised(means), Counts(int(mask.sum()), sum(bool(each.overflowing) for each in encoded))


def normalised(vectors: "Vectors") -> "Vectors":
    """Each row scaled to length one; a row of zeros stays as it is."""
    lengths = (vectors * vectors).sum(axis=1, keepdims=True) ** 0.5
    lengths[lengths == 0] = 1
    scaled: Vectors = vectors / lengths
    return scaled


def _session(onnxruntime: Any, path: Path, options: Any) -> Any:
    # Its exceptions have no common root of their own; which one comes depends on what is wrong with the file.
    state: Any = onnxruntime.capi.onnxruntime_pybind11_state
    errors = (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile, state.NotImplemented)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except errors as error:
        raise ConfigurationError(
            f"{path} cannot be loaded: {error}", hint="See models.embedder.path."
        ) from None


def _decode(body: bytes) -> EmbeddingRequest:
    try:
        return msgspec.json.decode(body, type=EmbeddingRequest)
    except msgspec.ValidationError as error:
        words = in_words(error)
        param = next((name for name in ("encoding_format", "dimensions") if f"$.{name}" in words), "input")
        hint = (
            "Send `input` as text or a list of texts; arrays of tokens are not taken."
            if param == "input"
            else ""
        )
        raise BadRequest(f"`{param}`: {words}.", param=param, code="invalid_value", hint=hint) from None
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"The request body is not valid JSON: {in_words(error)}.", code="invalid_json"
        ) from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.", code="too_deep") from None


def _texts(asked: EmbeddingRequest, most: int) -> list[str]:
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    if not texts or not all(texts):
        raise BadRequest("`input` is empty or holds an empty text.", param="input", code="empty_input")
    if len(texts) > most:
        raise BadRequest(
            f"`input` holds {len(texts)} texts; at most {most} are taken.",
            param="input",
            code="too_many_texts",
            hint="The setting models.embedder.texts bounds this.",
        )
    if any(len(text) > CHARACTERS_MAX for text in texts):
        raise BadRequest(
            f"A text of `input` has more than {CHARACTERS_MAX} characters.",
            param="input",
            code="text_too_long",
        )
    return texts


class _Item(Struct):
    index: int
    embedding: list[float] | str
    object: str = "embedding"


class _Usage(Struct):
    prompt_tokens: int
    total_tokens: int


class _Answer(Struct):
    data: list[_Item]
    model: str
    usage: _Usage
    object: str = "list"


def _answer(vectors: "Vectors", asked: EmbeddingRequest, model: str, tokens: int) -> bytes:
    if asked.dimensions is not None:
        vectors = normalised(vectors[:, : asked.dimensions])
    rows: Sequence[list[float] | str]
    if asked.encoding_format == "base64":
        rows = [base64.b64encode(row.tobytes()).decode() for row in vectors.astype("<f4")]
    else:
        rows = vectors.tolist()
    data = [_Item(index, row) for index, row in enumerate(rows)]
    return msgspec.json.encode(_Answer(data, model, _Usage(tokens, tokens)))
