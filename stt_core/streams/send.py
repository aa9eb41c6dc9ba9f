"""The sending half of a stream: what was accepted, sent, acknowledged and lost, and the DATA packets made of it.

Rule: bytes are kept by reference from acceptance to acknowledgement and are copied once, into their packet. Equal
full packets are made by the run, in one comprehension; whatever costs more is done once per poll, not per packet.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from stt_core.errors import ErrorCode, StreamClosedError, StreamResetError, Violation
from stt_core.frames import DATA_OVERHEAD, FrameType, pack_data
from stt_core.packing import Batch, Token
from stt_core.ranges import RangeSet
from stt_core.state import SEND, SendState, SendTrigger, advance

SPLINTER: Final = 64
"""A rest of an open packet smaller than this is left empty rather than filled with a piece of a long run."""
OWN_CHUNK: Final = 16_384
"""Pending writes below this size are joined with their neighbours before they are sent."""

_DATA = int(FrameType.DATA)
_DATA_FIN = int(FrameType.DATA_FIN)
_TERMINAL: Final = (SendState.DATA_ACKED, SendState.RESET_ACKED)


class SendHalf:
    """What one stream sends. Offsets: ``base`` ≤ ``sent`` ≤ ``end``: acknowledged, sent once, accepted.

    ``limit`` is the peer's flow-control limit; ``error`` is the code sending fails with once the peer stopped it;
    ``wants_room`` remembers that a write was turned down or cut short.
    """

    __slots__ = (
        "_acked", "_chunks", "_fin_acked", "_fin_sent", "_lost", "_pending", "_starts", "base", "code", "end",
        "error", "limit", "sent", "state", "stream_id", "wants_room", "watched",
    )  # fmt: skip

    def __init__(self, stream_id: int, limit: int) -> None:
        self.stream_id = stream_id
        self.limit = limit
        self.state = SendState.OPEN
        self.base = 0
        self.sent = 0
        self.end = 0
        self.code = 0
        self.error: int | None = None
        self.wants_room = False
        # Chunks by ascending offset, and the offsets; pending ones have none yet.
        self._chunks: list[bytes] = []
        self._starts: list[int] = []
        self._pending: list[bytes] = []
        self._acked: RangeSet | None = None  # above base
        self._lost: RangeSet | None = None
        self.watched: list[int] | None = None
        """Offsets that :meth:`reached` is to return, ascending; None for none."""
        self._fin_sent = False
        self._fin_acked = False

    @property
    def unsent(self) -> int:
        """Accepted bytes that have never been sent."""
        return self.end - self.sent

    @property
    def held_bytes(self) -> int:
        """Bytes kept here, waiting to be sent or to be acknowledged."""
        return sum(map(len, self._chunks)) + sum(map(len, self._pending))

    @property
    def may_grow(self) -> bool:
        """Whether more may follow what is unsent, and nothing has to be sent again before."""
        return self.state is SendState.OPEN and not self._lost

    @property
    def terminal(self) -> bool:
        """Whether the peer has all of this half, or knows that it won't."""
        return self.state in _TERMINAL

    @property
    def unacknowledged(self) -> bool:
        """Whether the peer still has to acknowledge bytes, the end, or a reset."""
        return self.base < self.end or self.state in (SendState.DATA_SENT, SendState.RESET_SENT)

    @property
    def any_acked(self) -> bool:
        """Whether the peer has acknowledged any of it."""
        return self.base > 0 or bool(self._acked) or self._fin_acked

    @property
    def resetting(self) -> bool:
        """Whether the peer has yet to learn of a reset."""
        return self.state is SendState.RESET_SENT

    @property
    def owes(self) -> bool:
        """Whether there is something to send that the peer has given room for already: what was lost, or the end."""
        return bool(self._lost) or (self.state is SendState.DATA_SENT and not self._fin_sent and self.sent == self.end)

    # --- what the application does

    def check_open(self) -> None:
        """Whether more may be accepted.

        :raises StreamResetError: where the peer stopped the stream; StreamClosedError where this side finished or
            reset it.
        """
        if self.error is not None:
            raise StreamResetError(f"the peer stopped stream {self.stream_id} with code {self.error}", code=self.error)
        if self.state is not SendState.OPEN:
            finished = self.state in (SendState.DATA_SENT, SendState.DATA_ACKED)
            raise StreamClosedError(f"this side {'finished' if finished else 'reset'} stream {self.stream_id}")

    def append(self, data: bytes) -> None:
        """Accept ``data``, at least one byte."""
        self._pending.append(data)
        self.end += len(data)

    def finish(self) -> None:
        """Nothing follows what was accepted."""
        self._move(SendTrigger.FINISH)

    def reset(self, code: int) -> None:
        """Abandon this half; nothing of it is sent again."""
        self._move(SendTrigger.RESET)
        self.code = code
        self.end = self.sent
        self.base = self.sent
        self.watched = None
        self._forget()

    def watch(self) -> int:
        """Note the current end; :meth:`reached` returns it once everything before it is acknowledged."""
        if self.watched is None:
            self.watched = []
        if not self.watched or self.watched[-1] != self.end:
            self.watched.append(self.end)
        return self.end

    def reached(self) -> list[int]:
        """Watched offsets that are acknowledged now; each is returned once."""
        watched = self.watched
        if not watched or watched[0] > self.base:
            return []
        count = bisect_right(watched, self.base)
        done, rest = watched[:count], watched[count:]
        self.watched = rest or None
        return done

    # --- what leaves

    def take_one(self, room: int, credit: int, *, full: bool) -> tuple[bytes, Token] | None:
        """One DATA frame of at most ``room`` bytes, noted as sent: all that is unsent, or with ``full`` as much of more
        as fits. None where it is no such case.

        The path of packets that leave by themselves, being small or huge. What was lost, an end, or bytes left of
        earlier packets go through :meth:`fill`.
        """
        if self._lost or self.state is not SendState.OPEN:
            return None
        start, size = self.sent, self.end - self.sent
        body = room - DATA_OVERHEAD
        if size <= body:
            if size <= 0 or size > credit or start + size > self.limit:
                return None
            pending = self._pending
            data = pending[0] if len(pending) == 1 else b"".join(pending)
            if len(data) != size:
                return None
            self._pending = []
            self._starts.append(start)
            self._chunks.append(data)
            frame = pack_data(_DATA, self.stream_id, start, size) + data
        elif full and 0 < body <= min(credit, self.limit - start):
            if self._pending:
                self._seal()
            (frame,) = self._plains(start, 1, body)
            size = body
        else:
            return None
        self.sent = start + size
        return frame, (_DATA, self.stream_id, start, self.sent, False)

    def fill(self, batch: Batch, credit: int, packets: int) -> int:
        """Put about ``packets`` packets into ``batch``, what was lost first; returns the bytes put in.

        New bytes are at most ``credit``; ``sent`` tells how many there were.
        """
        first = len(batch.plains)
        total = 0
        lost = self._lost
        while lost:
            start = lost.first or 0
            stop = lost.covered_prefix(start)
            position = self._emit(batch, start, stop, packets - len(batch.plains) + first)
            lost.subtract(start, position)
            total += position - start
            if position < stop:
                return total
        start, stop = self.sent, min(self.end, self.limit, self.sent + credit)
        if start < stop:
            if self._pending:
                self._seal()
            self.sent = self._emit(batch, start, stop, packets - len(batch.plains) + first)
            total += self.sent - start
        if self.owes and batch.fits(DATA_OVERHEAD):
            self._piece(batch, self.end, self.end)
        return total

    def _emit(self, batch: Batch, position: int, stop: int, packets: int) -> int:
        """Put bytes from ``position`` on into ``batch``; returns up to where it came."""
        body = batch.room - DATA_OVERHEAD
        free = batch.free - DATA_OVERHEAD
        if batch.open_packet and free >= min(stop - position, SPLINTER):
            position = self._piece(batch, position, min(stop, position + free))
        whole = min((stop - position) // body, batch.packets_left, packets)
        if whole > 0:
            if position + whole * body == self.end and self.state is SendState.DATA_SENT and not self._fin_sent:
                whole -= 1  # the end rides on the last packet, which is no part of the run then
            if whole:
                batch.add_run(self._plains(position, whole, body), (self.stream_id, position, body))
                position += whole * body
        if position < stop <= position + body and batch.packets_left > 0:
            position = self._piece(batch, position, stop)
        return position

    def _piece(self, batch: Batch, start: int, stop: int) -> int:
        fin = self.state is SendState.DATA_SENT and stop == self.end and not self._fin_sent
        self._fin_sent = self._fin_sent or fin
        head = pack_data(_DATA_FIN if fin else _DATA, self.stream_id, start, stop - start)
        frame = self._with_bytes(head, start, stop) if stop > start else head
        batch.add(frame, (_DATA, self.stream_id, start, stop, fin))
        return stop

    def _plains(self, position: int, count: int, body: int) -> list[bytes]:
        """``count`` packets of ``body`` bytes each from ``position`` on."""
        stream_id = self.stream_id
        plains: list[bytes] = []
        while count:
            index = bisect_right(self._starts, position) - 1
            start = self._starts[index]
            chunk = self._chunks[index]
            at = position - start
            whole = min(count, (len(chunk) - at) // body)
            if whole:
                view = memoryview(chunk)
                plains += [
                    pack_data(_DATA, stream_id, start + p, body) + view[p : p + body]
                    for p in range(at, at + whole * body, body)
                ]
            else:  # a packet across chunks
                whole = 1
                head = pack_data(_DATA, stream_id, position, body)
                plains.append(self._with_bytes(head, position, position + body))
            position += whole * body
            count -= whole
        return plains

    def _with_bytes(self, head: bytes, start: int, stop: int) -> bytes:
        """``head`` and bytes ``start`` to ``stop`` of the stream, at least one."""
        chunks, starts = self._chunks, self._starts
        index = bisect_right(starts, start) - 1
        at = start - starts[index]
        left = stop - start
        parts: list[bytes | memoryview] = [head, memoryview(chunks[index])[at : at + left]]
        left -= len(parts[1])
        while left:
            index += 1
            parts.append(memoryview(chunks[index])[:left])
            left -= len(parts[-1])
        return b"".join(parts)

    def _seal(self) -> None:
        """Turn pending writes into chunks; small neighbours become one."""
        small: list[bytes] = []
        for data in self._pending:
            if len(data) < OWN_CHUNK:
                small.append(data)
                continue
            self._add_chunk(small)
            self._add_chunk([data])
            small = []
        self._add_chunk(small)
        self._pending = []

    def _add_chunk(self, parts: list[bytes]) -> None:
        if parts:
            # With no chunk held, all that ever was in one is acknowledged, so it was sent.
            self._starts.append(self._starts[-1] + len(self._chunks[-1]) if self._starts else self.sent)
            self._chunks.append(parts[0] if len(parts) == 1 else b"".join(parts))

    # --- acknowledgement and loss

    def on_acked(self, start: int, stop: int, fin: bool = False) -> None:
        """The peer has bytes ``start`` to ``stop``, and the end if ``fin``."""
        if self.state not in (SendState.OPEN, SendState.DATA_SENT):
            return
        self._fin_acked = self._fin_acked or fin
        if stop > self.base:
            acked = self._acked
            if start <= self.base:
                self.base = stop
                if acked:
                    self.base = acked.covered_prefix(stop)
                    acked.subtract(0, self.base)
                if self.base == self.end:
                    self._chunks = []
                    self._starts = []
                else:
                    self._release()
            else:
                if acked is None:
                    acked = self._acked = RangeSet()
                acked.add(start, stop)
            if self._lost:
                self._lost.subtract(start, stop)
        if self._fin_acked and self.base == self.end:
            self._move(SendTrigger.ALL_ACKED)
            self._forget()

    def on_lost(self, start: int, stop: int, fin: bool = False) -> None:
        """A packet with bytes ``start`` to ``stop`` is lost: send what of it isn't acknowledged otherwise."""
        if self.state not in (SendState.OPEN, SendState.DATA_SENT):
            return
        if fin and not self._fin_acked:
            self._fin_sent = False
        start = max(start, self.base)
        if start >= stop:
            return
        if self._lost is None:
            self._lost = RangeSet()
        if self._acked:
            for gap in self._acked.gaps(start, stop):
                self._lost.add(*gap)
        else:
            self._lost.add(start, stop)

    def on_reset_acked(self) -> None:
        """The peer knows of the reset."""
        if self.state is SendState.RESET_SENT:
            self._move(SendTrigger.RESET_ACKED)

    # --- under new keys

    def resume(self, received: int, limit: int, *, complete: bool = False, reset: bool = False) -> bool:
        """Go on from what the peer has: ``received`` bytes, the end too where it is ``complete``, or our ``reset``.

        What it may be sent reaches to ``limit``. False where it lacks bytes that are gone here.

        :raises Violation: where it has what was never sent.
        """
        if self.terminal:
            return True
        if received > self.sent:
            raise self._lie(f"{received} bytes, of {self.sent} sent")
        self.limit = max(self.limit, limit)
        if self.state is SendState.RESET_SENT:
            if reset or complete:
                self._move(SendTrigger.RESET_ACKED)
            return True
        if reset:
            raise self._lie("a reset that never was")
        if received < self.base:
            return False
        # What it acknowledged behind a gap it dropped with its old keys: only what is in order counts.
        self._acked = self._lost = None
        self._fin_sent = self._fin_acked = False
        self.base = self.sent = received
        self._release()
        if complete:
            if self.state is not SendState.DATA_SENT or received != self.end:
                raise self._lie("an end that never was")
            self._fin_sent = self._fin_acked = True
            self._move(SendTrigger.ALL_ACKED)
            self._forget()
        return True

    def conclude(self) -> bool:
        """The peer is done with this half and has forgotten it; False where it can't be."""
        if self.state is SendState.RESET_SENT:
            self._move(SendTrigger.RESET_ACKED)
        elif self.state is SendState.DATA_SENT and self.sent == self.end:  # an end taken for lost may have arrived
            self.base = self.end
            self._move(SendTrigger.ALL_ACKED)
            self._forget()
        return self.terminal

    def _lie(self, what: str) -> Violation:
        return Violation(ErrorCode.PROTOCOL_VIOLATION, f"RESUME_STATE: of stream {self.stream_id} it has {what}")

    def _release(self) -> None:
        """Let go of the chunks that are acknowledged to their end."""
        starts = self._starts
        if not starts:
            return
        count = bisect_right(starts, self.base) - 1
        if starts[-1] + len(self._chunks[-1]) <= self.base:
            count += 1
        del starts[:count], self._chunks[:count]

    def _forget(self) -> None:
        self._chunks = []
        self._starts = []
        self._pending = []
        self._acked = self._lost = None

    def _move(self, trigger: SendTrigger) -> None:
        self.state = advance(SEND, self.state, trigger)
