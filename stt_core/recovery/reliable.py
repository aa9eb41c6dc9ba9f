"""What takes the place of congestion control and of the search for sizes where the path is a TCP connection.

Rule: TCP does all of it already. A second window inside of its own would only add a second, slower opinion; how much
may wait is for flow control and for the connection's writer, which says when it can take no more.
"""

from __future__ import annotations

from math import inf
from typing import Final

from stt_core.recovery.mtu import MtuSearch

BOUNDLESS: Final = 1 << 60
"""Bytes: more than flow control ever lets out."""


class NoControl:
    """A :class:`~stt_core.recovery.congestion.CongestionController` that lets everything leave."""

    __slots__ = ()

    cwnd: Final = BOUNDLESS
    ssthresh: Final = inf
    recovery_start: Final = -inf

    def on_restart(self, now: float) -> None:
        """Nothing to do."""

    def on_rtt(self, latest: float, smoothed: float, sent_at: float, now: float) -> None:
        """Nothing to do."""

    def on_acked(self, size: int, now: float, app_limited: bool) -> None:
        """Nothing to do."""

    def on_congestion(self, sent_at: float, now: float, marked: bool = False) -> bool:
        """What was lost was lost on an earlier path."""
        return False

    def on_spurious_congestion(self) -> None:
        """Nothing to do."""

    def on_persistent_congestion(self, now: float) -> None:
        """Nothing to do."""

    def set_datagram_size(self, size: int) -> None:
        """Nothing to do."""


class FixedSize(MtuSearch):
    """Datagrams of ``limit`` bytes at once and for ever: a message may be as long as it likes."""

    __slots__ = ()

    def restart(self) -> None:
        """There is nothing to find out."""
        super().restart()
        self.size = self.limit
        self.wanted = 0

    def _aim(self, now: float) -> None:
        self.wanted = 0
        self.resume_at = inf

    def on_too_big(self, size: int, now: float) -> bool:
        """No system says so of a stream of bytes."""
        return False

    def on_large_lost(self, now: float) -> bool:
        """What was lost was lost on an earlier path."""
        return False

    def on_silence(self, ptos: int, now: float) -> bool:
        """Silence has nothing to do with sizes here."""
        return False
