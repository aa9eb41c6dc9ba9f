"""TLS 1.3 over TCP with asyncio: as protocols with large writes and a buffer of their own to read into, its best shape.

``tls-streams`` is the same by way of asyncio's streams, as most programs have it; for transfers alone.
TLS has no half-close in asyncio, so the server knows from the task when all has arrived.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from benchmarks.certificates import HOST
from benchmarks.peers.interface import Channel, Connect, Session, Task, nothing

BUFFER = 256 * 1024
"""As much as asyncio's TLS reads from the socket at once."""
BACKLOG = 1024


def server_context(task: Task) -> ssl.SSLContext:
    """TLS 1.3 only; which cipher is OpenSSL's affair (AES-256-GCM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    folder = Path(task.certificates)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


def client_context(task: Task) -> ssl.SSLContext:
    """Trusts the benchmark's authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(Path(task.certificates) / "authority.pem")
    return context


class _Count(asyncio.BufferedProtocol):
    """Counts what arrives and answers once the share is there."""

    def __init__(self, share: int) -> None:
        self._left = self._share = share
        self._buffer = memoryview(bytearray(BUFFER))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._left -= nbytes
        if self._left == 0:
            self._transport.write(str(self._share).encode())


class _Idle(asyncio.Protocol):
    """Holds the connection."""


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self._write(data)


class _Client(asyncio.Protocol):
    """The client's end: one waits to send or to receive, never more."""

    def __init__(self) -> None:
        self._arrived: deque[bytes] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.set_result(None)

    async def _changed(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    def data_received(self, data: bytes) -> None:
        self._arrived.append(data)
        self._wake()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    async def send(self, data: bytes) -> None:
        while self._paused:
            await self._changed()
        self._transport.write(data)

    async def receive(self) -> bytes:
        while not self._arrived:
            await self._changed()
        return self._arrived.popleft()

    async def open(self) -> Channel:
        return Channel(self.send, self.receive, nothing)

    async def close(self) -> None:
        self._transport.close()


@asynccontextmanager
async def serve(task: Task) -> AsyncIterator[int]:
    context = server_context(task)
    if task.library == "tls-streams":
        server = await asyncio.start_server(_count_of(task.share), "127.0.0.1", 0, ssl=context, backlog=BACKLOG)
    else:
        kinds: dict[str, Callable[[], asyncio.BaseProtocol]] = {
            "echo": _Echo,
            "handshake": _Idle,
            "idle": _Idle,
            "transfer": lambda: _Count(task.share),
        }
        loop = asyncio.get_running_loop()
        server = await loop.create_server(kinds[task.kind], "127.0.0.1", 0, ssl=context, backlog=BACKLOG)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _count_of(share: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], asyncio.Future[None]]:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = share
        while left > 0:
            left -= len(await reader.read(BUFFER))
        writer.write(str(share).encode())
        await reader.read()
        writer.close()

    return count  # type: ignore[return-value]


@asynccontextmanager
async def client(task: Task, port: int) -> AsyncIterator[Connect]:
    context = client_context(task)
    loop = asyncio.get_running_loop()

    async def connect() -> Session:
        _, protocol = await loop.create_connection(_Client, "127.0.0.1", port, ssl=context, server_hostname=HOST)
        return Session(protocol.open, protocol.close)

    async def connect_streams() -> Session:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=HOST)

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        async def receive() -> bytes:
            return await reader.read(BUFFER)

        async def open_channel() -> Channel:
            return Channel(send, receive, nothing)

        async def close() -> None:
            writer.close()

        return Session(open_channel, close)

    yield connect_streams if task.library == "tls-streams" else connect
