"""The receiving half of a stream: reassembly, final size, and reading in order.

Rule: what a peer can make us keep is bounded by the windows, its fragments' overhead included. In-order data is
appended by the list; only what lies behind a gap is looked at piece by piece. Nothing is copied twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from stt_core.errors import ErrorCode, StreamClosedError, StreamResetError, Violation
from stt_core.packet import LARGE
from stt_core.state import RECEIVE, ReceiveState, ReceiveTrigger, advance
from stt_core.streams.flow import ReceiveWindow, SessionWindow
from stt_core.streams.messages import MAX_PREFIX, parse_length_untrusted
from stt_core.types import StreamMode

JOIN: Final = 4096
"""Neighbours that together are no longer than this are kept as one: a short ``bytes`` is mostly header."""
READ_SIZE: Final = 65_536
"""Bytes one ``read`` returns at most by default: what the largest packet carries comes back as it came."""
WHOLE: Final = 16_384
"""A chunk of at least this many bytes is returned by itself, never joined with others."""
MOST_JOINED: Final = 61_440
"""Bytes that smaller ones are joined to: when 64 KiB are freed glibc gives heap back, to take it again by the page."""
SHORT: Final = 512
"""Chunks shorter than this on average are joined when they arrive."""

_TERMINAL: Final = (ReceiveState.DATA_READ, ReceiveState.RESET_READ)


Chunk = bytes | memoryview
"""Received bytes; a view of its packet where copying would cost more."""


class ByteQueue:
    """Bytes in order, kept as the chunks they came in. ``size`` is how many are there."""

    __slots__ = ("_at", "_chunks", "size")

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._at = 0  # bytes of the first chunk that were taken
        self.size = 0

    def push(self, chunks: Sequence[Chunk], size: int) -> None:
        """Append ``chunks``, ``size`` bytes in all (at least one); the list is not kept."""
        own = self._chunks
        self.size += size
        if len(chunks) > 1 and size < SHORT * len(chunks):
            chunks = [b"".join(chunks)]
        if own and len(own[-1]) + len(chunks[0]) <= JOIN:
            own[-1] = b"".join((own[-1], chunks[0]))
            chunks = chunks[1:]
        own += chunks

    @property
    def head_size(self) -> int:
        """Bytes of the first chunk that are left; there must be one."""
        return len(self._chunks[0]) - self._at

    def take(self, size: int) -> bytes:
        """Remove and return the first ``size`` bytes, 1 to all of them; a whole chunk comes back as it came."""
        chunks = self._chunks
        at = self._at
        first = chunks[0]
        left = len(first) - at
        self.size -= size
        if size < left:
            self._at = at + size
            return bytes(first[at : at + size])
        if size == left:
            self._at = 0
            del chunks[0]
            return bytes(first[at:] if at else first)
        # How many chunks are taken whole: counted in C, as most reads take many. None of them is empty.
        ends = list(accumulate(map(len, chunks[: size // left + 2] if len(chunks) > 1 else chunks), initial=-at))
        while ends[-1] < size and len(ends) <= len(chunks):
            ends.append(ends[-1] + len(chunks[len(ends) - 1]))
        count = bisect_right(ends, size) - 1
        parts = chunks[:count]
        if at:
            parts[0] = first[at:]
        self._at = size - ends[count]
        if self._at:
            parts.append(chunks[count][: self._at])
        del chunks[:count]
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def peek(self, size: int) -> bytes:
        """The first ``size`` bytes, or fewer where fewer are there; they stay."""
        chunks = self._chunks
        at = self._at
        if len(chunks) == 1:
            return bytes(chunks[0][at : at + size])
        found = b""
        for chunk in chunks:
            found += chunk[at : at + size - len(found)]
            at = 0
            if len(found) == size:
                break
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._chunks = []
        self._at = self.size = 0


class ReceiveHalf:
    """What one stream receives.

    ``expected`` is the offset up to which everything arrived, ``final`` the size of the stream once known. ``mode``
    is None until the peer's data may be looked at. ``error`` is the code reading fails with, ``broken`` a code the
    owner must fail this stream with. ``abandoned`` means that the application will not read any more.
    """

    __slots__ = (
        "_head_end", "_head_size", "_pieces", "_session", "_starts", "abandoned", "broken", "discarding", "error",
        "expected", "final", "max_message", "mode", "queue", "read_offset", "state", "stream_id", "window",
    )  # fmt: skip

    def __init__(
        self, stream_id: int, mode: StreamMode | None, window: ReceiveWindow, session: SessionWindow, max_message: int
    ) -> None:
        self.stream_id = stream_id
        self.mode = mode
        self.window = window
        self.max_message = max_message
        self.state = ReceiveState.OPEN
        self.expected = 0
        self.read_offset = 0
        self.final: int | None = None
        self.error: int | None = None
        self.broken: ErrorCode | None = None
        self.discarding = False
        self.abandoned = False
        self.queue = ByteQueue()
        self._session = session
        self._head_end: int | None = None  # where the first unread message ends, once its length is known
        self._head_size = 0
        # Pieces behind a gap, by ascending offset, never overlapping; None while there is no gap.
        self._starts: list[int] = []
        self._pieces: list[Chunk] = []

    @property
    def in_order(self) -> bool:
        """Whether the next bytes, if they come in order, need nothing but to be appended."""
        return self.state is ReceiveState.OPEN and not (self._starts or self.discarding) and self.mode is not None

    @property
    def terminal(self) -> bool:
        """Whether there is nothing left to receive or to read."""
        return self.state in _TERMINAL

    @property
    def wants_credit(self) -> bool:
        """Whether more data may come and anybody wants it."""
        return self.state is ReceiveState.OPEN and not self.discarding

    @property
    def head_end(self) -> int:
        """Up to which offset the message in progress needs credit; 0 where that isn't known."""
        return self._head_end or 0

    @property
    def readable(self) -> bool:
        """Whether reading would tell something: data, a whole message, the end, or an error."""
        if self.abandoned or self.mode is None:
            return False
        if self.error is not None or self.expected == self.final:
            return True
        if self.mode is StreamMode.MESSAGES:
            return self._head_end is not None and self.expected >= self._head_end
        return self.queue.size > 0

    # --- what arrives

    def commit(self, chunks: Sequence[Chunk], expected: int) -> None:
        """Append in-order chunks that end at ``expected``; only where :attr:`in_order` holds.

        :raises Violation: FLOW_CONTROL.
        """
        window, session = self.window, self._session
        grown = expected - window.received
        if grown > 0:
            if expected > window.limit or session.received + grown > session.limit:
                self._account(expected)  # raises, and says why
            window.received = expected
            session.received += grown
        self._append(chunks, expected)

    def receive(self, offset: int, data: Chunk, fin: bool) -> None:
        """Take bytes from anywhere in the stream.

        :raises Violation: FLOW_CONTROL, or FINAL_SIZE where the frame contradicts what was said before
            (RFC 9000 section 4.5).
        """
        stop = offset + len(data)
        if offset == self.expected and data and not fin and self.in_order:
            self.commit((data,), stop)
            return
        self._check_final(stop, fin)
        self._account(stop)
        if fin and self.state is ReceiveState.OPEN:
            self.final = stop
            self._move(ReceiveTrigger.FIN)
        if self.discarding:
            self._consume(self.window.received)
            self._settle_discarded()
            return
        if self.state not in (ReceiveState.OPEN, ReceiveState.SIZE_KNOWN):
            return
        if data and stop > self.expected:
            if offset > self.expected:
                self._hold(offset, data)
            else:
                chunks: list[Chunk] = [_cut(data, self.expected - offset, len(data))]
                if self._starts:
                    stop = self._unhold(stop, chunks)
                self._append(chunks, stop)
        if self.state is ReceiveState.SIZE_KNOWN and self.expected == self.final:
            self._move(ReceiveTrigger.COMPLETE)

    def receive_reset(self, code: int, final: int) -> None:
        """The peer abandoned its sending half after ``final`` bytes; whatever was not read yet is dropped.

        :raises Violation: FLOW_CONTROL or FINAL_SIZE.
        """
        self._check_final(final, True)
        self._account(final)
        if self.state not in (ReceiveState.OPEN, ReceiveState.SIZE_KNOWN):
            return  # all data was here before: the reset comes too late to matter (RFC 9000 section 3.2)
        self.final = final
        self._move(ReceiveTrigger.RESET)
        if self.error is None:
            self.error = code
        self._drop()
        if self.abandoned:
            self._move(ReceiveTrigger.READ)

    def set_mode(self, mode: StreamMode) -> None:
        """The peer's STREAM_OPEN has come: what was held may be delivered."""
        self.mode = mode
        if mode is StreamMode.MESSAGES and not self.discarding:
            self._find_head()

    def _check_final(self, stop: int, fin: bool) -> None:
        final = self.final
        if final is None:
            if fin and stop < self.window.received:
                raise Violation(
                    ErrorCode.FINAL_SIZE, f"stream {self.stream_id} ends at {stop}, below {self.window.received}"
                )
        elif stop > final or (fin and stop != final):
            raise Violation(ErrorCode.FINAL_SIZE, f"stream {self.stream_id} reaches {stop}, its final size is {final}")

    def _account(self, stop: int) -> None:
        """Check ``stop`` against both windows."""
        grown = stop - self.window.received
        if grown > 0:
            self.window.receive(stop)
            self._session.receive(self._session.received + grown)

    def _append(self, chunks: Sequence[Chunk], expected: int) -> None:
        self.queue.push(chunks, expected - self.expected)
        self.expected = expected
        if self.mode is StreamMode.MESSAGES:
            self._find_head()

    def _find_head(self) -> None:
        """Learn where the first unread message ends; while it isn't whole, what came of it counts as consumed."""
        if self._head_end is None and self.queue.size:
            try:
                parsed = parse_length_untrusted(self.queue.peek(MAX_PREFIX))
            except Violation as violation:
                self.broken = violation.code
                return
            if parsed is not None:
                length, prefix = parsed
                if length > self.max_message:
                    self.broken = ErrorCode.MESSAGE_TOO_LARGE
                    return
                self._head_end = self.read_offset + prefix + length
                self._head_size = length
        if self._head_end is None or self.expected < self._head_end:
            self._consume(self.expected)

    def _hold(self, offset: int, data: Chunk) -> None:
        """Keep a piece that lies behind a gap, without what is held already."""
        starts, pieces = self._starts, self._pieces
        before = len(starts)
        left = bisect_right(starts, offset)
        if left:
            end = starts[left - 1] + len(pieces[left - 1])
            if end > offset:
                data = _cut(data, end - offset, len(data))
                offset = end
        right = left
        while right < before and starts[right] < offset + len(data):
            if starts[right] + len(pieces[right]) > offset + len(data):
                data = _cut(data, 0, starts[right] - offset)
                break
            right += 1
        if not data:
            return
        # Join with small neighbours: a held piece costs more than its bytes.
        if left and starts[left - 1] + len(pieces[left - 1]) == offset and len(pieces[left - 1]) + len(data) <= JOIN:
            left -= 1
            offset = starts[left]
            data = b"".join((pieces[left], data))
        if right < before and starts[right] == offset + len(data) and len(pieces[right]) + len(data) <= JOIN:
            data = b"".join((data, pieces[right]))
            right += 1
        starts[left:right] = (offset,)
        pieces[left:right] = (data,)
        self._session.hold(len(starts) - before)

    def _unhold(self, stop: int, chunks: list[Chunk]) -> int:
        """Move the held pieces that ``stop`` has reached to ``chunks``; returns where these end now."""
        starts, pieces = self._starts, self._pieces
        count = 0
        for start, piece in zip(starts, pieces, strict=True):
            if start > stop:
                break
            count += 1
            if start + len(piece) > stop:
                chunks.append(_cut(piece, max(0, stop - start), len(piece)))
                stop = start + len(piece)
        del starts[:count], pieces[:count]
        self._session.hold(-count)
        return stop

    # --- reading

    def read(self, max_bytes: int) -> bytes | None:
        """Up to ``max_bytes`` in order; None where nothing is there, ``b""`` at the end.

        :raises StreamResetError: where the peer abandoned the stream.
        """
        self._check_readable()
        size = min(self.queue.size, max_bytes)
        if not size:
            return b"" if self._read_end() else None
        if max_bytes <= READ_SIZE:  # who asks for more has reasons
            head = self.queue.head_size
            size = min(size, head if head >= WHOLE else MOST_JOINED)
        data = self.queue.take(size)
        self.read_offset += len(data)
        self._consume(self.read_offset)
        return data

    def read_message(self) -> bytes | None:
        """The next whole message; None where there is none, at the end too.

        :raises StreamResetError: where the peer abandoned the stream.
        """
        if self.error is not None or self.abandoned:
            self._check_readable()
        end = self._head_end
        if end is None or self.expected < end:
            if self.expected == self.final and self.read_offset < self.final:
                self.broken = ErrorCode.PROTOCOL_VIOLATION  # the stream ended inside a message
            else:
                self._read_end()
            return None
        size = self._head_size
        prefix = end - size - self.read_offset
        if size <= LARGE:
            message = self.queue.take(prefix + size)[prefix:]
        else:  # without copying it twice
            self.queue.take(prefix)
            message = self.queue.take(size)
        self.read_offset = end
        self._head_end = None
        self._consume(end)
        if self.queue.size:
            self._find_head()
        return message

    def at_end(self) -> bool:
        """Whether the peer finished and everything was read; the application has seen the end then."""
        return self._read_end()

    def discard(self) -> None:
        """Drop everything, now and later; what is dropped counts as consumed."""
        self.discarding = True
        self._drop()
        self._settle_discarded()

    def abandon(self) -> None:
        """The application will not read any more."""
        self.abandoned = True
        self.discard()

    def fail(self, code: int) -> None:
        """Let reading fail with ``code`` and drop everything; the application still has to read that."""
        self.error = code
        self.discard()

    def suspend(self, window: int) -> int:
        """The keys are gone: keep what is in order and let go of what lies behind a gap, for it will be sent again.

        The window starts anew, ``window`` bytes wide. Returns how many bytes wait to be consumed.
        """
        if self.discarding or self.state in (ReceiveState.RESET_RECEIVED, ReceiveState.RESET_READ):
            self.expected = self.window.received
        self._session.hold(-len(self._starts))
        self._starts = []
        self._pieces = []
        self.window.restart(window, self.expected)
        return self.expected - self.window.consumed

    def _check_readable(self) -> None:
        if self.error is not None:
            if not self.abandoned:
                self.abandon()
            raise StreamResetError(f"stream {self.stream_id} was reset with code {self.error}", code=self.error)
        if self.abandoned:
            raise StreamClosedError(f"stream {self.stream_id} is not read any more: this side stopped it")

    def _read_end(self) -> bool:
        if self.queue.size or self.error is not None:
            return False
        if self.state is ReceiveState.DATA_RECEIVED:
            self._move(ReceiveTrigger.READ)
        return self.state is ReceiveState.DATA_READ

    def _settle_discarded(self) -> None:
        if self.state is ReceiveState.SIZE_KNOWN:
            self._move(ReceiveTrigger.COMPLETE)
        if self.abandoned and self.state in (ReceiveState.DATA_RECEIVED, ReceiveState.RESET_RECEIVED):
            self._move(ReceiveTrigger.READ)

    def _drop(self) -> None:
        self.queue.clear()
        self._session.hold(-len(self._starts))
        self._starts = []
        self._pieces = []
        self._consume(self.window.received)

    def _consume(self, total: int) -> None:
        """Everything up to ``total`` counts as consumed."""
        window = self.window
        if total > window.consumed:
            self._session.consumed += total - window.consumed
            window.consumed = total

    def _move(self, trigger: ReceiveTrigger) -> None:
        self.state = advance(RECEIVE, self.state, trigger)


def _cut(chunk: Chunk, start: int, stop: int) -> Chunk:
    """Bytes ``start`` to ``stop`` of ``chunk``, by themselves: a view of a part would keep all of its packet, and a
    peer that says nearly everything twice would have us keep 64 KiB for each byte that is new."""
    return chunk if stop - start == len(chunk) else bytes(chunk[start:stop])
