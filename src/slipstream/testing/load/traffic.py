"""What requests say: prompts made up, given or recorded, and the bodies around them. It sends nothing.

Made-up text is of common English words of three letters, each with its space: one token in the usual
vocabularies, and a quarter of the characters where a server counts so.
"""

from functools import cache

import msgspec
import numpy as np

from slipstream.testing.load.plan import Shard
from slipstream.testing.load.target import Target

_TEXT = (
    "the and for are but not you all any can had her was one our out day get has him his how man new now "
    "old see two way who boy did its let put say she too use act add age ago air arm art ask bad bag bar "
    "bed big bit box bus buy car cat cup cut dog dry ear eat"
)
WORDS = tuple(_TEXT.split())
"""Sixty-four words, so that a number can be written in them."""

WORD_BYTES = 4
POOL_WORDS = 65_536
DRAWS = 65_536
"""Lengths and places are drawn so often; later requests use them again (with a salt of their own)."""

SALT_WORDS = 4
SALTS = len(WORDS) ** SALT_WORDS


@cache
def pool() -> bytes:
    """The text that all made-up prompts are cut from; always the same."""
    chosen = np.random.default_rng(3).integers(0, len(WORDS), POOL_WORDS)
    return " ".join([WORDS[each] for each in chosen]).encode() + b" "


@cache
def _pairs() -> tuple[bytes, ...]:
    return tuple(f"{high} {low} ".encode() for high in WORDS for low in WORDS)


def salt(number: int) -> bytes:
    """A number below `SALTS` as four words."""
    pairs = _pairs()
    return pairs[(number >> 12) & 4095] + pairs[number & 4095]


def cut(start: int, words: int) -> bytes:
    """So many words of the pool; its end is followed by its beginning."""
    text = pool()
    begin = start % POOL_WORDS * WORD_BYTES
    end = begin + words * WORD_BYTES
    if end <= len(text):
        return text[begin:end]
    whole, rest = divmod(end - len(text), len(text))
    return text[begin:] + text * whole + text[:rest]


class Prompts:
    """The prompts of one worker's requests.

    Args:
        shard: which requests.
        nonce: of the run, below `SALTS`; what makes its salts new.
    """

    def __init__(self, shard: Shard, nonce: int) -> None:
        spec = shard.traffic
        self._first, self._step = shard.first, shard.step
        self._trace = shard.trace
        self._is_salted = spec.salted
        self._distinct = spec.distinct
        self._nonce = salt(nonce) if spec.salted else b""
        self._given = [_escaped(text) for text in spec.prompts]
        worker = 0 if spec.distinct else shard.first  # a few prompts again and again: the same of all workers
        generator = np.random.default_rng([shard.seed, 2, worker])
        self._words: list[int] = spec.prompt_tokens.draw(DRAWS, generator).tolist()
        self._places: list[int] = generator.integers(0, POOL_WORDS, DRAWS).tolist()
        lengths = spec.output_tokens
        self._outputs: list[int] = [] if lengths is None else lengths.draw(DRAWS, generator).tolist()
        self._groups: list[int] = generator.integers(0, spec.prefix_groups, DRAWS).tolist()
        self._prefixes = [
            self._nonce + cut(group * 7919, max(0, spec.prefix_tokens - self._own(self._nonce)))
            for group in range(spec.prefix_groups)
        ]
        if not spec.prefix_tokens:
            self._prefixes = [self._nonce] * spec.prefix_groups

    @staticmethod
    def _own(text: bytes) -> int:
        return len(text) // WORD_BYTES

    def text(self, number: int) -> bytes:
        """The prompt of this worker's request `number`, ready to stand in JSON quotes."""
        overall = self._first + number * self._step
        if self._distinct:
            number = overall = overall % self._distinct
        own = salt(overall % SALTS) if self._is_salted else b""
        if self._trace is not None:
            return self._recorded(number % len(self._trace), own)
        if self._given:
            return self._nonce + own + self._given[overall % len(self._given)]
        draw = number % DRAWS
        prefix = self._prefixes[self._groups[draw]]
        words = self._words[draw] - (len(prefix) + len(own)) // WORD_BYTES
        return prefix + own + cut(self._places[draw], words if words > 0 else 1)

    def spoken(self, number: int) -> str:
        """The same as plain text."""
        return msgspec.json.decode(b'"%b"' % self.text(number), type=str)

    def output_tokens(self, number: int) -> int | None:
        """How many tokens its answer may have; None = as many as the server likes."""
        if self._trace is not None:
            return max(1, int(self._trace.output_tokens[number % len(self._trace)]))
        if not self._outputs:
            return None
        return self._outputs[number % DRAWS]

    def _recorded(self, number: int, own: bytes) -> bytes:
        """A recorded prompt: its length, and equal text where its block ids are equal."""
        trace = self._trace
        assert trace is not None
        words = max(1, int(trace.prompt_tokens[number]))
        blocks = trace.blocks[trace.block_offsets[number] : trace.block_offsets[number + 1]].tolist()
        if not blocks:
            return self._nonce + own + cut(self._places[number % DRAWS], max(1, words - 2 * SALT_WORDS))
        rest = max(1, trace.block_tokens - SALT_WORDS)
        text = self._nonce + b"".join([salt(each % SALTS) + cut(each * 7919, rest) for each in blocks])
        return text[: words * WORD_BYTES]


