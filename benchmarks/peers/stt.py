"""STT through its public adapters: ``stt_anyio`` on asyncio, uvloop or trio, and, as ``stt-trio``, ``stt_trio``;
``stt-ws`` is the first over WebSocket, without TLS.

The task groups and timeouts around them are anyio's in either case, as in all of the benchmarks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
import trio

import stt_trio
from benchmarks.peers.interface import CHUNK, Channel, Connect, Session, Task
from stt_anyio import ByteStream, MessageStream, STTNode, STTSession
from stt_core.errors import SessionClosedError

AnyNode = STTNode | stt_trio.STTNode
AnySession = STTSession | stt_trio.STTSession
AnyByteStream = ByteStream | stt_trio.ByteStream
AnyStream = AnyByteStream | MessageStream | stt_trio.MessageStream

SEED = b"seed of a benchmark"
MESSAGES = ("echo", "messages")
"""The workloads whose streams keep message boundaries."""
READ = 256 * 1024
"""What one ``receive`` of bytes takes: as much as the other stacks' buffers hold."""


def _node(name: bytes, task: Task) -> AnyNode:
    # Defaults but for what the task is about: no rationing of handshakes that all come from one address, room for its
    # sessions and streams, and pacing where loopback is but the way to a slower link.
    kind: type[AnyNode] = stt_trio.STTNode if task.library == "stt-trio" else STTNode
    return kind(
        name,
        shared_seed=SEED,
        bind_address="127.0.0.1",
        transport="websocket" if task.library == "stt-ws" else "udp",
        max_udp_payload=task.datagram or None,
        max_sessions=20_000,
        max_streams=max(128, 2 * task.streams),
        rate_limits=None,
        pacing_on_loopback=bool(task.link),
    )


@asynccontextmanager
async def serve(task: Task) -> AsyncIterator[int]:
    async with _node(b"server", task) as node, anyio.create_task_group() as tasks:
        if task.kind in ("handshake", "idle"):
            tasks.start_soon(_accept, node)
        elif task.kind == "download":
            tasks.start_soon(node.serve, partial(_send_share, task.share))
        else:
            tasks.start_soon(node.serve, _echo_streams if task.kind == "echo" else _count_streams)
        yield node.port
        tasks.cancel_scope.cancel()


async def _accept(node: AnyNode) -> None:
    async for _ in node.incoming():
        pass


async def _echo_streams(session: AnySession) -> None:
    stream = await session.accept_stream()
    async for message in stream:
        await stream.send(message)


async def _send_share(share: int, session: AnySession) -> None:
    stream = await session.accept_stream()
    await stream.receive()
    for _ in range(share // len(CHUNK)):
        await stream.send(CHUNK)
    await stream.send_eof()


async def _count_streams(session: AnySession) -> None:
    async with anyio.create_task_group() as tasks:
        while True:
            try:
                stream = await session.accept_stream()
            except SessionClosedError:
                return
            tasks.start_soon(_count, stream)


async def _count(stream: AnyStream) -> None:
    count = 0
    if not isinstance(stream, AnyByteStream):
        async for _ in stream:
            count += 1
    else:
        with suppress(anyio.EndOfStream, trio.EndOfChannel):
            while True:
                count += len(await stream.receive(READ))
    await stream.send(str(count).encode())
    await stream.send_eof()


@asynccontextmanager
async def client(task: Task, port: int) -> AsyncIterator[Connect]:
    mode: Any = "messages" if task.kind in MESSAGES else "bytes"

    async with _node(b"client", task) as node:

        async def connect() -> Session:
            websocket = task.library == "stt-ws"
            session = await node.connect(f"ws://127.0.0.1:{port}/" if websocket else ("127.0.0.1", port))

            async def open_channel() -> Channel:
                stream = await session.open_stream_when_possible(mode=mode)

                async def end() -> None:
                    async for _ in stream:
                        pass

                receive = partial(stream.receive, READ) if isinstance(stream, AnyByteStream) else stream.receive
                return Channel(stream.send, receive, stream.send_eof, end)

            return Session(open_channel, session.close)

        yield connect
