"""What a target said when it refused: its own words, one sample of each status."""

import re

import msgspec
from msgspec import Struct

STATUSES_MAX = 8
SAID_MAX = 300
_MESSAGE = re.compile(r'"(?:message|detail|error)"\s*:\s*("(?:[^"\\]|\\.)*")')
_TAG = re.compile(r"<[^>]*>")


class Said(Struct, frozen=True):
    """One status that answered requests, and the words that came with it."""

    status: int
    words: str = ""


class Words:
    """The words of the first refusal with each status; `STATUSES_MAX` of them."""

    def __init__(self) -> None:
        self._kept: dict[int, str] = {}

    def take(self, status: int, head: bytes) -> None:
        """Keep what stood in the first bytes of an answer, head and all."""
        if status not in self._kept and len(self._kept) < STATUSES_MAX:
            self._kept[status] = words_in(head)

    @property
    def kept(self) -> list[Said]:
        """All of them."""
        return [Said(status, words) for status, words in self._kept.items()]


def words_in(head: bytes) -> str:
    """The message of an answer whose first bytes these are: its JSON's, or its text's first line."""
    body = head.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")
    found = _MESSAGE.search(body)
    if found is not None:
        try:
            text = msgspec.json.decode(found[1], type=str)
        except msgspec.MsgspecError:
            text = found[1]
    elif body.lstrip().startswith("<"):
        text = _TAG.sub(" ", body)
    else:
        text = body
    printable = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(printable.split())[:SAID_MAX]
