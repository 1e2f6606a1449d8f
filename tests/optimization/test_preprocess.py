"""Tidying prompts and answers: what changes, what never does, and the cache in front of it."""

import re
import threading
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipstream.optimization.preprocess import (
    BoundedCache,
    fast_preprocess,
    postprocess_response,
    preprocess_prompt,
)

PIECES = st.sampled_from(
    ["a", " ", "\t", "\n", "\r", "\r\n", "```", "~~~", "`", "````", "\x00", "\x0c", "\x85", "é", "e\u0301",
     "\u1fef", "    ", "\u2028", "\n\n\n", "<|im_end|>", "</s>", "<", "word"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=60)


@given(TEXTS)
@example("`\x00``\n  x  ")
@example("\u1fef``\n  x  ")
@example("```\r\na  \r")
def test_twice_is_once(text: str) -> None:
    """Preprocessing what was preprocessed changes nothing."""
    once = preprocess_prompt(text)

    assert preprocess_prompt(once) == once


@given(TEXTS)
@example("```\n\n\n\n```")
@example("\n")
@example("a\n")
@example("a ")
def test_fast_says_the_same(text: str) -> None:
    """The fast way gives what the thorough one gives."""
    assert fast_preprocess(text) == preprocess_prompt(text)


@given(TEXTS)
def test_words_survive(text: str) -> None:
    """Nothing is lost but white space and control characters."""

    def bare(what: str) -> str:
        return unicodedata.normalize("NFC", re.sub(r"[\s\x00-\x1f\x7f-\x9f]", "", what))

    assert bare(preprocess_prompt(text)) == bare(text)


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("Hello\r\nthere\rfriend", "Hello\nthere\nfriend"),
        ("one  \ntwo\t\n", "one\ntwo"),
        ("one\n\n\n\n\ntwo", "one\n\ntwo"),
        ("\n \n one", " one"),
        ("e\u0301\x00\x1b", "é"),
        ("page\x0cpage", "page page"),
        ("a\tb", "a\tb"),
        ("", ""),
    ],
)
def test_tidies(given_text: str, expected: str) -> None:
    """Line ends, trailing blanks, runs of blank lines, forms of letters and control characters."""
    assert preprocess_prompt(given_text) == expected


@pytest.mark.parametrize("fence", ["```", "~~~~"])
def test_code_is_left_alone(fence: str) -> None:
    """What stands between fences stays byte for byte, also where the fence is never closed."""
    code = f"{fence}python\nx = 1   \n\n\n\n\te\u0301\r\n"

    assert preprocess_prompt(f"Look:\n{code}{fence}  \n\n\n\nend") == f"Look:\n{code}{fence}\n\nend"
    assert preprocess_prompt(code) == code


def test_tidy_prompt_is_not_copied() -> None:
    """A tidy prompt comes back itself."""
    prompt = "Tidy, naïve text.\n\nWith two paragraphs."

    assert fast_preprocess(prompt) is prompt


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Paris.<|im_end|>\n", "Paris."),
        ("Paris.</s></s> <|endoftext|>", "Paris."),
        ("<s> Paris.", "Paris."),
        ("The token <|im_end|> ends a turn.", "The token <|im_end|> ends a turn."),
        ("```python\nprint(1)", "```python\nprint(1)\n```"),
        ("```python\nprint(1)\n```<|im_end|>", "```python\nprint(1)\n```"),
        ("~~~~\n```\n", "~~~~\n```\n~~~~"),
        ("<|im_end|>", ""),
        ("  ", ""),
    ],
)
def test_answer_is_tidied(answer: str, expected: str) -> None:
    """Special tokens go from both ends, an open fence is closed."""
    assert postprocess_response(answer) == expected


@given(TEXTS)
def test_answer_twice_is_once(text: str) -> None:
    """Postprocessing what was postprocessed changes nothing."""
    once = postprocess_response(text)

    assert postprocess_response(once) == once


def test_good_answer_keeps_what_it_carries() -> None:
    """An answer with nothing to do is the very object that came, usage and all."""

    class Answer(str):
        __slots__ = ("usage",)

    answer = Answer("Paris.")

    assert postprocess_response(answer) is answer


def test_long_hostile_answer_takes_linear_time() -> None:
    """A hundred thousand half tokens are no problem: the work is bounded by the length."""
    assert postprocess_response("<|im_end|>" * 100_000 + "x" + "<|im_end|>" * 100_000) == "x"
    assert postprocess_response("<" * 300_000) == "<" * 300_000


def test_cache_counts_a_lookup_once() -> None:
    """`if key in cache: return cache[key]` is one hit; without the entry it is one miss."""
    cache = BoundedCache()
    if "a" not in cache:
        cache["a"] = "A"
    if "a" in cache:
        assert cache["a"] == "A"

    assert (cache.hits, cache.misses, cache.evictions) == (1, 1, 0)


def test_cache_drops_the_least_recently_used() -> None:
    """The bound on entries drops what was not used for longest, and counts it."""
    cache = BoundedCache(entries_max=2)
    cache["a"] = "1"
    cache["b"] = "2"
    assert cache["a"] == "1"
    cache["c"] = "3"

    assert list(cache) == ["a", "c"]
    assert cache.evictions == 1


@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=30))))
def test_cache_stays_within_its_bounds(pairs: list[tuple[str, str]]) -> None:
    """However it is filled, entries and characters stay within the bounds, and the sum is right."""
    cache = BoundedCache(entries_max=4, characters_max=40)
    for key, value in pairs:
        cache[key] = value

        assert len(cache) <= 4
        assert cache.characters == sum(len(k) + len(v) for k, v in cache.items()) <= 40


def test_cache_refuses_what_is_larger_than_itself() -> None:
    """One huge prompt does not empty the cache; it is counted."""
    cache = BoundedCache(characters_max=10)
    cache["a"] = "1"
    cache["b"] = "x" * 100

    assert list(cache) == ["a"]
    assert cache.refusals == 1


def test_cache_may_be_used_from_threads() -> None:
    """Eight threads that read and write at once leave a sound cache and full counts."""
    cache = BoundedCache(entries_max=50)

    def work() -> None:
        for number in range(2000):
            key = str(number % 100)
            cache[key] = key
            assert cache.get(key, key) == key

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(cache) <= 50
    assert cache.hits + cache.misses == 16_000
