"""Print an answer as it comes, and how long each piece of it took to arrive."""

import asyncio

from slipstream import model


async def main() -> None:
    before = None
    async for piece in model.generate_stream("Name three rivers in Europe."):
        gap = 0 if before is None else (piece.arrived_ns - before) / 1e6
        before = piece.arrived_ns
        print(f"{gap:7.1f} ms  {piece!r}")


asyncio.run(main())
