"""What every congestion controller offers to :class:`~stt_core.recovery.loss.Recovery`.

Rule: controllers see bytes and times only, once per ACK, never once per packet.
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
    """One path's congestion state. Sizes in bytes, times in monotonic seconds.

    One ACK brings, in this order, what applies of :meth:`on_spurious_congestion`, :meth:`on_rtt`, :meth:`on_congestion`
    (for marks, then for losses), :meth:`on_persistent_congestion` and :meth:`on_acked`.
    """

    @property
    def cwnd(self) -> int:
        """How many bytes may be in flight."""
        ...

    @property
    def ssthresh(self) -> float:
        """Slow start ends here; infinite before the first congestion."""
        ...

    @property
    def recovery_start(self) -> float:
        """When the window was last reduced: what was sent up to then belongs to the trouble that was paid for, and
        grows nothing when it arrives (RFC 9002 section 7.3.2).
        """
        ...

    def on_restart(self, now: float) -> None:
        """Something is sent again after nothing was in flight: the time since the last ACK was idle."""
        ...

    def on_rtt(self, latest: float, smoothed: float, sent_at: float, now: float) -> None:
        """A round-trip time was sampled, in seconds, raw (``latest``) and ``smoothed``; the packet left at
        ``sent_at``. At most once per ACK.
        """
        ...

    def on_acked(self, size: int, now: float, app_limited: bool) -> None:
        """``size`` bytes arrived, all sent after :attr:`recovery_start`.

        ``app_limited``: the window was not what held the sender back, so that arriving proves nothing about it
        (RFC 9002 section 7.8).
        """
        ...

    def on_congestion(self, sent_at: float, now: float, marked: bool = False) -> bool:
        """Packets were lost, or ``marked`` on their way (ECN), the newest of them sent at ``sent_at``.

        Returns whether that is new trouble, and the window was reduced.
        """
        ...

    def on_spurious_congestion(self) -> None:
        """All that seemed lost when losses last reduced the window, and since, has arrived after all."""
        ...

    def on_persistent_congestion(self, now: float) -> None:
        """Everything sent over a long time was lost (RFC 9002 section 7.6); comes after :meth:`on_congestion`."""
        ...

    def set_datagram_size(self, size: int) -> None:
        """Full datagrams have ``size`` bytes from now on."""
        ...
