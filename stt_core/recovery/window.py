"""What the controllers that go by loss have in common: slow start, one reduction a round trip, undoing a wrong one.

Rule: the window shrinks once per round trip of trouble, however many packets that trouble takes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from typing import Any, ClassVar

from stt_core.recovery.congestion import initial_window, minimum_window
from stt_core.recovery.hystart import HyStart
from stt_core.rtt import INITIAL_RTT


class LossBased(ABC):
    """A :class:`~stt_core.recovery.congestion.CongestionController` but for how it grows in congestion avoidance and
    how much it gives up.

    The window is kept while idle, as it is the pacer that keeps it from leaving in one burst afterwards (RFC 9002
    section 7.8).
    """

    __slots__ = ("_hystart", "_size", "_srtt", "_undo", "_untouched", "cwnd", "recovery_start", "ssthresh")

    REDUCED: ClassVar[tuple[str, ...]] = ("cwnd", "ssthresh", "recovery_start")
    """The attributes that a reduction changes: what undoing it brings back."""

    def __init__(self, datagram_size: int) -> None:
        self._size = datagram_size
        self.cwnd = initial_window(datagram_size)
        """Bytes that may be in flight."""
        self.ssthresh: float = inf
        """Bytes up to which the window doubles each round trip."""
        self.recovery_start = -inf
        """Packets sent up to then belong to trouble already paid for."""
        self._srtt = INITIAL_RTT
        self._hystart = HyStart()
        self._undo: list[Any] | None = None
        self._untouched = True

    # What differs.

    @abstractmethod
    def on_restart(self, now: float) -> None:
        """The window was not used up to now: nothing was in flight, or what was did not fill it."""

    @abstractmethod
    def _avoid(self, size: int, now: float) -> None:
        """Grow for ``size`` bytes that arrived in congestion avoidance."""

    @abstractmethod
    def _reduced(self) -> int:
        """Note a congestion, and return the bytes that the window is to have after it."""

    @abstractmethod
    def _start_over(self) -> None:
        """Forget what was learnt of the path but ``ssthresh``: persistent congestion."""

    # What doesn't.

    def on_rtt(self, latest: float, smoothed: float, sent_at: float, now: float) -> None:
        """Leave the first slow start where its rounds say so; later ones end at ``ssthresh`` (RFC 9406 section 4.3)."""
        self._srtt = smoothed
        if self.ssthresh == inf and self._hystart.on_rtt(latest, sent_at, now):
            self.ssthresh = float(self.cwnd)

    def on_acked(self, size: int, now: float, app_limited: bool) -> None:
        """Grow: by what arrived in slow start, as the controller does it in congestion avoidance."""
        if app_limited:
            self.on_restart(now)
            return
        self._untouched = False
        if self.ssthresh == inf:
            self.cwnd += self._hystart.growth(size)
            return
        if self.cwnd < self.ssthresh:
            # One ACK may cover a whole batch: what goes beyond the threshold counts for congestion avoidance.
            growth = min(size, int(self.ssthresh) - self.cwnd)
            self.cwnd += growth
            size -= growth
        if size:
            self._avoid(size, now)

    def on_congestion(self, sent_at: float, now: float, marked: bool = False) -> bool:
        """Reduce the window, unless that was done after ``sent_at`` already."""
        if marked:
            self._undo = None  # a mark is no mistake: what seemed lost beside it may arrive, the queue was there
        if sent_at <= self.recovery_start:
            return False
        if not marked:
            self._undo = [getattr(self, name) for name in self.REDUCED]
        self._untouched = False
        self.recovery_start = now
        self.cwnd = max(self._reduced(), minimum_window(self._size))
        self.ssthresh = float(self.cwnd)
        return True

    def on_spurious_congestion(self) -> None:
        """Bring back the window that the last losses cost, unless it has grown beyond that (RFC 9438 section 4.9)."""
        if self._undo is not None and self.cwnd < self._undo[0]:
            for name, value in zip(self.REDUCED, self._undo, strict=True):
                setattr(self, name, value)
        self._undo = None

    def on_persistent_congestion(self, now: float) -> None:
        """Back to the least window; slow start leads out again."""
        self.cwnd = minimum_window(self._size)
        self.recovery_start = -inf
        self._undo = None
        self._start_over()

    def set_datagram_size(self, size: int) -> None:
        """Before the network said anything the initial window is computed anew, later only the minimum rises."""
        self._size = size
        self._undo = None  # it was measured in other datagrams
        self.cwnd = initial_window(size) if self._untouched else max(self.cwnd, minimum_window(size))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(cwnd={self.cwnd}, ssthresh={self.ssthresh})"
