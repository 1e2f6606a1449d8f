"""The bytes of simulated answers, shaped like OpenAI's: completions, events, embeddings, errors.

Pure functions of what is asked and an id; they know no time and no fault.
"""

import base64
import hashlib
import math
import zlib
from array import array

import msgspec
from msgspec import Raw, Struct

from slipstream.core.chat import ChatRequest, Route
from slipstream.core.errors import BadRequest

INPUTS_MAX = 2048
"""Most texts in one embeddings request, as OpenAI's."""

DIMENSIONS = 384
"""Length of an embedding where the request names none; at most `DIMENSIONS_MAX`."""

DIMENSIONS_MAX = 4096

DONE = b"data: [DONE]\n\n"

_WORDS = (
    "time the of a request is spent where nobody looks so measure first then change one thing and measure "
    "again until what remains slow has name queue model network cache token stream answer always wait less "
    "when work moves earlier or never happens at all good numbers tell truth about load even under pressure"
)
_UNICODE = "naïve zażółć crème straße Ελλάδα привет שלום 東京 한국어 ไทย 🙂 👩\u200d💻 e\u0301te\u0301 ½ ∑"
_VOCABULARIES = {False: _WORDS.split(), True: _UNICODE.split()}


class Usage(Struct, frozen=True):
    """Tokens of one answer: each word of it is one, and (an estimate) every four characters of the prompt."""

    prompt: int
    output: int


class Events:
    """The server-sent events of one answer."""

    __slots__ = ("_after", "_chat", "_start", "_tail", "_token")

    def __init__(self, identity: str, created: int, *, request: ChatRequest, usage: bool) -> None:
        chat = request.route is Route.CHAT
        kind = "chat.completion.chunk" if chat else "text_completion"
        start = (
            b'data: {"id":"%b","object":"%b","created":%d,"model":%b,"system_fingerprint":"fp_simulated",'
            % (
                identity.encode(),
                kind.encode(),
                created,
                msgspec.json.encode(request.model),
            )
        )
        self._chat = chat
        self._start = start
        self._tail = b',"usage":null}\n\n' if usage else b"}\n\n"
        self._token = start + b'"choices":[{"index":0,' + (b'"delta":{"content":' if chat else b'"text":')
        self._after = (b"}" if chat else b"") + b',"logprobs":null,"finish_reason":null}]' + self._tail

    def role(self) -> tuple[bytes, ...]:
        """What comes before the first token."""
        if not self._chat:
            return ()
        delta = b'{"role":"assistant","content":""}'
        choice = b'"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":null}]' % delta
        return (self._start + choice + self._tail,)

    def text(self, words: str) -> bytes:
        """A piece of the answer."""
        return self._token + msgspec.json.encode(words) + self._after

    def finish(self, reason: str | None, usage: Usage | None) -> bytes:
        """The event that says why the answer ends; with `usage` where a server puts it there."""
        content = b'"delta":{}' if self._chat else b'"text":""'
        choice = b'"choices":[{"index":0,%b,"logprobs":null,"finish_reason":%b}]' % (
            content,
            msgspec.json.encode(reason),
        )
        return self._start + choice + (b',"usage":%b}\n\n' % _usage(usage) if usage else self._tail)

    def usage(self, usage: Usage) -> bytes:
        """The event that holds nothing but the usage."""
        return self._start + b'"choices":[],"usage":%b}\n\n' % _usage(usage)


def whole(
    identity: str, created: int, *, request: ChatRequest, text: str, reason: str | None, usage: Usage | None
) -> bytes:
    """The body of an unstreamed completion."""
    chat = request.route is Route.CHAT
    if chat:
        content = b'"message":{"role":"assistant","content":%b,"refusal":null}' % msgspec.json.encode(text)
    else:
        content = b'"text":%b' % msgspec.json.encode(text)
    return (
        b'{"id":"%b","object":"%b","created":%d,"model":%b,"system_fingerprint":"fp_simulated",'
        b'"choices":[{"index":0,%b,"logprobs":null,"finish_reason":%b}]%b}'
    ) % (
        identity.encode(),
        b"chat.completion" if chat else b"text_completion",
        created,
        msgspec.json.encode(request.model),
        content,
        msgspec.json.encode(reason),
        b',"usage":%b' % _usage(usage) if usage else b"",
    )


