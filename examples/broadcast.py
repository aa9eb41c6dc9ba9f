"""A server with many viewers: each gets every tick it can keep up with, and comes back by itself when it is cut off.

$ python -m examples.broadcast serve 4433
$ python -m examples.broadcast watch 127.0.0.1:4433
"""

from __future__ import annotations

import itertools
import sys
from contextlib import suppress

import anyio

from stt_anyio import SessionClosedError, STTNode

TICK = 0.05
"""Seconds."""


async def serve(port: int) -> None:
    """Send a tick to all who are there, again and again."""
    async with STTNode(port=port) as node:
        print(f"serving on port {node.port}", flush=True)
        for number in itertools.count():
            await node.send_to_all(f"tick {number}".encode(), stream_id=1)
            await anyio.sleep(TICK)


async def watch(host: str, port: int, most: int) -> None:
    """Print ticks, from one session after the other."""
    async with STTNode() as node:
        async for session in node.reconnecting((host, port), first_delay=0.1):
            ticks = session.open_stream(stream_id=1)
            try:
                for _ in range(most):
                    print((await ticks.receive()).decode(), flush=True)
                return
            except SessionClosedError as error:
                print(f"lost the server: {error.reason}", flush=True)


async def main(arguments: list[str]) -> None:
    """Serve on a port, or watch what the server at an address sends."""
    role, where, *most = arguments
    if role == "serve":
        await serve(int(where))
        return
    host, _, port = where.rpartition(":")
    await watch(host, int(port), int(most[0]) if most else 10)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        anyio.run(main, sys.argv[1:])
