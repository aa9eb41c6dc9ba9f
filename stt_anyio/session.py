"""A session as an application holds it: its streams, its datagrams, its end."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import anyio
import anyio.lowlevel

from stt_anyio.errors import SessionClosedError, translate, translated
from stt_anyio.parking import parking_lot
from stt_anyio.streams import ByteStream, MessageStream
from stt_core.errors import CloseReason, ErrorCode, StreamLimitError
from stt_core.events import (
    DatagramsReadable,
    Event,
    SessionClosed,
    StreamAcknowledged,
    StreamFinished,
    StreamOpened,
    StreamReadable,
    StreamsAvailable,
    StreamStopped,
    StreamWritable,
)
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.statistics import SessionStatistics
from stt_core.types import Path, StreamMode

if TYPE_CHECKING:
    from stt_anyio.node import STTNode

CLOSE_LINGER = 5.0
"""Seconds ``close`` spends on getting what was sent acknowledged, before it says goodbye regardless."""

OF_STREAMS = (StreamReadable, StreamWritable, StreamStopped, StreamAcknowledged, StreamFinished)
"""News of one stream that is there: most of all news."""
_MODES = {"messages": StreamMode.MESSAGES, "bytes": StreamMode.BYTES}


class STTSession:
    """An encrypted, authenticated channel to one peer. Use as ``async with`` to have it closed."""

    def __init__(self, node: STTNode, core: Session) -> None:
        self.node = node
        self.core = core
        self._streams: dict[int, MessageStream | ByteStream] = {}
        self._incoming: list[MessageStream | ByteStream] = []  # an empty deque is 800 bytes for each session
        self._news = parking_lot()
        self._over: anyio.Event | None = None

    def __repr__(self) -> str:
        return f"<STTSession {self.session_id.hex()} {self.state.value}>"

    # --- what it is

    @property
    def session_id(self) -> bytes:
        """8 bytes, the same on both sides; public."""
        return self.core.session_id

    @property
    def peer_node_id(self) -> bytes:
        """The label the peer gave itself; any holder of the seed can claim any."""
        return self.core.peer_node_id

    @property
    def peer_identity_key(self) -> bytes | None:
        """The peer's proven Ed25519 key, where it has one."""
        return self.core.peer_identity_key

    @property
    def state(self) -> SessionState:
        """Where the session is in its life."""
        return self.core.state

    @property
    def path(self) -> Path:
        """Transport and address packets go to now."""
        return self.core.path

    @property
    def alive(self) -> bool:
        """Whether streams can be opened and data sent."""
        return self.core.state is SessionState.ESTABLISHED

    def statistics(self) -> SessionStatistics:
        """What was sent, received and measured so far."""
        return self.core.statistics()

    # --- streams

    def open_stream(
        self,
        *,
        stream_id: int | None = None,
        purpose: str = "",
        priority: int = 3,
        mode: Literal["messages", "bytes"] = "messages",
    ) -> MessageStream | ByteStream:
        """Open a bidirectional stream; ``mode="bytes"`` gives a :class:`ByteStream`, else a :class:`MessageStream`.

        ``stream_id`` 1 to 2^20 is shared: the peer that opens the same number holds the other end of this stream.

        :raises StreamLimitError: at the peer's limit (:meth:`open_stream_when_possible` waits).
        """
        if mode not in _MODES:
            raise ValueError(f"mode is {mode!r}, expected 'messages' or 'bytes'")
        with translated():
            opened = self.core.open_stream(stream_id=stream_id, purpose=purpose, priority=priority, mode=_MODES[mode])
        self.kick()
        stream = self._streams.get(opened)
        if stream is None:
            return self._add(opened, _MODES[mode], purpose, priority)
        stream.refresh()
        if stream in self._incoming:  # the peer was first; whoever opens it too has no need to accept it
            self._incoming.remove(stream)
        return stream

    def open_byte_stream(self, *, stream_id: int | None = None, purpose: str = "", priority: int = 3) -> ByteStream:
        """:meth:`open_stream` with ``mode="bytes"``, typed."""
        stream = self.open_stream(stream_id=stream_id, purpose=purpose, priority=priority, mode="bytes")
        if not isinstance(stream, ByteStream):
            raise TypeError(f"stream {stream.stream_id} is open already, in message mode")
        return stream

    async def open_stream_when_possible(
        self, *, purpose: str = "", priority: int = 3, mode: Literal["messages", "bytes"] = "messages"
    ) -> MessageStream | ByteStream:
        """:meth:`open_stream`, waiting where the peer's limit on concurrent streams is reached."""
        await anyio.lowlevel.checkpoint()
        while True:
            try:
                return self.open_stream(purpose=purpose, priority=priority, mode=mode)
            except StreamLimitError:
                await self._news.park()

    async def accept_stream(self) -> MessageStream | ByteStream:
        """The next stream the peer opened; ``purpose``, ``priority`` and ``mode`` are as it said.

        :raises SessionClosedError: when the session is over and none waits.
        """
        await anyio.lowlevel.checkpoint()
        while not self._incoming:
            self.raise_if_over()
            await self._news.park()
        return self._incoming.pop(0)

    def get_stream(self, stream_id: int) -> MessageStream | ByteStream:
        """An open stream by its id, whoever opened it.

        :raises KeyError: if there is none.
        """
        return self._streams[stream_id]

    def _add(self, stream_id: int, mode: StreamMode, purpose: str, priority: int) -> MessageStream | ByteStream:
        kind = ByteStream if mode is StreamMode.BYTES else MessageStream
        stream = self._streams[stream_id] = kind(self, stream_id, mode, purpose, priority)
        return stream

    # --- datagrams

    @property
    def max_datagram_size(self) -> int:
        """The longest datagram that fits the path now, in bytes."""
        return self.core.max_datagram_size

    async def send_datagram(self, data: bytes) -> bool:
        """Send an unreliable, unordered message (RFC 9221); False if it was dropped because the queue is full.

        :raises MessageTooLargeError: above :attr:`max_datagram_size`.
        """
        await anyio.lowlevel.checkpoint()
        with translated():
            accepted = self.core.send_datagram(bytes(memoryview(data)))
        self.kick()
        return accepted

    async def receive_datagram(self) -> bytes:
        """The next unreliable message.

        :raises SessionClosedError: when the session is over and none waits.
        """
        await anyio.lowlevel.checkpoint()
        while (data := self.core.read_datagram()) is None:
            self.raise_if_over()
            await self._news.park()
        return data

    # --- the end

    def raise_if_over(self) -> None:
        """Raise what a call on a session that has ended should raise."""
        if self.core.error is not None:
            raise translate(self.core.error)
        if self.core.state is SessionState.CLOSED:
            raise SessionClosedError("the session is closed", reason=CloseReason.GRACEFUL)

    async def wait_closed(self) -> None:
        """Return when the session is over, however it ended."""
        if self.core.error is not None or self.core.state is SessionState.CLOSED:
            await anyio.lowlevel.checkpoint()
            return
        if self._over is None:
            self._over = anyio.Event()
        await self._over.wait()

    async def close(self, code: int = ErrorCode.NO_ERROR, reason: str = "", *, linger: float = CLOSE_LINGER) -> None:
        """Close gracefully: wait up to ``linger`` seconds for what was sent to be acknowledged, then say goodbye.

        Acknowledged means in the peer's receive buffer; only the peer's application can say that it was used.
        Cancelling this aborts: the goodbye leaves at once and nobody waits for its answer.
        """
        self.core.close(code, reason, linger=linger)
        self.kick()
        try:
            await self.wait_closed()
        except BaseException:
            self.core.close(code, reason)
            self.kick()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
            return
        if issubclass(kind, Exception):
            self.core.close(ErrorCode.APPLICATION, "the application failed")
        else:
            self.core.close(ErrorCode.CANCELLED, "the application was cancelled")
        self.kick()

    async def aclose(self) -> None:
        """:meth:`close`, under the name that anyio's and the standard library's helpers look for."""
        await self.close()

    # --- for the node

    def kick(self) -> None:
        """Let the node send what a command has queued."""
        self.node.kick()

    def handle_event(self, event: Event) -> None:
        """Wake whoever the event concerns."""
        if isinstance(event, OF_STREAMS):
            concerned = self._streams.get(event.stream_id)
            if concerned is not None:
                concerned.handle_event(event)
                if isinstance(event, StreamFinished):
                    del self._streams[event.stream_id]
            return
        if isinstance(event, StreamOpened):
            if event.stream_id not in self._streams:
                self._incoming.append(self._add(event.stream_id, event.mode, event.purpose, event.priority))
        elif isinstance(event, SessionClosed):
            if self._over is not None:
                self._over.set()
            for stream in self._streams.values():
                stream.wake()
        elif not isinstance(event, StreamsAvailable | DatagramsReadable):
            return
        self._news.wake_all()