def words(request: ChatRequest, count: int, *, seed: int, unicode: bool = False) -> list[str]:
    """The answer's tokens: the same prompt and seed give the same ones, whatever else is asked for."""
    vocabulary = _VOCABULARIES[unicode]
    key = zlib.crc32(_prompt(request), seed & 0xFFFFFFFF)
    size = len(vocabulary)
    place, step = key % size, 1 + (key >> 8) % (size - 1)
    pieces = []
    for number in range(count):
        pieces.append(f" {vocabulary[place]}" if number else vocabulary[place])
        place = (place + step) % size
    return pieces


def prompt_tokens(request: ChatRequest) -> int:
    """An estimate: one token for every four characters of text, at least one."""
    raw = _prompt(request)
    try:
        if request.route is Route.CHAT:
            characters = sum(map(_characters, _MESSAGES.decode(raw)))
        else:
            characters = sum(map(len, _inputs(raw)))
    except msgspec.ValidationError:
        characters = len(raw)
    return max(1, characters // 4)


def embeddings(request: ChatRequest) -> bytes:
    """The body of an embeddings answer: unit vectors, the same for the same text. Raises `BadRequest`."""
    raw = _prompt(request)
    try:
        inputs = _inputs(raw)
    except msgspec.ValidationError:
        raise BadRequest("`input` must be a string or an array.", param="input", code="wrong_type") from None
    if len(inputs) > INPUTS_MAX:
        raise BadRequest(f"`input` has at most {INPUTS_MAX} entries.", param="input", code="too_many_inputs")
    encoded = bytes(request.fields.get("encoding_format", b"")) == b'"base64"'
    length = _dimensions(request)
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, length, encoded=encoded)}
        for index, text in enumerate(inputs)
    ]
    tokens = sum(max(1, len(text) // 4) for text in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": request.model, "usage": usage})


def error(
    status: int, message: str, *, kind: str = "", code: str = "simulated", param: str | None = None
) -> bytes:
    """An error in OpenAI's shape."""
    kind = kind or _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


class _Part(Struct):
    text: str = ""


class _Message(Struct):
    content: str | list[_Part] | None = None


_MESSAGES = msgspec.json.Decoder(list[_Message])
_INPUTS = msgspec.json.Decoder(str | list[Raw])
_FIELDS = {Route.CHAT: "messages", Route.COMPLETIONS: "prompt", Route.EMBEDDINGS: "input"}
_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def _prompt(request: ChatRequest) -> bytes:
    return bytes(request.fields[_FIELDS[request.route]])


def _characters(message: _Message) -> int:
    content = message.content
    if isinstance(content, list):
        return sum(len(part.text) for part in content)
    return len(content or "")


def _inputs(raw: bytes) -> list[str]:
    """The texts of `input` or `prompt`: a string, strings, or token numbers, which count as one text."""
    inputs = _INPUTS.decode(raw)
    if isinstance(inputs, str):
        return [inputs]
    if inputs and bytes(inputs[0])[:1].isdigit():
        return [raw.decode()]
    return [bytes(item).decode() for item in inputs]


def _dimensions(request: ChatRequest) -> int:
    raw = bytes(request.fields.get("dimensions", b"null"))
    if raw == b"null":
        return DIMENSIONS
    if not raw.isdigit() or not 1 <= int(raw[:9]) <= DIMENSIONS_MAX:
        message = f"`dimensions` must be a whole number from 1 to {DIMENSIONS_MAX}."
        raise BadRequest(message, param="dimensions", code="wrong_type")
    return int(raw)


def _vector(text: str, length: int, *, encoded: bool) -> list[float] | str:
    numbers = array("h", hashlib.shake_128(text.encode(errors="surrogatepass")).digest(2 * length))
    norm = math.sqrt(sum(number * number for number in numbers)) or 1.0
    vector = [number / norm for number in numbers]
    return base64.b64encode(array("f", vector).tobytes()).decode() if encoded else vector


def _usage(usage: Usage) -> bytes:
    total = usage.prompt + usage.output
    return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
        usage.prompt,
        usage.output,
        total,
    )
