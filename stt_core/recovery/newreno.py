"""NewReno congestion control, RFC 9002 section 7 and appendix B.

Rule: the window shrinks once per round trip of trouble, however many packets that trouble takes.
"""

from __future__ import annotations

from math import inf

from stt_core.recovery.congestion import initial_window, minimum_window

LOSS_REDUCTION = 0.5


class NewReno:
    """A :class:`~stt_core.recovery.congestion.CongestionController`."""

    __slots__ = ("_credit", "_recovery_start", "_size", "_untouched", "cwnd", "ssthresh")

    def __init__(self, datagram_size: int) -> None:
        self._size = datagram_size
        self.cwnd = initial_window(datagram_size)
        """Bytes that may be in flight."""
        self.ssthresh: float = inf
        """Bytes up to which the window doubles each round trip."""
        self._recovery_start = -inf
        """Packets sent up to then belong to trouble already paid for."""
        self._credit = 0
        """Bytes acknowledged in congestion avoidance and not yet turned into growth."""
        self._untouched = True

    def on_sent(self, size: int, now: float) -> None:
        """Sending alone moves nothing in NewReno."""

    def on_acked(self, size: int, newest_sent_at: float, now: float, app_limited: bool) -> None:
        """Grow: by what arrived in slow start, by a datagram per window in congestion avoidance."""
        if app_limited or newest_sent_at <= self._recovery_start:
            return
        self._untouched = False
        if self.cwnd < self.ssthresh:
            # One call may carry a whole batch: what goes beyond the threshold counts for congestion avoidance.
            growth = size if self.ssthresh == inf else min(size, int(self.ssthresh) - self.cwnd)
            self.cwnd += growth
            size -= growth
        self._credit += size
        while self._credit >= self.cwnd:
            self._credit -= self.cwnd
            self.cwnd += self._size

    def on_congestion(self, sent_at: float, now: float) -> None:
        """Halve the window, unless that was done after ``sent_at`` already."""
        if sent_at <= self._recovery_start:
            return
        self._untouched = False
        self._recovery_start = now
        self._credit = 0
        reduced = int(self.cwnd * LOSS_REDUCTION)
        self.ssthresh = reduced
        self.cwnd = max(reduced, minimum_window(self._size))

    def on_persistent_congestion(self, now: float) -> None:
        """Back to the least window; slow start leads out again."""
        self.cwnd = minimum_window(self._size)
        self._recovery_start = -inf
        self._credit = 0

    def set_datagram_size(self, size: int) -> None:
        """Before the network said anything the initial window is computed anew, later only the minimum rises."""
        self._size = size
        self.cwnd = initial_window(size) if self._untouched else max(self.cwnd, minimum_window(size))

    def __repr__(self) -> str:
        return f"NewReno(cwnd={self.cwnd}, ssthresh={self.ssthresh})"
