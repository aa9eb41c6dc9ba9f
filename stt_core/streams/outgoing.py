"""What a session's streams put into packets: control frames first, then data by urgency.

Rule: frames are retransmitted, never packets. Of a control frame only its kind and its stream are queued, and it is
built from the state of the moment it leaves; one that has become pointless is not sent at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from stt_core import frames
from stt_core.config import EndpointConfig
from stt_core.events import AnyEvent, StreamWritable
from stt_core.frames import DATA_OVERHEAD, BlockedKind, FrameType
from stt_core.packing import Batch, Token
from stt_core.state import ReceiveState, SendState
from stt_core.streams.flow import MessagePool, SessionWindow
from stt_core.streams.ids import StreamIds
from stt_core.streams.schedule import Schedule
from stt_core.streams.send import SPLINTER, SendHalf
from stt_core.streams.stream import Stream
from stt_core.types import SessionKey, StreamMode

INITIAL_RTT: Final = 0.333
ROOM_FOR_ANY: Final = 15
"""Bytes of the largest control frame of fixed size, STREAM_CLOSE."""

DATA: Final = int(FrameType.DATA)
OPEN: Final = int(FrameType.STREAM_OPEN)
CLOSE: Final = int(FrameType.STREAM_CLOSE)
STOP: Final = int(FrameType.STREAM_STOP)
MAX_DATA: Final = int(FrameType.MAX_DATA)
MAX_STREAM_DATA: Final = int(FrameType.MAX_STREAM_DATA)
MAX_STREAMS: Final = int(FrameType.MAX_STREAMS)
BLOCKED: Final = int(FrameType.BLOCKED)

Want = tuple[int, int, int]
"""A control frame to send: type, stream id or 0, and a detail: BLOCKED's kind, or 1 to say MAX_STREAM_DATA again."""


class _Shelf(dict[Want, None]):
    """Control frames that may not leave yet: to those who ask whether there are any, there are none."""

    def __bool__(self) -> bool:
        return False


