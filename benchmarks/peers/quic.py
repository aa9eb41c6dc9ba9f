"""aioquic and qh3, which share one interface: protocols that take the library's events as they come.

Both through their own ``connect`` and ``serve`` (qh3's bring segmentation offload), with the ciphers they prefer. Flow
windows, what is queued at once and the size of a write are what was fastest for both; larger windows, larger socket
buffers and unlimited queues were tried, and cost them up to half.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.certificates import HOST
from benchmarks.peers.interface import Channel, Connect, Session, Task

WINDOW = 4 << 20
BACKLOG = 4 << 20
"""Bytes queued for sending at once; neither library sets a limit."""
STEP = 64 * 1024
"""Bytes handed over between two turns of sending."""
LENGTH = Struct(">H")
"""Before each message."""

if TYPE_CHECKING:

    class _Base:
        """What the ``QuicConnectionProtocol`` of both has, as far as it is used here."""

        _quic: Any
        _loop: asyncio.AbstractEventLoop
        stream_data: ClassVar[type[Any]]

        def __init__(self, *args: Any, **settings: Any) -> None: ...
        def transmit(self) -> None: ...

else:
    _Base = object


def _protocol(library: str, kind: type[Any]) -> type[Any]:
    """``kind`` on top of the library's own protocol."""
    base = import_module(f"{library}.asyncio.protocol").QuicConnectionProtocol
    data = import_module(f"{library}.quic.events").StreamDataReceived
    return type(kind.__name__, (kind, base), {"stream_data": data})


class _Echo(_Base):
    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, self.stream_data):
            self._quic.send_stream_data(event.stream_id, event.data)
            self.transmit()


class _CountBytes(_Base):
    _count = 0

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, self.stream_data):
            self._count += len(event.data)
            if event.end_stream:
                self._quic.send_stream_data(event.stream_id, str(self._count).encode(), end_stream=True)


class _CountMessages(_Base):
    _count = 0
    _rest = b""

    def quic_event_received(self, event: Any) -> None:
        if not isinstance(event, self.stream_data):
            return
        data = self._rest + event.data
        start, end = 0, len(data)
        while end - start >= LENGTH.size:
            after = start + LENGTH.size + LENGTH.unpack_from(data, start)[0]
            if after > end:
                break
            message = data[start + LENGTH.size : after]
            self._count += len(message) > 0
            start = after
        self._rest = data[start:]
        if event.end_stream:
            self._quic.send_stream_data(event.stream_id, str(self._count).encode(), end_stream=True)


class _Client(_Base):
    """One stream; one waits to send or to receive, never more."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._arrived: deque[bytes] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._queued = 0
        self._id = 0

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, self.stream_data) and event.data:
            self._arrived.append(event.data)
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                waiting.set_result(None)

    def transmit(self) -> None:
        """The library calls this after everything that may have made room."""
        super().transmit()
        if self._room is not None and self._backlog() < BACKLOG:
            room, self._room = self._room, None
            room.set_result(None)

    def _backlog(self) -> int:
        if hasattr(self._quic, "get_send_buffer_size"):  # qh3
            return int(self._quic.get_send_buffer_size(self._id))
        stream = self._quic._streams.get(self._id)  # aioquic has no public way to ask
        return 0 if stream is None else len(stream.sender._buffer)

    async def _send_some(self) -> None:
        self.transmit()
        if self._backlog() >= BACKLOG:
            self._room = self._loop.create_future()
            await self._room

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), STEP):
            self._quic.send_stream_data(self._id, data[start : start + STEP])
            await self._send_some()

    async def send_message(self, message: bytes) -> None:
        self._quic.send_stream_data(self._id, LENGTH.pack(len(message)) + message)
        self._queued += len(message)
        if self._queued >= STEP:
            self._queued = 0
            await self._send_some()

    async def receive(self) -> bytes:
        while not self._arrived:
            self._waiting = self._loop.create_future()
            await self._waiting
        return self._arrived.popleft()

    async def finish(self) -> None:
        self._quic.send_stream_data(self._id, b"", end_stream=True)
        self.transmit()

    async def open_bytes(self) -> Channel:
        self._id = self._quic.get_next_available_stream_id()
        return Channel(self.send, self.receive, self.finish)

    async def open_messages(self) -> Channel:
        self._id = self._quic.get_next_available_stream_id()
        return Channel(self.send_message, self.receive, self.finish)


def _configuration(task: Task, *, is_client: bool) -> Any:
    configuration = import_module(f"{task.library}.quic.configuration").QuicConfiguration(
        is_client=is_client, alpn_protocols=["benchmark"], max_data=WINDOW, max_stream_data=WINDOW, idle_timeout=120.0
    )
    if task.datagram:
        configuration.max_datagram_size = task.datagram
        configuration.probe_datagram_size = False  # qh3's; aioquic never probes
    folder = Path(task.certificates)
    if is_client:
        configuration.server_name = HOST
        configuration.load_verify_locations(cafile=str(folder / "authority.pem"))
    else:
        configuration.load_cert_chain(str(folder / "certificate.pem"), str(folder / "key.pem"))
    return configuration


@asynccontextmanager
async def serve(task: Task) -> AsyncIterator[int]:
    kind = {"echo": _Echo, "messages": _CountMessages}.get(task.kind, _CountBytes)
    server = await import_module(f"{task.library}.asyncio").serve(
        "127.0.0.1",
        0,
        configuration=_configuration(task, is_client=False),
        create_protocol=_protocol(task.library, kind),
    )
    try:
        yield server._transport.get_extra_info("sockname")[1]
    finally:
        server.close()


@asynccontextmanager
async def client(task: Task, port: int) -> AsyncIterator[Connect]:
    quic_connect = import_module(f"{task.library}.asyncio").connect
    protocol_class = _protocol(task.library, _Client)
    leaving: set[asyncio.Task[None]] = set()

    async def connect() -> Session:
        context = AsyncExitStack()
        protocol = await context.enter_async_context(
            quic_connect(
                "127.0.0.1",
                port,
                configuration=_configuration(task, is_client=True),
                create_protocol=protocol_class,
            )
        )

        async def close() -> None:
            # The goodbye leaves at once; nobody is made to wait for the draining period that follows it.
            protocol.close()
            rest = asyncio.create_task(context.aclose())
            leaving.add(rest)
            rest.add_done_callback(leaving.discard)

        return Session(protocol.open_messages if task.kind == "messages" else protocol.open_bytes, close)

    yield connect
    await asyncio.gather(*leaving)
