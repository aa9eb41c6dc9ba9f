"""CUBIC congestion control, RFC 9438.

Rule: windows are in bytes, where the RFC counts segments of one datagram; between losses the window is a function of
time, and arriving packets only let it follow.
"""

from __future__ import annotations

from math import cbrt, expm1
from typing import ClassVar

from stt_core.recovery.window import LossBased

C = 0.4
"""How steep the curve is, in datagrams per cubic second (RFC 9438 section 5.1)."""
BETA = 0.7
"""What a congestion leaves of the window (section 4.6). Marks cost as much as losses: the milder 0.85 of RFC 8511 is
experimental."""
ALPHA = 3 * (1 - BETA) / (1 + BETA)
"""Datagrams a round trip by which a Reno that keeps ``BETA`` grows, to average what Reno does (section 4.3)."""


class Cubic(LossBased):
    """A :class:`~stt_core.recovery.congestion.CongestionController`.

    After a congestion the window climbs fast towards where it was, lingers there, and climbs faster again. Where Reno
    would have climbed higher meanwhile, it goes with Reno.
    """

    __slots__ = ("_alive_at", "_epoch", "_k", "_prior", "_w_est", "_w_max", "_window")

    REDUCED: ClassVar[tuple[str, ...]] = (
        *LossBased.REDUCED,
        *("_epoch", "_k", "_prior", "_w_est", "_w_max", "_window"),
    )

    def __init__(self, datagram_size: int) -> None:
        super().__init__(datagram_size)
        self._w_max = 0.0
        """The curve's plateau in bytes; 0 where no congestion has shown one."""
        self._prior = 0
        """The window before the last congestion, in bytes."""
        self._epoch: float | None = None
        """When this stage of congestion avoidance began, put off by all the time that doesn't count; None between."""
        self._k = 0.0
        """Seconds from there to the plateau."""
        self._window = 0.0
        """The window with its fraction of a byte, during a stage."""
        self._w_est = 0.0
        """Reno's window, as estimated."""
        self._alive_at = 0.0
        """Up to when time has been counted, or left out."""

    def on_restart(self, now: float) -> None:
        """Time in which the window wasn't used is no part of the curve's (RFC 9438 section 5.8)."""
        if self._epoch is not None:
            self._epoch += now - self._alive_at
        self._alive_at = now

    def set_datagram_size(self, size: int) -> None:
        """The curve is drawn in datagrams, so another size begins another one."""
        super().set_datagram_size(size)
        self._epoch = None

    def _avoid(self, size: int, now: float) -> None:
        """RFC 9438 sections 4.2 to 4.5, for a whole batch at once.

        Each datagram by itself would close at least 1/target of the gap to the target, and let Reno's window grow by
        at most a datagram's share of the window as it is by then. The batch grows by no more than those together.
        """
        if self._epoch is None:
            self._epoch = self._begin(now)
        self._alive_at = now
        window, datagram = self._window, self._size
        since_plateau = now - self._epoch - self._k
        curve = self._w_max + C * datagram * since_plateau**3
        target = self._w_max + C * datagram * (since_plateau + self._srtt) ** 3
        grown = window
        if target > window:
            target = min(target, 1.5 * window)
            grown -= (target - window) * expm1(-size / target)
        # Once it has won back all of the old window, the estimate has nothing more to make up for (section 4.3).
        reno = size * datagram * (ALPHA if self._w_est < self._prior else 1.0)
        self._w_est += reno / max(grown, window + reno / window)
        if curve < self._w_est:
            grown = max(window, self._w_est)
        self._window = grown
        self.cwnd = int(grown)

    def _begin(self, now: float) -> float:
        """A stage of congestion avoidance begins; returns when."""
        self._window = self._w_est = float(self.cwnd)
        if self._w_max > self.cwnd:
            self._k = cbrt((self._w_max - self.cwnd) / (C * self._size))
        else:  # slow start ended without a loss, or led up to here from persistent congestion (sections 4.8 and 4.10)
            self._w_max = self._window
            self._k = 0.0
        return now

    def _reduced(self) -> int:
        """RFC 9438 sections 4.6 and 4.7."""
        # Short of the plateau already: others want a share, so leave them more of it.
        self._w_max = self.cwnd * (1 + BETA) / 2 if self.cwnd < self._w_max else float(self.cwnd)
        self._prior = self.cwnd
        self._epoch = None
        return round(self.cwnd * BETA)

    def _start_over(self) -> None:
        self._w_max = 0.0
        self._epoch = None
