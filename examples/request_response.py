"""Request and response: a stream for each question, closed when it is answered.

$ python -m examples.request_response serve 4433
$ python -m examples.request_response ask 127.0.0.1:4433 "GET /time"
"""

from __future__ import annotations

import sys
from contextlib import suppress

import anyio

from stt_anyio import MessageStream, STTNode, STTSession

RESOURCES = {b"GET /motto": b"two programs talk privately", b"GET /answer": b"42"}


async def answer(stream: MessageStream) -> None:
    """One question, one answer."""
    async with stream:
        request = await stream.receive()
        await stream.send(RESOURCES.get(request, b"404 not found"))


async def handle(session: STTSession) -> None:
    """Answer all questions of one session, side by side."""
    async with anyio.create_task_group() as tasks:
        while True:
            stream = await session.accept_stream()
            assert isinstance(stream, MessageStream)
            tasks.start_soon(answer, stream)


async def ask(session: STTSession, request: bytes) -> bytes:
    """The answer to one question."""
    async with session.open_stream(purpose="request") as stream:
        await stream.send(request)
        return await stream.receive()


async def main(arguments: list[str]) -> None:
    """Serve on a port, or ask the server at an address."""
    role, where, *requests = arguments
    if role == "serve":
        async with STTNode(port=int(where)) as node:
            print(f"serving on port {node.port}", flush=True)
            await node.serve(handle)
        return
    host, _, port = where.rpartition(":")
    async with STTNode() as node, await node.connect((host, int(port)), timeout=5) as session:
        for request in requests:
            print((await ask(session, request.encode())).decode())


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        anyio.run(main, sys.argv[1:])
