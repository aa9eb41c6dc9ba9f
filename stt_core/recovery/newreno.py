"""NewReno congestion control, RFC 9002 section 7 and appendix B."""

from __future__ import annotations

from typing import ClassVar

from stt_core.recovery.window import LossBased

LOSS_REDUCTION = 0.5


class NewReno(LossBased):
    """A :class:`~stt_core.recovery.congestion.CongestionController`: half of the window, a datagram a round trip."""

    __slots__ = ("_credit",)

    REDUCED: ClassVar[tuple[str, ...]] = (*LossBased.REDUCED, "_credit")

    def __init__(self, datagram_size: int) -> None:
        super().__init__(datagram_size)
        self._credit = 0
        """Bytes acknowledged in congestion avoidance and not yet turned into growth."""

    def on_restart(self, now: float) -> None:
        """Time alone moves nothing in NewReno."""

    def _avoid(self, size: int, now: float) -> None:
        self._credit += size
        while self._credit >= self.cwnd:
            self._credit -= self.cwnd
            self.cwnd += self._size

    def _reduced(self) -> int:
        self._credit = 0
        return int(self.cwnd * LOSS_REDUCTION)

    def _start_over(self) -> None:
        self._credit = 0
