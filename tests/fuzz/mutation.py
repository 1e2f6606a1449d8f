"""A seeded mutation fuzzer: small, deterministic, without coverage feedback. It knows no format.

Every input is made from a corpus by a few random edits, among them tokens of the format. The same seed gives
the same inputs; a failure names the seed and the number of the input, and shows it.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

BYTES_MAX = 4096

_BOUNDARY = re.compile(rb'[{}\[\],:;"\r\n ]')

Target = Callable[[bytes, random.Random], str]
"""Takes an input and a source of chance (where to cut it); says in a word what became of it, and raises for
what must not be."""


def mutants(corpus: Sequence[bytes], tokens: Sequence[bytes], rng: random.Random) -> Iterator[bytes]:
    """Inputs without end."""
    while True:
        data = bytearray(rng.choice(corpus))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            _edit(data, corpus, tokens, rng)
        yield bytes(data[:BYTES_MAX])


def _edit(data: bytearray, corpus: Sequence[bytes], tokens: Sequence[bytes], rng: random.Random) -> None:
    at = _place(data, rng)
    end = min(len(data), at + rng.choice((1, 2, 4, 16, 64)))
    kind = rng.randrange(8)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 1 and data:
        data[at % len(data)] = rng.randrange(256)
    elif kind == 2:
        data[at:at] = rng.choice(tokens)
    elif kind == 3:
        data[at:end] = rng.choice(tokens)
    elif kind == 4:
        del data[at:end]
    elif kind == 5:
        data[at:at] = data[at:end] * rng.choice((1, 2, 7))
    elif kind == 6:
        other = rng.choice(corpus)
        data[at:] = other[rng.randint(0, len(other)) :]
    else:
        del data[at:]


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere, or half of the time beside something that parts one thing from the next."""
    at = rng.randint(0, len(data))
    if rng.random() < 0.5:
        near = _BOUNDARY.search(data, at)
        if near is not None:
            return near.end() if rng.random() < 0.5 else near.start()
    return at


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """The same bytes in pieces: one, all single, or some."""
    way = rng.randrange(3)
    if way == 0 or len(data) < 2:
        return [data]
    if way == 1 and len(data) <= 300:
        return [data[at : at + 1] for at in range(len(data))]
    marks = sorted(rng.sample(range(1, len(data)), min(len(data) - 1, rng.randint(1, 6))))
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True)]


def run(
    target: Target, corpus: Sequence[bytes], tokens: Sequence[bytes], *, seed: int, count: int
) -> Counter[str]:
    """Give the corpus and `count` inputs to `target`; how often what became of them."""
    rng = random.Random(seed)
    seen = Counter(target(data, rng) for data in corpus)
    inputs = mutants(corpus, tokens, rng)
    for number in range(count):
        data = next(inputs)
        try:
            seen[target(data, rng)] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}, input {number}: {data!r}")
            raise
    return seen
