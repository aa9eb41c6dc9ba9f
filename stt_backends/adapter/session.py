"""A session as an adapter holds it, but for the waits: its streams, its datagrams, its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from stt_backends.adapter.broadcast import Outbox
from stt_backends.adapter.connecting import Destination
from stt_backends.adapter.detour import Detour
from stt_backends.adapter.errors import ErrorFamily
from stt_backends.adapter.moving import Moving
from stt_backends.adapter.parking import ParkingLot
from stt_backends.adapter.racing import Found
from stt_backends.adapter.stream import BaseByteStream, BaseMessageStream
from stt_backends.driver import Driver
from stt_core.errors import CloseReason, ConnectError, ErrorCode, StateError
from stt_core.events import (
    DatagramsReadable,
    Event,
    SessionClosed,
    SessionDetached,
    StreamAcknowledged,
    StreamFinished,
    StreamOpened,
    StreamReadable,
    StreamsAvailable,
    StreamStopped,
    StreamWritable,
)
from stt_core.resumption import ResumptionToken
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.statistics import SessionStatistics
from stt_core.types import Path, Resumed, StreamMode

if TYPE_CHECKING:
    from stt_backends.adapter.node import BaseNode

CLOSE_LINGER = 5.0
"""Seconds ``close`` spends on getting what was sent acknowledged, before it says goodbye regardless."""

OF_STREAMS = (StreamReadable, StreamWritable, StreamStopped, StreamAcknowledged, StreamFinished)
"""News of one stream that is there: most of all news."""
MODES = {"messages": StreamMode.MESSAGES, "bytes": StreamMode.BYTES}
"""The kinds of stream under the names an application gives them."""

MessageT = TypeVar("MessageT", bound=BaseMessageStream)
ByteT = TypeVar("ByteT", bound=BaseByteStream)


class BaseSession(Generic[MessageT, ByteT]):
    """What a session is and has, whatever waits for it."""

    errors: ClassVar[ErrorFamily]
    """The adapter's."""
    _message_stream: type[MessageT]
    _byte_stream: type[ByteT]

    def __init__(self, node: BaseNode[Any], core: Session) -> None:
        self.node = node
        self.core = core
        self._streams: dict[int, MessageT | ByteT] = {}
        self._incoming: list[MessageT | ByteT] = []  # an empty deque is 800 bytes for each session
        self._news: ParkingLot = node.make_parking_lot()
        self._end_callbacks: list[Callable[[Any], None]] | None = None
        self._moving: Moving | None = None
        self._detour: Detour | None = None  # only where this side knows how to open connections to the peer
        self._end: ParkingLot | None = None  # few wait for it, and those not for every piece of news

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.session_id.hex()} {self.state.value}>"

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

    @property
    def lasts(self) -> bool:
        """Whether the session is alive, or detached and may be resumed."""
        return self.core.state in (SessionState.ESTABLISHED, SessionState.DETACHED)

    @property
    def resumption_token(self) -> ResumptionToken | None:
        """What resumes this session later, here or elsewhere: a secret. None until a round trip after the session was
        established, and on the side that was connected to."""
        return self.core.resumption_token

    @property
    def resumed(self) -> Resumed:
        """How much of an earlier session goes on in this one: ``"full"``, ``"identity"`` or ``"no"``."""
        return self.core.resumed

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
    ) -> MessageT | ByteT:
        """Open a bidirectional stream; ``mode="bytes"`` gives a ``ByteStream``, else a ``MessageStream``.

        ``stream_id`` 1 to 2^20 is shared: the peer that opens the same number holds the other end of this stream.

        :raises StreamLimitError: at the peer's limit (``open_stream_when_possible`` waits).
        """
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}, expected 'messages' or 'bytes'")
        with self.errors.translated:
            opened = self.core.open_stream(stream_id=stream_id, purpose=purpose, priority=priority, mode=MODES[mode])
        self.kick()
        stream = self._streams.get(opened)
        if stream is None:
            return self._add(opened, MODES[mode], purpose, priority)
        stream.refresh()
        if stream in self._incoming:  # the peer was first; whoever opens it too has no need to accept it
            self._incoming.remove(stream)
        return stream

    def open_byte_stream(self, *, stream_id: int | None = None, purpose: str = "", priority: int = 3) -> ByteT:
        """:meth:`open_stream` with ``mode="bytes"``, typed."""
        stream = self.open_stream(stream_id=stream_id, purpose=purpose, priority=priority, mode="bytes")
        if not isinstance(stream, self._byte_stream):
            raise TypeError(f"stream {stream.stream_id} is open already, in message mode")
        return stream

    def get_stream(self, stream_id: int) -> MessageT | ByteT:
        """An open stream by its id, whoever opened it.

        :raises KeyError: if there is none.
        """
        return self._streams[stream_id]

    def outbox(self, stream_id: int) -> Outbox:
        """What is broadcast on the shared stream ``stream_id``, which is opened where it isn't open.

        :raises STTError: if the session is over, or the stream was closed or carries bytes.
        """
        self.raise_if_over()
        stream = self._streams.get(stream_id) or self.open_stream(stream_id=stream_id)
        if not isinstance(stream, self._message_stream):
            raise StateError(f"stream {stream_id} carries bytes: only messages can be broadcast")
        return stream.outbox

    def _add(self, stream_id: int, mode: StreamMode, purpose: str, priority: int) -> MessageT | ByteT:
        kind = self._byte_stream if mode is StreamMode.BYTES else self._message_stream
        stream = self._streams[stream_id] = kind(self, stream_id, mode, purpose, priority)
        return stream

    def _next_stream(self) -> MessageT | ByteT | None:
        """The next stream the peer opened, None where none waits; raises when none will."""
        if self._incoming:
            return self._incoming.pop(0)
        self.raise_if_over()
        return None

    # --- datagrams

    @property
    def max_datagram_size(self) -> int:
        """The longest datagram that fits the path now, in bytes."""
        return self.core.max_datagram_size

    def send_datagram_now(self, data: bytes | bytearray | memoryview) -> bool:
        """Send an unreliable message without any waiting; False if it was dropped because the queue is full.

        :raises MessageTooLargeError: above :attr:`max_datagram_size`.
        """
        with self.errors.translated:
            accepted = self.core.send_datagram(bytes(memoryview(data)))
        self.kick()
        return accepted

    def next_datagram(self) -> bytes | None:
        """The next datagram, None where none waits; raises when none will."""
        data = self.core.read_datagram()
        if data is None:
            self.raise_if_over()
        return data

    # --- where it is

    def _begin_migrate(self, destination: Destination, found: Found, timeout: float | None) -> Moving:
        """Go to one of the addresses found; :meth:`_end_migrate` must follow."""
        moving = self.node.begin_move(self, destination, found, timeout)
        before, self._moving = self._moving, moving
        if before is not None:
            before.end(ConnectError("the session was told to go elsewhere in the meantime"))
        return moving

    def _end_migrate(self, moving: Moving) -> None:
        """Nobody waits for it any more; where it isn't there yet, it stays."""
        moving.end()
        if self._moving is moving:
            self._moving = None

    def _migrated(self, moving: Moving) -> None:
        """Raises what a ``migrate`` that is over should raise."""
        if moving.failure is not None:
            raise self.errors.translate(moving.failure)

    # --- the end

    def add_end_callback(self, callback: Callable[[Any], None]) -> None:
        """Call ``callback(session)`` when the session is over, or detached. It must not raise."""
        if self._end_callbacks is None:
            self._end_callbacks = []
        self._end_callbacks.append(callback)

    def remove_end_callback(self, callback: Callable[[Any], None]) -> None:
        """Don't, after all. Does nothing where it isn't to be called."""
        if self._end_callbacks is not None and callback in self._end_callbacks:
            self._end_callbacks.remove(callback)

    def _tell_end(self) -> None:
        callbacks, self._end_callbacks = self._end_callbacks, None
        for callback in callbacks or ():
            callback(self)

    @property
    def _over(self) -> bool:
        return self.core.error is not None or self.core.state is SessionState.CLOSED

    def raise_if_over(self) -> None:
        """Raise what a call on a session that has ended should raise."""
        if self.core.error is not None:
            raise self.errors.translate(self.core.error)
        if self.core.state is SessionState.CLOSED:
            raise self.errors.session_closed("the session is closed", reason=CloseReason.GRACEFUL)

    def _close(self, code: int, reason: str, linger: float = 0.0) -> None:
        self.core.close(code, reason, linger=linger)
        self.kick()

    def _fail(self, kind: type[BaseException]) -> None:
        """Close at once, for its ``async with`` block ended by an exception of this kind."""
        if issubclass(kind, Exception):
            self._close(ErrorCode.APPLICATION, "the application failed")
        else:
            self._close(ErrorCode.CANCELLED, "the application was cancelled")

    # --- for the node, the streams and the datagrams

    def detour(self, driver: Driver) -> Detour:
        """Where connections to the peer can be opened; asked for, they are from now on."""
        if self._detour is None:
            self._detour = Detour(self, driver)
            self._detour.arm()
        return self._detour

    @property
    def news(self) -> ParkingLot:
        """Where to wait for streams, datagrams, room for another stream, and the end."""
        return self._news

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
        if self._moving is not None:
            self._moving.look()
        if self._detour is not None:
            self._detour.on_event(event)
        if isinstance(event, StreamOpened):
            known = self._streams.get(event.stream_id)
            if known is not None:
                known.refresh()
            else:
                self._incoming.append(self._add(event.stream_id, event.mode, event.purpose, event.priority))
        elif isinstance(event, SessionDetached):
            self._tell_end()
            return
        elif isinstance(event, SessionClosed):
            self._tell_end()
            if self._end is not None:
                self._end.wake_all()
            for stream in self._streams.values():
                stream.wake()
        elif not isinstance(event, StreamsAvailable | DatagramsReadable):
            return
        self._news.wake_all()
