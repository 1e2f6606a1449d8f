"""A message that is to be delivered: when it is tried, tried again, and given up. Pure."""

from typing import Literal

import msgspec
from msgspec import Struct

FIRST_PAUSE_NS = 5 * 1_000_000_000
LONGEST_PAUSE_NS = 600 * 1_000_000_000
ERROR_LENGTH_MAX = 500


class Message(Struct, frozen=True):
    """One message to one receiver.

    Attributes:
        kind: what the payload is, so that whoever sends it knows how to read it.
        receiver: name of the receiver in the settings.
        subject: a line for people.
        payload: what is sent, as its kind encodes it.
        tries: how often it was tried.
        due_wall_ns: when it is tried next.
        error: why the latest try failed.
        left: of several addresses those that do not have it yet; empty = all of them.
    """

    id: str
    kind: str
    receiver: str
    subject: str
    payload: bytes
    created_wall_ns: int
    state: Literal["waiting", "sent", "dead"] = "waiting"
    tries: int = 0
    due_wall_ns: int = 0
    error: str = ""
    left: tuple[str, ...] = ()


def delivered(message: Message) -> Message:
    """The message after it arrived."""
    return msgspec.structs.replace(message, state="sent", tries=message.tries + 1, error="")


def failed(
    message: Message,
    error: str,
    now_wall_ns: int,
    *,
    is_final: bool,
    keep_ns: int,
    chance: float,
    left: tuple[str, ...] = (),
) -> Message:
    """The message after a try that failed: due again after a pause that doubles, or dead.

    Args:
        message: as it was tried.
        error: why.
        now_wall_ns: the time of day.
        is_final: whether trying again cannot help.
        keep_ns: for how long it is tried at all. A clock that went back begins that time anew.
        chance: random, in [0, 1): spreads those that failed together.
        left: addresses that do not have it, where others do.
    """
    tries = message.tries + 1
    age_ns = now_wall_ns - message.created_wall_ns
    is_dead = is_final or age_ns >= keep_ns
    pause_ns = min(LONGEST_PAUSE_NS, FIRST_PAUSE_NS * 2 ** min(tries - 1, 20)) * (0.75 + 0.5 * chance)
    return msgspec.structs.replace(
        message,
        state="dead" if is_dead else "waiting",
        tries=tries,
        due_wall_ns=now_wall_ns + int(pause_ns),
        error=error[:ERROR_LENGTH_MAX],
        left=left or message.left,
    )


def is_due(message: Message, now_wall_ns: int) -> bool:
    """Whether it is to be tried now. A clock that went back far does not put it off for as long."""
    return message.state == "waiting" and not 0 < message.due_wall_ns - now_wall_ns <= 2 * LONGEST_PAUSE_NS


def again(message: Message) -> Message:
    """A dead message, to be tried anew."""
    return msgspec.structs.replace(message, state="waiting", tries=0, due_wall_ns=0)
