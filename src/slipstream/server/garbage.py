"""How often a server process looks for garbage in cycles: seldom, for nothing of ours lies in them long."""

import gc

YOUNG = 20_000
"""Objects made and not yet gone at which the youngest are looked at; Python's 700 are a batch of records."""


def spare() -> None:
    """Leave out of every look what start-up has made: it stays to the end. Worth 4 us a request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
