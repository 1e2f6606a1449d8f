"""A command as a child of the server: `python -m slipstream.cli.tethered doctor …`, of lower priority.

Standard input is its lifeline: when that ends, even because the parent was killed, the command is terminated
as by a signal, so that it can take back what it has changed, and is gone for sure a while later.
"""

import os
import signal
import threading

from slipstream.cli import main

NICENESS = 10
"""Replaying costs seconds of CPU; whoever serves requests meanwhile goes first."""

LAST_SECONDS = 60.0
"""For taking back, once nobody holds the lifeline any more."""


def run() -> None:
    """Run the command line and exit."""
    os.nice(NICENESS)
    threading.Thread(target=_watch_lifeline, name="lifeline", daemon=True).start()
    main()


def _watch_lifeline() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(LAST_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    run()