class Outgoing:
    """The sending side of one session's ``streams``, and the credit it gives for receiving.

    ``credit_limit`` and ``sent`` are the session's: what the peer allows and what was used of it, in bytes.
    """

    __slots__ = (
        "_blocked_at", "_control", "_events", "_held", "_ids", "_key", "_pool", "_repairs", "_schedule", "_send_buffer",
        "_streams", "_window", "_window_size", "credit_limit", "limits_frames", "rtt_hint", "sent",
    )  # fmt: skip

    def __init__(
        self,
        streams: Mapping[int, Stream],
        *,
        session_key: SessionKey,
        events: deque[AnyEvent],
        ids: StreamIds,
        window: SessionWindow,
        config: EndpointConfig,
    ) -> None:
        self._streams = streams
        self._key = session_key
        self._events = events
        self._ids = ids
        self._window = window
        self._pool = MessagePool()
        self._window_size = config.stream_window
        self._send_buffer = config.send_buffer
        self._schedule = Schedule()  # of those with new data; while the session's window is used up they wait there
        self._repairs = Schedule()  # of those with what needs no credit: it was lost, or is but an end
        self._control: dict[Want, None] = {}  # in order
        self._blocked_at = -1
        self._held = False
        self.credit_limit = 0
        self.sent = 0
        self.limits_frames = False
        """Whether :attr:`frame_limit` is worth asking for: some stream has one."""
        self.rtt_hint = INITIAL_RTT
        """Seconds, set by the session: what a window must be drained within twice to be widened."""

    @property
    def wants_to_send(self) -> bool:
        """Whether :meth:`fill` has something to put into packets."""
        return bool(self._control or (self._schedule.levels and self.sent < self.credit_limit) or self._repairs.levels)

    @property
    def backlog(self) -> int:
        """Unsent bytes of the stream whose turn it is."""
        return self._schedule.head()[0].send.unsent if self._schedule.levels else 0

    @property
    def frame_limit(self) -> int:
        """Bytes that a DATA frame of the stream whose turn it is may carry; 0 where there is no limit, or no stream."""
        queue = self._next_queue()
        return 0 if queue is None else queue.head()[0].frame_limit

    def limit_frames(self, stream_id: int, size: int) -> None:
        """No DATA frame of this stream carries more than ``size`` bytes from now on."""
        self._streams[stream_id].frame_limit = size
        self.limits_frames = True

    def whole_packets(self, body: int, most: int) -> int:
        """How many packets the stream whose turn it is fills with ``body`` bytes each, of ``most``; all of them where
        its rest has nothing to wait for."""
        stream = self._schedule.head()[0] if self._schedule.levels else None
        if self._control or stream is None or stream.announcing or not stream.send.may_grow:
            return most
        return min(most, stream.send.unsent // body)

    def want(self, kind: int, stream_id: int = 0, detail: int = 0) -> None:
        """Queue a control frame, once however often it is wanted."""
        self._control[kind, stream_id, detail] = None

    def plan(self, stream: Stream) -> None:
        """Schedule a stream that can send, or note what it waits for."""
        if self._held:
            return
        send, queue = stream.send, stream.queue
        if send.owes:
            if queue is not self._repairs:
                if queue is not None:
                    queue.drop(stream)
                self._repairs.add(stream)
        elif queue is None and send.sent < send.end:
            if send.sent < send.limit:
                self._schedule.add(stream)
                if self.sent >= self.credit_limit:
                    self._note_blocked()
            elif stream.blocked_at != send.limit:
                self.want(BLOCKED, stream.stream_id, BlockedKind.STREAM)

    def _note_blocked(self) -> None:
        if self._blocked_at != self.credit_limit:
            self.want(BLOCKED, 0, BlockedKind.SESSION)

    def raise_credit(self, limit: int) -> None:
        """The peer's MAX_DATA; one that doesn't raise the limit came late and changes nothing."""
        self.credit_limit = max(self.credit_limit, limit)

    def hold(self) -> None:
        """Let nothing leave until :meth:`release`; what does then is counted from 0."""
        self._held = True
        self._schedule = Schedule()
        self._repairs = Schedule()
        self._control = _Shelf()
        self._blocked_at = -1
        self.credit_limit = self.sent = 0
        for stream in self._streams.values():
            stream.queue = None
            stream.blocked_at = -1
            stream.send.limit = 0

    def release(self) -> None:
        """Data may leave again, and what was wanted meanwhile."""
        self._held = False
        self._control = dict(self._control)

    def count_reset(self, send: SendHalf, received: int) -> None:
        """A half that was reset goes on: what the peer has not yet seen of it counts as sent."""
        if send.resetting:
            self.sent += send.end - received

    def drop(self, stream: Stream) -> None:
        """This stream has no data to send any more."""
        if stream.queue is not None:
            stream.queue.drop(stream)

    def forget(self, stream: Stream) -> None:
        """This stream is over."""
        self.drop(stream)
        if self._pool.drop(stream.stream_id):
            self._ask_waiting()

    # --- what the peer may send

    def offer_credit(self, stream: Stream) -> None:
        """Tell the peer of new limits where there is half a window to give."""
        receive = stream.receive
        if receive.window.consumed >= receive.window.due_at and receive.wants_credit:
            self.want(MAX_STREAM_DATA, stream.stream_id)
        if self._window.consumed >= self._window.due_at:
            self.want(MAX_DATA)

    def give_credit(self, stream: Stream) -> None:
        """The stream was read: settle what it holds, and tell the peer of new limits."""
        receive, session = stream.receive, self._window
        if self._pool.engaged or receive.discarding or receive.error is not None:
            self.settle_credit(stream)
        if receive.window.consumed >= receive.window.due_at or session.consumed >= session.due_at:
            self.offer_credit(stream)

    def offer_streams(self) -> None:
        """Tell the peer of new limits where it has used half of what it had."""
        if self._ids.due:
            self.want(MAX_STREAMS)

    def settle_credit(self, stream: Stream) -> None:
        """The stream was read, or failed: what it held of the pool for messages may be less."""
        receive = stream.receive
        if receive.discarding or receive.error is not None:
            gave_back = self._pool.drop(stream.stream_id)
        else:
            beyond = receive.window.limit - self._window_size
            gave_back = self._pool.settle(stream.stream_id, receive.read_offset, beyond)
        if gave_back:
            self._ask_waiting()

    def _ask_waiting(self) -> None:
        for stream_id in self._pool.waiting:
            self.want(MAX_STREAM_DATA, stream_id)
        self._pool.waiting.clear()

    # --- into packets

    def take_one(self, room: int, *, full: bool) -> tuple[bytes, Token] | None:
        """One DATA frame of at most ``room`` bytes: all there is to send, or with ``full`` as much as fits of the one
        stream that has anything to send; None where it is no such case.
        """
        if self._control or self._repairs.levels:
            return None
        stream = self._schedule.only()
        if stream is None or (stream.opened and not stream.open_acked):
            return None
        send = stream.send
        before = send.sent
        taken = send.take_one(room, self.credit_limit - self.sent, full=full)
        if taken is not None:
            self.sent += send.sent - before
            if send.wants_room:
                self.offer_room(stream)
            if send.sent == send.end:
                self._schedule.drop(stream)
            else:
                self._after_sending(stream)
        return taken

    def _after_sending(self, stream: Stream) -> bool:
        """See to where ``stream``, which has just sent, stands now; whether that is where it stood."""
        send, queue = stream.send, stream.queue
        if send.sent < send.end and self.sent >= self.credit_limit:
            self._note_blocked()
        owes = send.owes
        if owes if queue is self._repairs else not owes and send.limit > send.sent < send.end:
            return True
        if queue is not None:
            queue.drop(stream)
        self.plan(stream)  # or notes what it waits for
        return False

    def has_room(self, stream: Stream) -> bool:
        """Whether the buffer takes anything now; where not, a StreamWritable follows."""
        send = stream.send
        send.check_open()
        if send.unsent < self._send_buffer and not self._held:
            return True
        send.wants_room = True
        return False

    def offer_room(self, stream: Stream) -> None:
        """Tell the application when a buffer that was full is half empty."""
        send = stream.send
        if 2 * send.unsent < self._send_buffer:
            send.wants_room = False
            self._events.append(StreamWritable(self._key, stream.stream_id))

    def fill(self, batch: Batch, now: float) -> None:
        """Put control frames, then data, into ``batch`` until it is full or nothing is left to send."""
        if self._control:
            self._fill_control(batch, now)
        if self._schedule.levels or self._repairs.levels:
            self._fill_data(batch)
            if self._control and batch.packets_left > 0:
                self._fill_control(batch, now)  # BLOCKED, noticed just now

    def _next_queue(self) -> Schedule | None:
        """Whose head's turn it is: within an urgency, what is owed goes before what is new."""
        repairs, schedule = self._repairs, self._schedule
        if not schedule.levels or self.sent >= self.credit_limit:
            return repairs if repairs.levels else None
        return repairs if repairs.levels and repairs.urgency <= schedule.urgency else schedule

    def _fill_data(self, batch: Batch) -> None:
        announced: set[int] = set()
        body = batch.room - DATA_OVERHEAD
        while batch.packets_left > 0 or batch.free >= DATA_OVERHEAD + SPLINTER:
            queue = self._next_queue()
            if queue is None:
                return
            stream, alone = queue.head()
            if 0 < stream.frame_limit < body:
                return  # its packets are smaller than these: the next batch is made for it
            send = stream.send
            if stream.announcing and stream.stream_id not in announced:
                if not self._announce(stream, batch):
                    return
                announced.add(stream.stream_id)
            before = send.sent
            done = send.fill(batch, self.credit_limit - self.sent, batch.limit if alone else -(-stream.turn // body))
            self.sent += send.sent - before
            if send.wants_room:
                self.offer_room(stream)
            if self._after_sending(stream):
                if not done:
                    return  # what is left of the batch is too small for it
                queue.spend(stream, done)

    def _announce(self, stream: Stream, batch: Batch) -> bool:
        """Put STREAM_OPEN into the packet that will hold the stream's first data of this batch."""
        frame = _open_frame(stream)
        if batch.open_packet and batch.free < len(frame) + DATA_OVERHEAD + SPLINTER:
            batch.end_packet()
        if not batch.add(frame, (OPEN, stream.stream_id)):
            return False
        self._control.pop((OPEN, stream.stream_id, 0), None)
        return True

    def _can_send(self, stream: Stream) -> bool:
        return stream.queue is self._repairs or (stream.queue is not None and self.sent < self.credit_limit)

    def _fill_control(self, batch: Batch, now: float) -> None:
        for want in list(self._control):
            # Building a grant notes it as given: ask for room first, or one that finds none is forgotten.
            if not batch.fits(ROOM_FOR_ANY):
                return
            kind, stream_id, detail = want
            stream = self._streams.get(stream_id)
            if kind == OPEN and stream is not None and self._can_send(stream):
                continue  # goes with its data, see _announce
            if kind in _OF_STREAMS:
                built = None if stream is None else _OF_STREAMS[kind](self, stream, detail, now)
            else:
                built = self._build_blocked(BlockedKind(detail), stream) if kind == BLOCKED else self._build(kind, now)
            if built is not None and not batch.add(*built):
                return
            del self._control[want]

    def _build(self, kind: int, now: float) -> tuple[bytes, Token]:
        if kind == MAX_DATA:
            limit = self._window.grant(now, self.rtt_hint)
            return frames.MaxData(limit).encode(), (kind, limit)
        granted = self._ids.grant()
        return frames.MaxStreams(*granted).encode(), (kind, *granted)

    def _build_blocked(self, kind: BlockedKind, stream: Stream | None) -> tuple[bytes, Token] | None:
        """BLOCKED, if it still is so. It is only news for people and traces, so a lost one is not repeated."""
        stream_id = 0
        if kind is BlockedKind.STREAM:
            if stream is None or not stream.send.limit <= stream.send.sent < stream.send.end:
                return None
            stream_id = stream.stream_id
            limit = stream.blocked_at = stream.send.limit
        elif kind is BlockedKind.SESSION:
            if self.sent < self.credit_limit:
                return None
            limit = self._blocked_at = self.credit_limit
        else:
            limit = self._ids.automatic_limit
        return frames.Blocked(kind, stream_id, limit).encode(), (BLOCKED, stream_id)

    def _build_open(self, stream: Stream, repeat: int, now: float) -> tuple[bytes, Token] | None:
        return (_open_frame(stream), (OPEN, stream.stream_id)) if stream.announcing else None

    def _build_close(self, stream: Stream, repeat: int, now: float) -> tuple[bytes, Token] | None:
        send = stream.send
        if send.state is not SendState.RESET_SENT:
            return None
        return frames.StreamClose(stream.stream_id, send.code, send.end).encode(), (CLOSE, stream.stream_id)

    def _build_stop(self, stream: Stream, repeat: int, now: float) -> tuple[bytes, Token] | None:
        if stream.receive.state is not ReceiveState.OPEN:
            return None  # nothing to stop any more
        return frames.StreamStop(stream.stream_id, stream.stop_code).encode(), (STOP, stream.stream_id)

    def _build_max_stream_data(self, stream: Stream, repeat: int, now: float) -> tuple[bytes, Token] | None:
        if not stream.receive.wants_credit:
            return None
        before = stream.receive.window.limit
        limit = self._grant(stream, now)
        if limit == before and not repeat:
            return None  # the pool has nothing left for it now
        return frames.MaxStreamData(stream.stream_id, limit).encode(), (MAX_STREAM_DATA, stream.stream_id, limit)

    def _grant(self, stream: Stream, now: float) -> int:
        """Raise a stream's receive limit; one of messages within what the session's pool for them allows."""
        receive = stream.receive
        window = receive.window
        if stream.mode is not StreamMode.MESSAGES:
            limit = window.grant(now, self.rtt_hint)
        else:
            pool = self._pool
            stream_id = stream.stream_id
            floor = receive.read_offset + self._window_size
            ceiling = floor + pool.available(stream_id)
            if ceiling < receive.head_end and pool.favour(stream_id, receive.head_end):
                ceiling = receive.head_end
            limit = window.grant(now, self.rtt_hint, ceiling, tune=pool.relaxed)
            pool.charge(stream_id, max(0, limit - floor))
            if limit < window.consumed + window.size:
                pool.waiting[stream_id] = None
        # A session's window no smaller than a stream's, or one fast stream could never use its own.
        self._window.widen(window.size)
        return limit

    # --- losses

    def on_lost(self, token: Token) -> None:
        """A control frame is lost: it is sent again if it still says something."""
        kind = token[0]
        if kind == MAX_DATA:
            repeat = token[1] == self._window.limit
        elif kind == MAX_STREAMS:
            repeat = token[1:] == self._ids.granted
        else:
            stream = self._streams.get(token[1])
            repeat = stream is not None and _worth_repeating(stream, token)
        if repeat:
            stream_id = 0 if kind in (MAX_DATA, MAX_STREAMS) else token[1]
            self.want(kind, stream_id, int(kind == MAX_STREAM_DATA))


def _open_frame(stream: Stream) -> bytes:
    mode = StreamMode.MESSAGES if stream.mode is None else stream.mode
    return frames.StreamOpen(stream.stream_id, mode, stream.priority, stream.purpose).encode()


def _worth_repeating(stream: Stream, token: Token) -> bool:
    kind = token[0]
    if kind == OPEN:
        return stream.announcing
    if kind == CLOSE:
        return stream.send.state is SendState.RESET_SENT
    if kind == STOP:
        return stream.receive.state is ReceiveState.OPEN
    return kind == MAX_STREAM_DATA and token[2] == stream.receive.window.limit


_OF_STREAMS: Final[Mapping[int, Callable[[Outgoing, Stream, int, float], tuple[bytes, Token] | None]]] = {
    OPEN: Outgoing._build_open,
    CLOSE: Outgoing._build_close,
    STOP: Outgoing._build_stop,
    MAX_STREAM_DATA: Outgoing._build_max_stream_data,
}
