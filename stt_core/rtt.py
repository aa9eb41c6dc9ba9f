"""Round-trip time estimation, RFC 9002 section 5.

Rule: nothing here knows packets or frames; a sample and the delay the peer reports come in, four numbers come out.
"""

from __future__ import annotations

INITIAL_RTT = 0.333
"""Seconds assumed before the first sample (RFC 9002 section 6.2.2)."""
GRANULARITY = 0.001
"""The least time a timer can be relied on to measure, in seconds (RFC 9002 section 6.1.2)."""


class RttEstimator:
    """Smoothed RTT, its variation, the latest and the least sample of one path; all in seconds."""

    __slots__ = ("first_sample_at", "latest", "minimum", "pto", "smoothed", "variance")

    def __init__(self) -> None:
        self.smoothed = INITIAL_RTT
        self.variance = INITIAL_RTT / 2
        """The mean deviation, RFC 9002's ``rttvar``."""
        self.latest = 0.0
        self.minimum = 0.0
        self.first_sample_at: float | None = None
        """When the first sample was taken; packets sent before say nothing about persistent congestion."""
        self.pto = 3 * INITIAL_RTT
        """Seconds until a probe is due, before backoff and without the peer's ACK delay (RFC 9002 section 6.2.1)."""

    @property
    def has_sample(self) -> bool:
        """Whether a sample was taken; until then the initial values hold."""
        return self.first_sample_at is not None

    def update(self, sample: float, ack_delay: float, now: float) -> None:
        """Take in a sample: seconds from sending a packet to its ACK, of which the peer says it sat on the ACK for
        ``ack_delay`` seconds (already capped by the peer's advertised maximum).
        """
        self.latest = sample
        if self.first_sample_at is None:
            self.first_sample_at = now
            self.minimum = self.smoothed = sample
            self.variance = sample / 2
        else:
            self.minimum = min(self.minimum, sample)
            # The minimum is of raw samples, and bounds what a wrong ack_delay can take away (section 5.3).
            adjusted = sample - ack_delay if sample >= self.minimum + ack_delay else sample
            self.variance = 0.75 * self.variance + 0.25 * abs(self.smoothed - adjusted)
            self.smoothed = 0.875 * self.smoothed + 0.125 * adjusted
        spread = 4 * self.variance
        self.pto = self.smoothed + (spread if spread > GRANULARITY else GRANULARITY)

    def reset_minimum(self) -> None:
        """Start the minimum again from the newest sample: persistent congestion may mean a new route (section 5.2)."""
        self.minimum = self.latest

    def pto_base(self, max_ack_delay: float) -> float:
        """Seconds until a probe is due, before backoff (RFC 9002 section 6.2.1)."""
        return self.pto + max_ack_delay

    def __repr__(self) -> str:
        return f"RttEstimator(smoothed={self.smoothed:.6f}, variance={self.variance:.6f}, minimum={self.minimum:.6f})"