def _escaped(text: str) -> bytes:
    return msgspec.json.encode(text)[1:-1]


ENDINGS_MAX = 4096
_USER = b'{"role":"user","content":"'


class Bodies:
    """The bodies of one worker's requests, in the target's dialect."""

    def __init__(self, target: Target, prompts: Prompts, bodies: tuple[bytes, ...]) -> None:
        self._prompts = prompts
        self._given = bodies if bodies or target.dialect != "http" else (b"",)
        opening, self._closing = _around(target)
        self._is_chat = target.dialect != "openai_completions"
        self._opening = opening + (b'"messages":[' if self._is_chat else b'"prompt":"')
        self._start = self._opening + (_USER if self._is_chat else b"")
        self._endings: dict[int | None, bytes] = {}

    def body(self, number: int, history: tuple[int, ...] = ()) -> bytes:
        """The body of request `number`; `history`: the requests of the session's turns before it."""
        if self._given:
            return self._given[number % len(self._given)]
        prompts = self._prompts
        most = prompts.output_tokens(number)
        ending = self._endings.get(most)
        if ending is None:
            ending = self._ending(most)
        if history:
            turns = b"".join([self._turn(each) for each in history])
            return b"".join((self._opening, turns, _USER, prompts.text(number), ending))
        return b"".join((self._start, prompts.text(number), ending))

    def _ending(self, most: int | None) -> bytes:
        """What follows the prompt; the lengths that come again and again are kept."""
        limit = b"" if most is None else b',"max_tokens":%d' % most
        ending = (b'"}]' if self._is_chat else b'"') + limit + self._closing
        if len(self._endings) < ENDINGS_MAX:
            self._endings[most] = ending
        return ending

    def _turn(self, number: int) -> bytes:
        """A turn that is over: its prompt, and in the place of its answer text of the length asked for."""
        answer = cut(number * 31, self._prompts.output_tokens(number) or SALT_WORDS)
        prompt = self._prompts.text(number)
        return b'{"role":"user","content":"%b"},{"role":"assistant","content":"%b"},' % (prompt, answer)


def _around(target: Target) -> tuple[bytes, bytes]:
    """What stands before the prompt and behind it."""
    members = b""
    if target.streaming:
        members = b',"stream":true'
        if target.dialect in {"openai_chat", "openai_completions"}:
            members += b',"stream_options":{"include_usage":true}'
    extra = _members(target.extra)
    if extra:
        members += b"," + extra
    model = b'"model":%b,' % msgspec.json.encode(target.model) if target.model else b""
    return b"{" + model, members + b"}"


def _members(extra: str) -> bytes:
    """The members of a JSON object without its braces."""
    return msgspec.json.encode(msgspec.json.decode(extra or "{}", type=dict[str, msgspec.Raw]))[1:-1]
