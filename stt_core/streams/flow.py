"""Flow control of what we receive: windows that follow the reader, and the pool unfinished messages share.

Rule: credit grows with what was consumed, never with what arrived (RFC 9000 section 4.1), and is announced when half
a window can be given. Of a message that is not whole yet, what has come counts as consumed, or a message larger than
the window could never arrive; what that may pin in memory, over all streams of a session, is bounded by the pool.
"""

from __future__ import annotations

from typing import Final

from stt_core.config import MIB
from stt_core.errors import ErrorCode, Violation

FAST_RTTS: Final = 2
"""A window is doubled when half of it was drained within so many round trips."""
PIECE_COST: Final = 128
"""What a piece held behind a gap costs beside its bytes: object headers and list slots, rounded up."""
UNFINISHED_LIMIT: Final = 64 * MIB
"""Bytes of credit beyond the ordinary windows that unread messages of one session share; the oldest may exceed it."""


class ReceiveWindow:
    """One receive window, of a stream or of a session; all counts are in bytes since the beginning.

    ``received`` is the highest offset seen (for a session: the sum of them), ``consumed`` what the application took,
    ``limit`` what the peer was told it may reach.
    """

    __slots__ = ("_granted_at", "consumed", "due_at", "limit", "maximum", "received", "size")

    def __init__(self, size: int, maximum: int) -> None:
        self.size = size
        self.maximum = maximum
        self.limit = size
        self.received = 0
        self.consumed = 0
        self.due_at = size - size // 2
        """What must be consumed for the peer to be told of a new limit: enough to give half a window."""
        self._granted_at: float | None = None

    def receive(self, total: int) -> None:
        """The peer's data now reaches to ``total``.

        :raises Violation: FLOW_CONTROL, above the limit.
        """
        if total > self.limit:
            raise Violation(ErrorCode.FLOW_CONTROL, f"data up to {total}, {self.limit} was allowed")
        self.received = total

    def grant(self, now: float, rtt: float, ceiling: int | None = None, *, tune: bool = True) -> int:
        """Raise the limit as far as consumption and ``ceiling`` allow and return it.

        A window drained fast is doubled, with ``tune``.
        """
        if self.consumed >= self.due_at:
            if tune and self._granted_at is not None and now - self._granted_at < FAST_RTTS * rtt:
                self.size = min(2 * self.size, self.maximum)
            self._granted_at = now
        limit = self.consumed + self.size
        if ceiling is not None:
            limit = min(limit, ceiling)
        self.limit = max(self.limit, limit)
        self.due_at = self.limit - self.size // 2
        return self.limit

    def restart(self, size: int, received: int) -> None:
        """Be ``size`` bytes wide again, of a peer that has sent ``received`` so far."""
        self.size = size
        self.received = received
        self.limit = self.consumed + size
        self.due_at = self.limit - size // 2
        self._granted_at = None

    def widen(self, size: int) -> None:
        """Be at least ``size`` bytes wide from the next grant on."""
        if size > self.size:
            self.size = size
            self.due_at = self.limit - size // 2


class SessionWindow(ReceiveWindow):
    """A session's window. ``overhead`` counts :data:`PIECE_COST` for each piece its streams hold behind gaps."""

    __slots__ = ("overhead",)

    def __init__(self, size: int, maximum: int) -> None:
        super().__init__(size, maximum)
        self.overhead = 0

    def start_over(self, size: int, unread: int) -> None:
        """Count from 0 again, with ``unread`` bytes from before that still wait to be consumed."""
        self.consumed = -unread
        self.restart(size, 0)
        self.limit = size
        self.due_at = size - size // 2

    def hold(self, pieces: int) -> None:
        """Account for ``pieces`` more (or fewer, if negative) pieces.

        :raises Violation: FLOW_CONTROL, where they would cost more than the window: only sparse frames sent on
            purpose come near.
        """
        self.overhead += pieces * PIECE_COST
        if self.overhead > self.size:
            raise Violation(ErrorCode.FLOW_CONTROL, f"data in {self.overhead // PIECE_COST} separate pieces")


class MessagePool:
    """Credit of message streams beyond their first window: who holds how much.

    Past ``limit`` bytes one stream at a time, the one that asked first, is favoured: it gets what the message it is
    in needs and no more. So memory is bounded and yet each message can be finished: nobody waits for ever for somebody
    who waits as well. The favour passes on when that message was read.
    """

    __slots__ = ("_charges", "_favoured", "_favoured_end", "_total", "limit", "waiting")

    def __init__(self, limit: int = UNFINISHED_LIMIT) -> None:
        self.limit = limit
        self.waiting: dict[int, None] = {}
        """Streams that were given less than they wanted, to be asked again when something is given back."""
        self._charges: dict[int, int] = {}
        self._total = 0
        self._favoured = 0
        self._favoured_end = 0

    @property
    def relaxed(self) -> bool:
        """Whether there is enough left to let windows grow: that takes credit which idle streams never give back."""
        return 2 * self._total <= self.limit

    @property
    def engaged(self) -> bool:
        """Whether any stream holds something, or waits for it: else there is nothing to settle."""
        return bool(self._total or self.waiting or self._favoured)

    def available(self, stream_id: int) -> int:
        """How many bytes above its first window this stream may hold in all."""
        return max(0, self.limit - self._total + self._charges.get(stream_id, 0))

    def favour(self, stream_id: int, message_end: int) -> bool:
        """Whether this stream may have what it needs up to ``message_end``, whatever the others hold."""
        if self._favoured and self._favoured != stream_id:
            return False
        self._favoured = stream_id
        self._favoured_end = message_end
        return True

    def charge(self, stream_id: int, amount: int) -> None:
        """Set what a stream holds."""
        self._total += amount - self._charges.pop(stream_id, 0)
        if amount:
            self._charges[stream_id] = amount

    def settle(self, stream_id: int, read_offset: int, beyond: int) -> bool:
        """A stream was read up to ``read_offset``, its limit less its first window is ``beyond``.

        True where something was given back that others wait for.
        """
        before = self._charges.get(stream_id, 0)
        self.waiting.pop(stream_id, None)
        if before:
            self.charge(stream_id, min(before, max(0, beyond - read_offset)))
        free = self._favoured == stream_id and read_offset >= self._favoured_end
        if free:
            self._favoured = 0
        return free or self._charges.get(stream_id, 0) < before

    def drop(self, stream_id: int) -> bool:
        """A stream is over; True where it held something."""
        held = stream_id in self._charges or self._favoured == stream_id
        self.charge(stream_id, 0)
        self.waiting.pop(stream_id, None)
        if self._favoured == stream_id:
            self._favoured = 0
        return held
