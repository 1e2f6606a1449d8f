"""Tidying text on its way to a model and back, without changing what it says.

Code between fences (``` or ~~~) is never touched. It knows no model and no chat format.
"""

import re
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping

CACHE_ENTRIES_MAX = 4096
CACHE_CHARACTERS_MAX = 16 * 1024 * 1024

_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PAGE_BREAK = re.compile(r"[\x0b\x0c\x85]")
# What `preprocess_prompt` could change, but for Unicode's normal form.
_UNTIDY = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|[ \t](?:\n|\Z)|\n\n\n|\A\n|\n\Z")
_FENCE_OPENS = re.compile(r" {0,3}(`{3,})[^`]*\Z| {0,3}(~{3,})")
_FENCE_CLOSES = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*\Z")
_MARK = (
    r"(?:<\|(?:im_start|im_end|endoftext|end_of_text|begin_of_text|eot_id|eom_id|start_header_id|end_header_id|end"
    r"|user|assistant|system|eos|bos|pad)\|>|</?s>|<eos>|<bos>|<pad>|<(?:start|end)_of_turn>|\[/?INST\])"
)
_LEADING_MARKS = re.compile(rf"(?:\s|{_MARK})+")
_TRAILING_MARK = re.compile(rf"{_MARK}\Z")
_MARK_CHARACTERS_MAX = 32


def preprocess_prompt(prompt: str) -> str:
    """Bring a prompt into one form, so that prompts that say the same are the same.

    Outside code fences: Unicode NFC, line ends `\\n`, no control characters but tabs (a page break becomes
    a blank), no blanks at the end of a line, one blank line at most in a row, none at either end.
    Doing it twice changes nothing more.
    """
    lines: list[str] = []
    fence = ""
    for line, end in _lines(prompt):
        if fence:
            if not _closes(line, fence):
                lines.append(line + end)
                continue
            fence = ""
            lines.append(line.rstrip(" \t") + "\n")
            continue
        clean = _clean(line)
        fence = _opens(clean)
        if clean or (lines and lines[-1] != "\n"):
            lines.append(clean + ("" if fence and not end else "\n"))
    text = "".join(lines)
    return text if fence else text.strip("\n")


def fast_preprocess(prompt: str) -> str:
    """The same result as `preprocess_prompt`; a prompt that is tidy already is returned at once, uncopied."""
    if (prompt.isascii() or unicodedata.is_normalized("NFC", prompt)) and _UNTIDY.search(prompt) is None:
        return prompt
    return preprocess_prompt(prompt)


def postprocess_response(response: str) -> str:
    """Tidy a model's answer: no leftover special tokens or blanks at either end, no code fence left open.

    Tokens such as `<|im_end|>` inside the answer stay: it may be about them. An answer with nothing to do
    is returned as it came, with whatever attributes it carries.
    """
    text = response
    found = _LEADING_MARKS.match(text)
    start = found.end() if found else 0
    end = _end_of_answer(text, start)
    if (start, end) != (0, len(text)):
        text = text[start:end]
    fence = ""
    for line, _ in _lines(text):
        if not fence:
            fence = _opens(line)
        elif _closes(line, fence):
            fence = ""
    return f"{text}\n{fence}" if fence else text


class BoundedCache(MutableMapping[str, str]):
    """A mapping that keeps what was used last, within a number of entries and of characters; thread-safe.

    A lookup is counted once: `in` counts a miss, reading counts a hit or a miss, so that
    `if key in cache: return cache[key]` counts one. Another thread may evict between the two.

    Attributes:
        hits: lookups that found something.
        misses: lookups that found nothing.
        evictions: entries dropped for a newer one.
        refusals: entries too large to be kept at all.
    """

    def __init__(
        self, *, entries_max: int = CACHE_ENTRIES_MAX, characters_max: int = CACHE_CHARACTERS_MAX
    ) -> None:
        self._entries: OrderedDict[str, str] = OrderedDict()
        self._entries_max = entries_max
        self._characters_max = characters_max
        self._characters = 0
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self.refusals = 0

    def __contains__(self, key: object) -> bool:
        with self._lock:
            found = key in self._entries
            self.misses += not found
            return found

    def __getitem__(self, key: str) -> str:
        with self._lock:
            if key not in self._entries:
                self.misses += 1
                raise KeyError(key)
            self.hits += 1
            self._entries.move_to_end(key)
            return self._entries[key]

    def __setitem__(self, key: str, value: str) -> None:
        size = len(key) + len(value)
        with self._lock:
            self._drop(key)
            if size > self._characters_max or self._entries_max < 1:
                self.refusals += 1
                return
            self._entries[key] = value
            self._characters += size
            while len(self._entries) > self._entries_max or self._characters > self._characters_max:
                oldest = next(iter(self._entries))
                self._drop(oldest)
                self.evictions += 1

    def __delitem__(self, key: str) -> None:
        with self._lock:
            if not self._drop(key):
                raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def characters(self) -> int:
        """Characters held, keys and values."""
        return self._characters

    def clear(self) -> None:
        """Forget all entries; the counts stay."""
        with self._lock:
            self._entries.clear()
            self._characters = 0

    def _drop(self, key: str) -> bool:
        value = self._entries.pop(key, None)
        if value is None:
            return False
        self._characters -= len(key) + len(value)
        return True


preprocessing_cache = BoundedCache()
"""Prompts seen, by what they became; shared by the process."""


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Every line with its end; the last one without an end, unless it is empty."""
    for found in _LINE.finditer(text):
        if found[0]:
            yield found[1], found[2]


def _clean(line: str) -> str:
    line = _CONTROL.sub("", _PAGE_BREAK.sub(" ", line))
    return unicodedata.normalize("NFC", line).rstrip(" \t")


def _opens(line: str) -> str:
    """The fence that a line opens, empty if none (CommonMark 0.31, 4.5)."""
    found = _FENCE_OPENS.match(line)
    return (found[1] or found[2]) if found else ""


def _closes(line: str, fence: str) -> bool:
    found = _FENCE_CLOSES.match(line)
    return found is not None and found[1][0] == fence[0] and len(found[1]) >= len(fence)


def _end_of_answer(text: str, start: int) -> int:
    """Where the answer ends before trailing blanks and tokens; looks at a few characters at a time."""
    end = len(text)
    while True:
        while end > start and text[end - 1].isspace():
            end -= 1
        window = max(start, end - _MARK_CHARACTERS_MAX)
        starts = (at for at in range(window, end) if text[at] in "<[")
        found = next((at for at in starts if _TRAILING_MARK.match(text[at:end])), None)
        if found is None:
            return end
        end = found
