"""What an application may ask of one session: streams, datagrams, new keys.

Rule: a command that raises has changed nothing. It queues and never sends; :class:`~stt_core.session.Session` decides
when to speak.
"""

from __future__ import annotations

from stt_core import frames
from stt_core.channel import Channel
from stt_core.config import MIN_DATAGRAM
from stt_core.context import Context
from stt_core.errors import ErrorCode, SessionClosedError, StateError, STTError
from stt_core.state import SessionState
from stt_core.streams import READ_SIZE, LastingStreams, StreamInfo
from stt_core.types import Path, SessionKey, StreamMode

LEAST_FRAME = MIN_DATAGRAM
"""Bytes of the smallest ``max_frame_size``: any frame fits the packets that come of it."""
MOST_FRAME = 65_536
"""Of the largest, more than any packet holds."""


class Commands:
    """The application's half of a :class:`~stt_core.session.Session`."""

    __slots__ = ("_channel", "_context", "_error", "_streams", "finished", "key", "queued", "state")

    def __init__(self, context: Context, key: SessionKey) -> None:
        self._context = context
        self.key = key
        self.state = SessionState.INIT
        self.finished = False
        """Set when the session can be forgotten: it is closed and has lingered long enough."""
        self.queued = False
        """The endpoint's own note: whether this is in its ready queue."""
        self._channel: Channel | None = None
        self._streams: LastingStreams | None = None
        self._error: STTError | None = None

    def mark_ready(self) -> None:
        """Ask the endpoint for a poll."""
        if not self.queued:
            self.queued = True
            self._context.ready.append(self.key)

    def _require_channel(self) -> Channel:
        if self._channel is None:
            if self.state is SessionState.DETACHED:
                raise StateError("the session is detached: it has no keys and no path until it is resumed")
            raise self._error or StateError(f"the session is {self.state.value}: the handshake isn't done yet")
        return self._channel

    def _require_streams(self) -> LastingStreams:
        if self._streams is None:
            raise self._error or StateError(f"the session is {self.state.value}: the handshake isn't done yet")
        return self._streams

    def _for_sending(self) -> LastingStreams:
        streams = self._streams
        if streams is None or self.state is not SessionState.ESTABLISHED:
            if streams is not None and self.state is SessionState.DETACHED:
                return streams
            if self._error is not None:
                raise self._error
            if self.state is SessionState.CLOSING:
                raise SessionClosedError("the session is closing: nothing more can be sent")
            raise StateError(f"the session is {self.state.value}: the handshake isn't done yet")
        if not self.queued:
            self.mark_ready()
        return streams

    def _after_reading(self, streams: LastingStreams) -> None:
        """Reading gives credit back."""
        if streams.outgoing.wants_to_send and not self.finished:
            self.mark_ready()

    def open_stream(
        self,
        *,
        stream_id: int | None = None,
        mode: StreamMode = StreamMode.MESSAGES,
        purpose: str = "",
        priority: int = 3,
        max_frame_size: int | None = None,
    ) -> int:
        """Open a bidirectional stream and return its id.

        ``stream_id`` 1 to 2^20 names a stream both ends may open; without it an unused id above is taken.
        ``priority`` is an urgency, 0 the most urgent to 7. ``max_frame_size``, 1200 to 65536, is how many bytes of it
        one packet of ours carries at most; by default as many as the path takes. Smaller ones arrive sooner each, and
        cost more in all.

        :raises StreamLimitError: at the peer's limit; ``StreamsAvailable`` tells when to try again.
        :raises SessionClosedError: on a session that is closing or over.
        """
        if max_frame_size is not None and not LEAST_FRAME <= max_frame_size <= MOST_FRAME:
            raise ValueError(f"max_frame_size is {max_frame_size}, expected {LEAST_FRAME} to {MOST_FRAME} bytes")
        streams = self._for_sending()
        opened = streams.open(stream_id=stream_id, mode=mode, purpose=purpose, priority=priority)
        if max_frame_size is not None:
            streams.outgoing.limit_frames(opened, max_frame_size)
        return opened

    def send_message(self, stream_id: int, data: bytes | bytearray | memoryview) -> bool:
        """Send one message whole; False under back-pressure (``StreamWritable`` tells when to try again)."""
        return self._for_sending().send_message(stream_id, data)

    def write(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Send bytes on a stream in bytes mode; returns how many were accepted."""
        return self._for_sending().write(stream_id, data)

    def has_room(self, stream_id: int) -> bool:
        """Whether sending would be accepted, at least in part; where not, ``StreamWritable`` tells when it would."""
        return self._for_sending().has_room(stream_id)

    def finish(self, stream_id: int) -> None:
        """No more will be sent on this stream; what was accepted still arrives."""
        self._for_sending().finish(stream_id)

    def reset_stream(self, stream_id: int, code: int = ErrorCode.APPLICATION) -> None:
        """Abandon the sending half; the peer's reads fail with ``code``."""
        self._for_sending().reset(stream_id, code)

    def stop_stream(self, stream_id: int, code: int = ErrorCode.APPLICATION) -> None:
        """Read no further; the peer's sends fail with ``code``."""
        self._for_sending().stop(stream_id, code)

    def watch(self, stream_id: int) -> int:
        """Ask for ``StreamAcknowledged`` once everything accepted so far is acknowledged; returns its offset."""
        return self._for_sending().watch(stream_id)

    def read(self, stream_id: int, max_bytes: int = READ_SIZE) -> bytes | None:
        """Up to ``max_bytes`` in order; None where nothing waits, ``b""`` at the end of the stream.

        Reading gives the peer credit to send more. Works on a closed session for what had arrived before.

        :raises StreamResetError: where the peer abandoned the stream.
        """
        streams = self._streams if self._streams is not None else self._require_streams()
        try:
            return streams.read(stream_id, max_bytes)
        finally:
            self._after_reading(streams)

    def read_message(self, stream_id: int) -> bytes | None:
        """The next whole message, or None where none waits (:meth:`at_end` tells whether one can still come).

        :raises StreamResetError: where the peer abandoned the stream.
        """
        streams = self._streams if self._streams is not None else self._require_streams()
        try:
            return streams.read_message(stream_id)
        finally:
            self._after_reading(streams)

    def is_readable(self, stream_id: int) -> bool:
        """Whether a read would tell something now: data, a whole message, the end, or an error."""
        streams = self._streams if self._streams is not None else self._require_streams()
        return streams.is_readable(stream_id)

    def at_end(self, stream_id: int) -> bool:
        """Whether the peer finished the stream and everything was read."""
        streams = self._require_streams()
        try:
            return streams.at_end(stream_id)
        finally:
            self._after_reading(streams)  # a stream that is over makes room for another

    def stream_info(self, stream_id: int) -> StreamInfo:
        """Mode, purpose, priority and who opened it."""
        return self._require_streams().info(stream_id)

    def send_datagram(self, data: bytes) -> bool:
        """Send an unreliable message (RFC 9221); False where the queue is full, or the session is detached.

        :raises MessageTooLargeError: above :attr:`max_datagram_size`.
        """
        self._for_sending()
        if self.state is SessionState.DETACHED:
            return False
        return self._require_channel().send_datagram(data)

    def read_datagram(self) -> bytes | None:
        """The oldest unreliable message received, or None."""
        return None if self.state is SessionState.DETACHED else self._require_channel().datagrams.read()

    def send_dht(self, message: bytes) -> bool:
        """Send a DHT message, which may get lost; False where the path has no room for one so long, or the queue none.

        :raises SessionClosedError: on a session that is closing or over.
        """
        self._for_sending()
        if self.state is SessionState.DETACHED:
            return False
        channel = self._require_channel()
        return len(message) <= channel.max_datagram and channel.datagrams.send(message, frames.Dht)

    def read_dht(self) -> bytes | None:
        """The oldest DHT message received, or None."""
        return None if self.state is SessionState.DETACHED else self._require_channel().datagrams.read_rpc()

    def migrate(self, path: Path, now: float) -> None:
        """Move to another path, once it has answered: ``PathChanged`` tells that it has, ``PathFailed`` that it didn't.

        Streams go on, and nobody who sees both paths can tell by the packets that they carry one session. ``path`` may
        be over another transport; over WebSocket it names a connection that is open and serves no other session. The
        path that is in use says that this side's own address has changed.

        :raises SessionClosedError: on a session that is closing or over.
        """
        self._for_sending()
        self._require_channel().migration.migrate(path, now)

    def require_path(self) -> None:
        """Whether this can be told to :meth:`migrate`, asked before any trouble is gone to.

        :raises SessionClosedError: on a session that is closing or over; ``StateError`` on one that is detached.
        """
        self._for_sending()
        self._require_channel()

    @property
    def moving_to(self) -> Path | None:
        """Where :meth:`migrate` sends this session, while that has yet to answer."""
        return None if self._channel is None else self._channel.migration.paths.destination

    def stay(self) -> None:
        """Give up a :meth:`migrate` whose path hasn't answered yet; without one, nothing happens."""
        if self._channel is not None:
            self._channel.migration.stay()

    def allow_fallback(self, now: float, home: Path | None = None) -> None:
        """This side can open connections to the peer: where UDP falls silent, or the connection in use is gone,
        ``LinkWanted`` asks for one. From there the session comes back as soon as UDP answers again; from one that
        :meth:`migrate` took it to it doesn't.

        ``home`` is where the peer listens on UDP, for a session that began over a connection.
        """
        self._require_channel().migration.allow_fallback(home, now)

    def fall_back(self, path: Path, now: float) -> None:
        """The connection that ``LinkWanted`` asked for is open. Where UDP answers again meanwhile, it is not needed,
        and ``PathReleased`` gives it back.

        :raises SessionClosedError: on a session that is closing or over.
        """
        self._for_sending()
        self._require_channel().migration.fall_back(path, now)

    def update_keys(self, now: float) -> None:
        """Move to the next packet keys now; done by itself long before it is needed."""
        self._require_channel().protection.update_keys(now)
        self.mark_ready()
