"""Bidirectional streaming: both sides send and receive on one stream at the same time, each at its own pace.

$ python -m examples.bidirectional serve 4433
$ python -m examples.bidirectional call 127.0.0.1:4433
"""

from __future__ import annotations

import sys
from contextlib import suppress

import anyio

from stt_anyio import MessageStream, STTNode, STTSession

COUNT = 1000


async def send_all(stream: MessageStream, name: str) -> None:
    """Send, then end this half: the peer's loop ends with it, and ours goes on."""
    for number in range(COUNT):
        await stream.send(f"{name} {number}".encode())
    await stream.send_eof()


async def receive_all(stream: MessageStream) -> None:
    """Receive until the peer ends its half."""
    received = [message async for message in stream]
    print(f"{len(received)} messages, the last: {received[-1].decode()}", flush=True)


async def talk(stream: MessageStream, name: str) -> None:
    """Both at once."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_all, stream, name)
        tasks.start_soon(receive_all, stream)


async def handle(session: STTSession) -> None:
    """The server's side."""
    stream = await session.accept_stream()
    assert isinstance(stream, MessageStream)
    await talk(stream, "server")
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
    async with STTNode() as node, await node.connect((host, int(port)), timeout=5) as session:
        stream = session.open_stream(purpose="conversation")
        assert isinstance(stream, MessageStream)
        await talk(stream, "client")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        anyio.run(main, sys.argv[1:])
