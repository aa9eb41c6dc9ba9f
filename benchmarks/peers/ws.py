"""websockets over TLS 1.3, its asyncio implementation, with its limits lifted and no compression."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from websockets.asyncio.client import connect as ws_connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as ws_serve

from benchmarks.certificates import HOST
from benchmarks.peers.interface import CHUNK, Channel, Connect, Session, Task
from benchmarks.peers.tls import client_context, server_context

SETTINGS: dict[str, Any] = {"compression": None, "max_size": None, "write_limit": 1 << 20}
END = "end"
"""A text message: all before it are binary."""


async def _echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def _count_bytes(connection: ServerConnection) -> None:
    count = 0
    while (message := await connection.recv()) != END:
        count += len(message)
    await connection.send(str(count))


async def _send_share(share: int, connection: ServerConnection) -> None:
    await connection.recv()
    for _ in range(share // len(CHUNK)):
        await connection.send(CHUNK)
    await connection.wait_closed()


async def _count_messages(connection: ServerConnection) -> None:
    count = 0
    while await connection.recv() != END:
        count += 1
    await connection.send(str(count))


@asynccontextmanager
async def serve(task: Task) -> AsyncIterator[int]:
    download = partial(_send_share, task.share)
    handlers: dict[str, Callable[[ServerConnection], Awaitable[None]]] = {
        "echo": _echo,
        "messages": _count_messages,
        "transfer": _count_bytes,
        "download": download,
    }
    async with ws_serve(handlers[task.kind], "127.0.0.1", 0, ssl=server_context(task), **SETTINGS) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@asynccontextmanager
async def client(task: Task, port: int) -> AsyncIterator[Connect]:
    context = client_context(task)

    async def connect() -> Session:
        connection = await ws_connect(
            f"wss://{HOST}:{port}", host="127.0.0.1", port=port, ssl=context, proxy=None, **SETTINGS
        )

        async def finish() -> None:
            await connection.send(END)

        async def open_channel() -> Channel:
            return Channel(connection.send, connection.recv, finish)

        return Session(open_channel, connection.close)

    yield connect
