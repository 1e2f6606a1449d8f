"""A child's standard input as its lifeline: it says that it serves, and ends when that input is closed."""

import asyncio
import sys


async def serve_until_cut(said: str) -> None:
    """Say one line on standard output, then wait until whoever started this process lets go of it."""
    lifeline = asyncio.StreamReader(limit=1024)
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lifeline), sys.stdin)
    sys.stdout.write(said + "\n")
    sys.stdout.flush()
    try:
        while await lifeline.read(1024):
            pass
    finally:
        pipe.close()
