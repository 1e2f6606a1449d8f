"""What is told of a time that an event loop stood still: the word between workers, supervisor and doctor."""

from msgspec import Struct


class StallSeen(Struct, frozen=True, array_like=True):
    """One time that a worker's event loop stood still.

    Attributes:
        wall_ns: when it was over.
        seconds: for how long the loop did not turn.
        place: the line that held it, empty where that is not known.
        task: the task that ran; `victims`: how many requests were under way.
        slot: which worker it was.
    """

    wall_ns: int
    seconds: float
    place: str = ""
    task: str = ""
    victims: int = 0
    slot: int = 0
