"""All streams of one session: the application's commands, the peer's frames, and what to put into packets.

Rule: a command that raises has changed nothing, and what the peer did is a :class:`Violation` or an event, never an
exception at the application.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from stt_core import frames
from stt_core.config import EndpointConfig
from stt_core.errors import ErrorCode, MessageTooLargeError, StateError, StreamClosedError, StreamLimitError, Violation
from stt_core.events import (
    AnyEvent,
    StreamAcknowledged,
    StreamFinished,
    StreamOpened,
    StreamReadable,
    StreamsAvailable,
    StreamStopped,
)
from stt_core.frames import BlockedKind, FrameType
from stt_core.packet import LARGE
from stt_core.packing import Batch, BulkRun, Token
from stt_core.parameters import TransportParameters
from stt_core.state import ReceiveState, SendState
from stt_core.streams.flow import ReceiveWindow, SessionWindow
from stt_core.streams.ids import MAX_EXPLICIT, StreamIds
from stt_core.streams.messages import MAX_LENGTH, length_prefix
from stt_core.streams.outgoing import (
    BLOCKED,
    CLOSE,
    DATA,
    MAX_DATA,
    MAX_STREAM_DATA,
    MAX_STREAMS,
    OPEN,
    STOP,
    Outgoing,
)
from stt_core.streams.receive import READ_SIZE, Chunk, ReceiveHalf
from stt_core.streams.send import SendHalf
from stt_core.streams.stream import Stream, StreamInfo
from stt_core.types import Role, SessionKey, StreamMode

STREAM_FRAMES: Final = frozenset(
    {DATA, int(FrameType.DATA_FIN), OPEN, CLOSE, STOP, MAX_DATA, MAX_STREAM_DATA, MAX_STREAMS, BLOCKED}
)
"""The frame types whose tokens belong to a :class:`StreamMap`."""


class StreamMap:
    """The streams of the session ``session_key``, seen from ``role``; ``events`` is where they report."""

    __slots__ = (
        "_events", "_ids", "_key", "_max_message", "_max_window", "_peer_max_message", "_peer_window", "_role",
        "_send_buffer", "_streams", "_wanting", "_window", "_window_size", "outgoing",
    )  # fmt: skip

    def __init__(self, *, role: Role, config: EndpointConfig, session_key: SessionKey, events: deque[AnyEvent]) -> None:
        self._role = role
        self._key = session_key
        self._events = events
        self._send_buffer = config.send_buffer
        self._max_message = config.max_message
        self._max_window = config.max_stream_window or config.max_window
        self._window_size = config.stream_window
        self._window = SessionWindow(config.session_window, config.max_window)
        self._ids = StreamIds(role, config.max_streams)
        self._streams: dict[int, Stream] = {}
        self._wanting = False  # a StreamLimitError was raised and no StreamsAvailable since
        self._peer_window = 0
        self._peer_max_message = 0
        self.outgoing = Outgoing(
            self._streams,
            session_key=session_key,
            events=events,
            ids=self._ids,
            window=self._window,
            config=config,
        )

    def set_peer_limits(self, parameters: TransportParameters) -> None:
        """What the peer declared in the handshake; before this nothing can be opened or sent."""
        self.outgoing.raise_credit(parameters.initial_max_data)
        self._peer_window = parameters.initial_max_stream_data
        self._peer_max_message = min(parameters.max_message, MAX_LENGTH)
        self._ids.raise_limits(parameters.max_streams, 0)

    def __len__(self) -> int:
        return len(self._streams)

    # --- commands

    def open(
        self, *, stream_id: int | None = None, mode: StreamMode = StreamMode.MESSAGES, purpose: str = "",
        priority: int = 3,
    ) -> int:  # fmt: skip
        """Open a stream and return its id; without ``stream_id`` the next automatic one.

        Ids 1 to 2^20 are shared: where the peer opened the same, this joins it, and the initiator's purpose counts.

        :raises ValueError: on an id, purpose (≤255 bytes of UTF-8) or priority (0 to 7) out of range, or a mode other
            than the peer's.
        :raises StreamLimitError: at the peer's limit; a StreamsAvailable follows.
        :raises StateError: where this side has it open already; StreamClosedError where it was used up.
        """
        if not 0 <= priority <= 7:
            raise ValueError(f"priority is {priority}, expected 0 (most urgent) to 7")
        if len(purpose.encode()) > 255:
            raise ValueError(f"purpose is {len(purpose.encode())} bytes of UTF-8, expected at most 255")
        mode = StreamMode(mode)
        stream = None
        if stream_id is not None:
            stream = self._check_explicit(stream_id, mode)
        try:
            if stream_id is None:
                stream_id = self._ids.take_automatic()
            else:
                self._ids.take_explicit(stream is not None)
        except StreamLimitError:
            self._wanting = True
            self.outgoing.want(BLOCKED, 0, BlockedKind.STREAMS)
            raise
        if stream is None:
            stream = self._create(stream_id)
            stream.receive.set_mode(mode)
        if not stream.peer_opened or self._role is Role.INITIATOR:
            stream.purpose = purpose
        stream.mode = mode
        stream.priority = priority
        stream.opened = stream.told = True
        self.outgoing.want(OPEN, stream_id)
        return stream_id

    def _check_explicit(self, stream_id: int, mode: StreamMode) -> Stream | None:
        if not 0 < stream_id <= MAX_EXPLICIT:
            raise ValueError(f"stream id is {stream_id}, expected 1 to {MAX_EXPLICIT}, or None for an automatic one")
        stream = self._streams.get(stream_id)
        if stream is None:
            if self._ids.is_closed(stream_id):
                raise StreamClosedError(f"stream {stream_id} is over; an id is used once per session")
        elif stream.opened:
            raise StateError(f"stream {stream_id} is open already")
        elif stream.peer_opened and stream.mode is not mode:
            raise ValueError(f"the peer opened stream {stream_id} in another mode, {stream.mode!r}")
        return stream

    def send_message(self, stream_id: int, data: bytes | bytearray | memoryview) -> bool:
        """Accept a whole message; False while the stream's buffer is full (a StreamWritable follows).

        :raises MessageTooLargeError: above the peer's ``max_message``.
        :raises StreamClosedError: after ``finish`` or ``reset``; StreamResetError after the peer's stop.
        :raises StateError: on a stream in bytes mode, or one that isn't there.
        """
        stream = self._of_mode(stream_id, StreamMode.MESSAGES)
        send = stream.send
        if send.state is not SendState.OPEN:
            send.check_open()
        data = bytes(data)
        size = len(data)
        if size > self._peer_max_message:
            raise MessageTooLargeError(f"a message of {size} bytes, the peer takes {self._peer_max_message}")
        if send.end - send.sent >= self._send_buffer:
            send.wants_room = True
            return False
        if size <= LARGE:
            send.append(length_prefix(size) + data)
        else:
            send.append(length_prefix(size))
            send.append(data)
        self.outgoing.plan(stream)
        return True

    def write(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Accept as many bytes as the stream's buffer takes and return how many (a StreamWritable follows a cut).

        :raises StreamClosedError: after ``finish`` or ``reset``; StreamResetError after the peer's stop.
        :raises StateError: on a stream in message mode, or one that isn't there.
        """
        send = self._of_mode(stream_id, StreamMode.BYTES).send
        send.check_open()
        room = self._send_buffer - send.unsent
        # The size in bytes, which of a memoryview its len() may not be.
        size = len(data) if type(data) is bytes else memoryview(data).nbytes
        if size > room:
            send.wants_room = True
            if room <= 0:
                return 0
            data = memoryview(data).cast("B")[:room]
            size = room
        if size:
            send.append(bytes(data))
            self.outgoing.plan(self._streams[stream_id])
        return size

    def has_room(self, stream_id: int) -> bool:
        """Whether sending would be taken, at least in part (a StreamWritable follows where not); raises as it would."""
        return self.outgoing.has_room(self._known(stream_id))

    def finish(self, stream_id: int) -> None:
        """No more is sent; what was accepted still arrives. A second time changes nothing.

        :raises StreamClosedError: after ``reset``; StreamResetError after the peer's stop.
        """
        stream = self._known(stream_id)
        if stream.send.state in (SendState.DATA_SENT, SendState.DATA_ACKED):
            return
        stream.send.check_open()
        stream.send.finish()
        self.outgoing.plan(stream)

    def reset(self, stream_id: int, code: int = ErrorCode.APPLICATION) -> None:
        """Abandon the sending half, its unacknowledged bytes too. Where all is said already, changes nothing."""
        _check_code(code)
        stream = self._known(stream_id)
        self._reset(stream, code)

    def stop(self, stream_id: int, code: int = ErrorCode.APPLICATION) -> None:
        """Read no further: what has come is dropped, the peer's sending fails with ``code``."""
        _check_code(code)
        stream = self._known(stream_id)
        receive = stream.receive
        if receive.terminal or receive.abandoned:
            return
        if receive.wants_credit:
            stream.stop_code = code
            self.outgoing.want(STOP, stream_id)
        receive.abandon()
        self._after_reading(stream)

    def read(self, stream_id: int, max_bytes: int = READ_SIZE) -> bytes | None:
        """Up to ``max_bytes`` in order; None where nothing waits, ``b""`` at the end of the stream.

        :raises StreamResetError: where the peer abandoned the stream; StreamClosedError after ``stop``, or where the
            end was read and the stream is over.
        :raises StateError: on a stream in message mode, or one that isn't there.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}, expected at least 1")
        stream = self._of_mode(stream_id, StreamMode.BYTES)
        stream.notified = False
        try:
            return stream.receive.read(max_bytes)
        finally:
            self._after_reading(stream)

    def read_message(self, stream_id: int) -> bytes | None:
        """The next whole message; None where none is there (:meth:`at_end` tells whether one can come).

        A stream that breaks the framing of messages, announces one above ``max_message``, or ends inside one is
        reset both ways, and reading raises StreamResetError with the code that says so. The session lives on.

        :raises StreamResetError: where the peer abandoned the stream; StreamClosedError as in :meth:`read`.
        :raises StateError: on a stream in bytes mode, or one that isn't there.
        """
        stream = self._of_mode(stream_id, StreamMode.MESSAGES)
        stream.notified = False
        try:
            message = stream.receive.read_message()
            if message is None and stream.receive.broken is not None:
                self._fail(stream, stream.receive.broken)
                message = stream.receive.read_message()
            return message
        finally:
            self._after_reading(stream)

    def is_readable(self, stream_id: int) -> bool:
        """Whether a read would tell something now: data, a whole message, the end, or an error."""
        stream = self._streams.get(stream_id)
        return stream is None or stream.receive.readable

    def at_end(self, stream_id: int) -> bool:
        """Whether the peer finished the stream and everything was read; true of a stream that is over.

        :raises StateError: where no such stream ever was.
        """
        stream = self._streams.get(stream_id)
        if stream is None and stream_id > 0 and self._ids.is_closed(stream_id):
            return True
        stream = self._known(stream_id)
        ended = stream.receive.at_end()
        if ended:
            self._settle(stream)
        return ended

    def watch(self, stream_id: int) -> int:
        """The stream's end as of now; a StreamAcknowledged follows when the peer has everything before it."""
        stream = self._known(stream_id)
        offset = stream.send.watch()
        self._report_acked(stream)
        return offset

    def info(self, stream_id: int) -> StreamInfo:
        """Mode, purpose, who opened it, and how far it is."""
        return self._known(stream_id).info

    def _known(self, stream_id: int) -> Stream:
        stream = self._streams.get(stream_id)
        if stream is not None and stream.told:
            return stream
        if stream is None and stream_id > 0 and self._ids.is_closed(stream_id):
            raise StreamClosedError(f"stream {stream_id} is over: both directions are done")
        raise StateError(f"there is no stream {stream_id}")

    def _of_mode(self, stream_id: int, mode: StreamMode) -> Stream:
        stream = self._streams.get(stream_id)
        if stream is not None and stream.mode is mode and stream.told:
            return stream
        stream = self._known(stream_id)
        if stream.mode is not mode:
            raise StateError(f"stream {stream_id} carries {'messages' if mode is StreamMode.BYTES else 'bytes'}")
        return stream

    # --- the peer's frames

    def fast(self, stream_id: int) -> ReceiveHalf | None:
        """Where this stream's plain DATA frames may be collected as long as each begins at ``expected``.

        None where they need :meth:`receive_data`. What was collected goes to :meth:`commit` before anything else is
        done with this map.
        """
        stream = self._streams.get(stream_id)
        return stream.receive if stream is not None and stream.receive.in_order else None

    def commit(self, half: ReceiveHalf, chunks: Sequence[Chunk], expected: int, now: float) -> None:
        """Append in-order ``chunks``, at least one byte, that end at offset ``expected``.

        :raises Violation: FLOW_CONTROL.
        """
        half.commit(chunks, expected)
        self._after_arrival(self._streams[half.stream_id])

    def receive_data(self, stream_id: int, offset: int, data: Chunk, fin: bool, now: float) -> None:
        """A DATA frame, in any order; ``data`` is kept.

        :raises Violation: FLOW_CONTROL, FINAL_SIZE, STREAM_LIMIT, STREAM_STATE.
        """
        stream = self._streams.get(stream_id) or self._incoming(stream_id)
        if stream is not None:
            stream.receive.receive(offset, data, fin)
            self._after_arrival(stream)

    def receive_frame(self, frame: frames.Frame, now: float) -> None:
        """Any stream frame that :func:`parse_frames_untrusted` gave.

        :raises Violation: as the frame's own method.
        """
        _RECEIVERS[type(frame)](self, frame, now)

    def receive_open(self, frame: frames.StreamOpen) -> None:
        """STREAM_OPEN; a repeated one changes nothing.

        :raises Violation: STREAM_LIMIT, STREAM_STATE.
        """
        stream_id = frame.stream_id
        stream = self._incoming(stream_id)
        if 0 < stream_id <= MAX_EXPLICIT:
            self._ids.admit_explicit(stream_id)
        elif stream is not None and stream.opened:
            raise Violation(ErrorCode.STREAM_STATE, f"stream {stream_id} is not the peer's to open")
        if stream is None:
            self.outgoing.offer_streams()
            return
        if stream.peer_opened:
            return
        stream.peer_opened = True
        if not stream.opened:
            stream.mode = frame.mode
            stream.priority = frame.priority
            stream.purpose = frame.purpose
            stream.told = True
            self._events.append(StreamOpened(self._key, stream_id, frame.mode, frame.purpose, frame.priority))
            if stream.send.error is not None:
                self._events.append(StreamStopped(self._key, stream_id, stream.send.error))
        elif stream.mode is not frame.mode:
            self._fail(stream, ErrorCode.MODE_MISMATCH)
            return
        elif self._role is Role.RESPONDER and stream.purpose != frame.purpose:
            stream.purpose = frame.purpose
            self._events.append(StreamOpened(self._key, stream_id, stream.mode, frame.purpose, stream.priority))
        if stream.receive.mode is None:
            stream.receive.set_mode(frame.mode)
        self._after_arrival(stream)

    def receive_close(self, frame: frames.StreamClose) -> None:
        """STREAM_CLOSE: the peer reset its sending half.

        :raises Violation: FLOW_CONTROL, FINAL_SIZE, STREAM_LIMIT, STREAM_STATE.
        """
        stream = self._incoming(frame.stream_id)
        if stream is not None:
            stream.receive.receive_reset(frame.code, frame.final_size)
            self._after_arrival(stream)

    def receive_stop(self, frame: frames.StreamStop) -> None:
        """STREAM_STOP: the peer reads no further, so this side's half is reset with the same code.

        :raises Violation: STREAM_LIMIT, STREAM_STATE.
        """
        stream = self._incoming(frame.stream_id)
        if stream is None or stream.send.state not in (SendState.OPEN, SendState.DATA_SENT):
            return
        self._reset(stream, frame.code)
        stream.send.error = frame.code
        if stream.told:
            self._events.append(StreamStopped(self._key, frame.stream_id, frame.code))

    def receive_max_data(self, limit: int) -> None:
        """MAX_DATA; one that doesn't raise the limit came late and changes nothing."""
        self.outgoing.raise_credit(limit)

    def receive_max_stream_data(self, stream_id: int, limit: int) -> None:
        """MAX_STREAM_DATA.

        :raises Violation: STREAM_LIMIT, STREAM_STATE.
        """
        stream = self._incoming(stream_id)
        if stream is not None and limit > stream.send.limit:
            stream.send.limit = limit
            self.outgoing.plan(stream)

    def receive_max_streams(self, automatic: int, explicit: int) -> None:
        """MAX_STREAMS: cumulative counts, see :class:`stt_core.frames.MaxStreams`."""
        if self._ids.raise_limits(automatic, explicit):
            self._offer_streams()

    def receive_blocked(self, frame: frames.Blocked) -> None:
        """BLOCKED: the peer would send more. Credit is given as the application reads, so this is news, no cause."""

    def _incoming(self, stream_id: int) -> Stream | None:
        """The stream a frame names, made if the peer may make it; None for one that is over."""
        stream = self._streams.get(stream_id)
        if stream is None and not (stream_id and self._ids.is_closed(stream_id)):
            self._ids.admit(stream_id)
            stream = self._create(stream_id)
        return stream

    def _create(self, stream_id: int) -> Stream:
        window = ReceiveWindow(self._window_size, self._max_window)
        receive = ReceiveHalf(stream_id, None, window, self._window, self._max_message)
        stream = self._streams[stream_id] = Stream(stream_id, SendHalf(stream_id, self._peer_window), receive)
        return stream

    def _after_arrival(self, stream: Stream) -> None:
        receive = stream.receive
        if receive.broken is not None:
            self._fail(stream, receive.broken)
        if receive.error is not None:
            self.outgoing.settle_credit(stream)
        if not stream.notified and stream.told and receive.readable:
            stream.notified = True
            self._events.append(StreamReadable(self._key, stream.stream_id))
        self.outgoing.offer_credit(stream)
        if receive.state is not ReceiveState.OPEN and receive.terminal:
            self._settle(stream)

    def _after_reading(self, stream: Stream) -> None:
        receive = stream.receive
        if receive.broken is not None:
            self._fail(stream, receive.broken)
        self.outgoing.give_credit(stream)
        if receive.state is not ReceiveState.OPEN and receive.terminal:
            self._settle(stream)

    def _fail(self, stream: Stream, code: ErrorCode) -> None:
        """This stream can't go on: both halves end with ``code``, the session doesn't."""
        receive = stream.receive
        receive.broken = None
        self._reset(stream, code)
        if stream.send.error is None:
            stream.send.error = code
            self._events.append(StreamStopped(self._key, stream.stream_id, code))  # wakes who waits to send
        if receive.terminal or receive.error is not None:
            return
        if receive.wants_credit:
            stream.stop_code = code
            self.outgoing.want(STOP, stream.stream_id)
        receive.fail(code)
        if not stream.notified:
            stream.notified = True
            self._events.append(StreamReadable(self._key, stream.stream_id))

    def _reset(self, stream: Stream, code: int) -> None:
        if stream.send.state in (SendState.OPEN, SendState.DATA_SENT):
            stream.send.reset(code)
            self.outgoing.drop(stream)
            self.outgoing.want(CLOSE, stream.stream_id)

    def _settle(self, stream: Stream) -> None:
        """Free the stream if both halves are done."""
        if not stream.done:
            return
        stream_id = stream.stream_id
        del self._streams[stream_id]
        self.outgoing.forget(stream)
        self._ids.close(stream_id)
        self.outgoing.offer_streams()
        self._events.append(StreamFinished(self._key, stream_id))
        if stream_id <= MAX_EXPLICIT:
            self._offer_streams()

    def _offer_streams(self) -> None:
        if self._wanting:
            self._wanting = False
            self._events.append(StreamsAvailable(self._key))

    # --- what leaves

    @property
    def wants_to_send(self) -> bool:
        """Whether :meth:`fill` has something to put into packets."""
        return self.outgoing.wants_to_send

    @property
    def has_unacknowledged(self) -> bool:
        """Whether the peer still has to acknowledge anything of what the application asked for."""
        return any(stream.announcing or stream.send.unacknowledged for stream in self._streams.values())

    def fill(self, batch: Batch, now: float) -> None:
        """Put control frames, then data, into ``batch`` until it is full or nothing is left to send."""
        self.outgoing.fill(batch, now)

    # --- acknowledgements and losses

    def on_run_acked(self, run: BulkRun, count: int) -> None:
        """``count`` packets from the head of ``run`` are acknowledged."""
        stream_id, start, body = run
        self._data_acked(stream_id, start, start + count * body, fin=False)

    def on_run_lost(self, run: BulkRun, count: int) -> None:
        """``count`` packets from the head of ``run`` are lost, or should be sent again to probe."""
        stream_id, start, body = run
        self._data_lost(stream_id, start, start + count * body, fin=False)

    def on_acked(self, token: Token) -> None:
        """A frame of ours, of a mixed packet, is acknowledged."""
        kind = token[0]
        if kind == DATA:
            self._data_acked(token[1], token[2], token[3], fin=bool(token[4]))
        elif kind in (OPEN, CLOSE) and (stream := self._streams.get(token[1])) is not None:
            if kind == OPEN:
                stream.open_acked = True
            else:
                stream.send.on_reset_acked()
            self._settle(stream)

    def on_lost(self, token: Token) -> None:
        """A frame of ours, of a mixed packet, is lost: it is sent again if it still says something."""
        if token[0] == DATA:
            self._data_lost(token[1], token[2], token[3], fin=bool(token[4]))
        else:
            self.outgoing.on_lost(token)

    def _data_acked(self, stream_id: int, start: int, stop: int, *, fin: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            send = stream.send
            send.on_acked(start, stop, fin)
            if send.watched:
                self._report_acked(stream)
            if send.state is not SendState.OPEN and send.terminal:
                self._settle(stream)

    def _data_lost(self, stream_id: int, start: int, stop: int, *, fin: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.send.on_lost(start, stop, fin)
            self.outgoing.plan(stream)

    def _report_acked(self, stream: Stream) -> None:
        for offset in stream.send.reached():
            self._events.append(StreamAcknowledged(self._key, stream.stream_id, offset))


def _check_code(code: int) -> None:
    if not 0 <= code <= 0xFFFF:
        raise ValueError(f"code is {code}, expected 0 to 65535")


_RECEIVERS: Final[dict[type, Callable[[StreamMap, Any, float], None]]] = {
    frames.Data: lambda streams, frame, now: streams.receive_data(
        frame.stream_id, frame.offset, frame.data, frame.fin, now
    ),
    frames.StreamOpen: lambda streams, frame, now: streams.receive_open(frame),
    frames.StreamClose: lambda streams, frame, now: streams.receive_close(frame),
    frames.StreamStop: lambda streams, frame, now: streams.receive_stop(frame),
    frames.MaxData: lambda streams, frame, now: streams.receive_max_data(frame.limit),
    frames.MaxStreamData: lambda streams, frame, now: streams.receive_max_stream_data(frame.stream_id, frame.limit),
    frames.MaxStreams: lambda streams, frame, now: streams.receive_max_streams(frame.automatic, frame.explicit),
    frames.Blocked: lambda streams, frame, now: streams.receive_blocked(frame),
}
