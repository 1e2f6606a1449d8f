"""What a forked child must not take over: locks that a thread of its parent held, threads that are gone."""

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Somebody who begins anew in a forked child."""

    def forked(self) -> None:
        """Called in the child before anything else runs: take fresh locks, forget the parent's threads."""
        ...


_forked: "weakref.WeakSet[Forked]" = weakref.WeakSet()


def begin_anew(owner: Forked) -> None:
    """Tell `owner` in every child that is forked from now on; for as long as it lives."""
    _forked.add(owner)


def _in_child() -> None:
    for owner in list(_forked):
        owner.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
