"""What somebody may have meant who wrote a name that does not exist."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest known names, two at most; empty where none is near."""
    close = difflib.get_close_matches(name.lower(), list(known), n=2, cutoff=0.6)
    return "Did you mean " + " or ".join(f"`{each}`" for each in close) + "?" if close else ""
