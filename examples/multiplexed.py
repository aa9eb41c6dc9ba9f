"""Multiplexed streams: video, audio and chat side by side, the chat first when the line is full.

Both sides open the streams by numbers they agreed on. A loss on one holds up no other, and a lower priority number
goes first.

$ python -m examples.multiplexed serve 4433
$ python -m examples.multiplexed call 127.0.0.1:4433
"""

from __future__ import annotations

import sys
from contextlib import suppress

import anyio

from stt_anyio import STTNode, STTSession

STREAMS = {1: ("video", 6, 40_000, 50), 2: ("audio", 3, 400, 100), 3: ("chat", 0, 40, 5)}
"""By stream id: purpose, priority, bytes of a message, how many of them."""


async def send(session: STTSession, stream_id: int) -> None:
    """All messages of one stream."""
    purpose, priority, size, count = STREAMS[stream_id]
    async with session.open_stream(stream_id=stream_id, purpose=purpose, priority=priority) as stream:
        for _ in range(count):
            await stream.send(bytes(size))
        await stream.wait_acknowledged()


async def receive(session: STTSession, stream_id: int) -> None:
    """What comes on one stream, to its end."""
    stream = session.open_stream(stream_id=stream_id)
    sizes = [len(message) async for message in stream]
    print(f"{stream.purpose}: {len(sizes)} messages, {sum(sizes)} bytes", flush=True)


async def handle(session: STTSession) -> None:
    """The server's side."""
    async with anyio.create_task_group() as tasks:
        for stream_id in STREAMS:
            tasks.start_soon(receive, session, stream_id)
    await session.wait_closed()


async def main(arguments: list[str]) -> None:
    """Serve on a port, or call the server at an address."""
    role, where = arguments
    if role == "serve":
        async with STTNode(port=int(where)) as node:
            print(f"serving on port {node.port}", flush=True)
            await node.serve(handle)
        return
    host, _, port = where.rpartition(":")
    async with (
        STTNode() as node,
        await node.connect((host, int(port)), timeout=5) as session,
        anyio.create_task_group() as tasks,
    ):
        for stream_id in STREAMS:
            tasks.start_soon(send, session, stream_id)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        anyio.run(main, sys.argv[1:])
