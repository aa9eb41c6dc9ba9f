"""HyStart++, RFC 9406: leave the first slow start when the queue begins to grow, not when it overflows.

Rule: it sees round-trip times and says how fast to grow. The window belongs to the controller that asks.
"""

from __future__ import annotations

from math import inf

MIN_RTT_THRESH = 0.004
MAX_RTT_THRESH = 0.016
"""Seconds by which a round trip must have grown, at least and at most (RFC 9406 section 4.3)."""
MIN_RTT_DIVISOR = 8
"""In between, it is this part of the last round's least round trip."""
N_RTT_SAMPLE = 8
"""Samples in a round before its minimum is believed."""
CSS_GROWTH_DIVISOR = 4
"""How much slower conservative slow start grows."""
CSS_ROUNDS = 5
"""Rounds of conservative slow start, its first and perhaps partial one included, before congestion avoidance."""


class HyStart:
    """The search for the end of one slow start.

    A round ends when a packet arrives that was sent in it. RFC 9406 finds that by sequence number, this by time of
    sending, which is the same: what leaves after a moment has numbers above all that left before.

    How much one ACK may grow the window by has no limit (section 4.3's L): all paths are paced but loopback, where no
    queue is but the peer's socket, whose buffer :mod:`stt_core.budget` divides.
    """

    __slots__ = ("_baseline", "_current", "_last", "_round_began", "_rounds", "_samples")

    def __init__(self) -> None:
        self._round_began = -inf
        self._last = inf
        """The least round trip of the round before, in seconds."""
        self._current = inf
        """The least round trip of this round so far."""
        self._samples = 0
        self._baseline = inf
        """The round trip that began conservative slow start; infinite outside of it."""
        self._rounds = 0
        """Rounds of conservative slow start that ended."""

    @property
    def conservative(self) -> bool:
        """Whether the queue seems to grow: slow start goes on, at a quarter of its pace, until that is certain."""
        return self._baseline < inf

    def on_rtt(self, latest: float, sent_at: float, now: float) -> bool:
        """Take in a sample, in seconds, of a packet that left at ``sent_at``; True where slow start is over."""
        if sent_at >= self._round_began:
            self._round_began = now
            self._last, self._current, self._samples = self._current, inf, 0
            if self.conservative:
                self._rounds += 1
                if self._rounds >= CSS_ROUNDS:
                    return True
        self._current = min(self._current, latest)
        self._samples += 1
        if self._samples < N_RTT_SAMPLE:
            return False
        if self._baseline < inf:
            if self._current < self._baseline:
                self._baseline = inf  # it was jitter
        else:
            threshold = min(max(self._last / MIN_RTT_DIVISOR, MIN_RTT_THRESH), MAX_RTT_THRESH)
            if self._current >= self._last + threshold:  # never in the first round: the last is infinite
                self._baseline = self._current
                self._rounds = 0
        return False

    def growth(self, size: int) -> int:
        """By how many bytes the window grows for ``size`` that arrived."""
        return size // CSS_GROWTH_DIVISOR if self.conservative else size

    def __repr__(self) -> str:
        return f"HyStart(conservative={self.conservative}, rounds={self._rounds})"
