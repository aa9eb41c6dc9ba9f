"""Spreads a window over its round trip, RFC 9002 section 7.7: a leaky bucket in bytes.

Rule: pacing delays, it never decides how much may be in flight. Batches are what makes sending cheap, so the bucket
holds at least ten packets or two milliseconds' worth, and a sender asks when a batch fits rather than a packet.
"""

from __future__ import annotations

GAIN = 1.25
"""Faster than one window per round trip, so that pacing alone never leaves the window unused."""
SLOW_START_GAIN = 1.5
"""The same while the window doubles each round trip, for which 2 ln 2 = 1.39 windows must leave in each. Twice the
window, as some have it, is no sooner at its goal, and fills a short queue before the path is full: in simulation over a
queue of a tenth of what the path holds, slow start then ends at 0.9 times that, and with 1.5 at 1.2 times."""
BURST_PACKETS = 10
BURST_TIME = 0.002
UNLIMITED = 1 << 62
"""The budget of a pacer that is off, in bytes."""
_CLOCK_SLACK = 1e-6
# Seconds a packet may leave early. Without it a timer that fires exactly on time could find the bucket a rounding
# error short, and be set to the same moment again.


class Pacer:
    """A bucket of bytes that may leave now. Off (no limit) until :meth:`set_rate`, and after :meth:`disable`."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self) -> None:
        self.rate: float | None = None
        """Bytes a second; None while pacing is off."""
        self.burst = 0.0
        """Bytes that may leave back to back after a pause."""
        self._tokens = 0.0
        self._at = 0.0

    def set_rate(self, cwnd: int, srtt: float, datagram_size: int, now: float, slow_start: bool = False) -> None:
        """Pace for a window of ``cwnd`` bytes per ``srtt`` seconds; call it when either has changed."""
        rate = (SLOW_START_GAIN if slow_start else GAIN) * cwnd / max(srtt, _CLOCK_SLACK)
        burst = max(BURST_PACKETS * datagram_size, rate * BURST_TIME)
        if self.rate is None:
            self._tokens = burst
            self._at = now
        else:
            self._refill(self.rate, now)  # the time that has passed counts at the old rate
        self.rate = rate
        self.burst = burst

    def disable(self) -> None:
        """Let everything leave at once, as on loopback."""
        self.rate = None

    def budget(self, now: float) -> int:
        """How many bytes may leave at ``now``; never negative."""
        if self.rate is None:
            return UNLIMITED
        self._refill(self.rate, now)
        return max(0, int(self._tokens + self.rate * _CLOCK_SLACK))

    def on_sent(self, size: int, now: float) -> None:
        """``size`` bytes left. More than the budget is allowed (ACKs, probes) and is paid back later."""
        if self.rate is not None:
            self._refill(self.rate, now)
            self._tokens -= size

    def next_time(self, size: int, now: float) -> float | None:
        """When ``size`` bytes (at most a burst is waited for) may leave; None where they may at ``now``."""
        if self.rate is None:
            return None
        wanted = min(size, int(self.burst))
        if self.budget(now) >= wanted:
            return None
        return self._at + (wanted - self._tokens) / self.rate

    def _refill(self, rate: float, now: float) -> None:
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * rate)
            self._at = now
