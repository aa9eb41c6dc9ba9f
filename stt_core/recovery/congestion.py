"""What every congestion controller offers to :class:`~stt_core.recovery.loss.Recovery`.

Rule: controllers see bytes and times only, once per run of packets that left together, never once per packet.
"""

from __future__ import annotations

from typing import Protocol


def initial_window(datagram_size: int) -> int:
    """The congestion window to start with, in bytes (RFC 9002 section 7.2)."""
    return min(10 * datagram_size, max(14_720, 2 * datagram_size))


def minimum_window(datagram_size: int) -> int:
    """The least congestion window, in bytes (RFC 9002 section 7.2)."""
    return 2 * datagram_size


class CongestionController(Protocol):
    """One path's congestion state. Sizes in bytes, times in monotonic seconds."""

    @property
    def cwnd(self) -> int:
        """How many bytes may be in flight."""
        ...

    @property
    def ssthresh(self) -> float:
        """Slow start ends here; infinite before the first congestion."""
        ...

    def on_sent(self, size: int, now: float) -> None:
        """``size`` more bytes are in flight."""
        ...

    def on_acked(self, size: int, newest_sent_at: float, now: float, app_limited: bool) -> None:
        """``size`` bytes arrived, the newest of them sent at ``newest_sent_at``.

        ``app_limited``: the window was not what held the sender back, so that arriving proves nothing about it
        (RFC 9002 section 7.8).
        """
        ...

    def on_congestion(self, sent_at: float, now: float) -> None:
        """Packets were lost or marked, the newest of them sent at ``sent_at``."""
        ...

    def on_persistent_congestion(self, now: float) -> None:
        """Everything sent over a long time was lost (RFC 9002 section 7.6); comes after :meth:`on_congestion`."""
        ...

    def set_datagram_size(self, size: int) -> None:
        """Full datagrams have ``size`` bytes from now on."""
        ...
