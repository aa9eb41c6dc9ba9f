"""One provider as a fetcher sees it: what it has, what it owes, how fast it is.

Rule: as much is asked for as it brings in about a second, and no more may come than was asked for.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from stt_core.content.tree import LEAF
from stt_core.content.wire import BLOCK_LEAVES, Question
from stt_core.errors import protocol_violation

FEWEST_BLOCKS: Final = 2
MOST_BLOCKS: Final = 32
"""Blocks of 256 KiB that are asked for ahead."""
AHEAD: Final = 1.0
"""Seconds' worth that is asked for ahead."""
PATIENCE: Final = 5.0
"""Seconds a provider that owes something may be silent."""
MOST_STALLS: Final = 3
BLOCK: Final = BLOCK_LEAVES * LEAF
RATE_WINDOW: Final = 1.0
"""Seconds over which a rate is measured."""


class Supplier:
    """A provider's account."""

    __slots__ = (
        "_began", "_heard", "_in_window", "_owed", "_stalls", "awaited", "holding", "outbox", "rate",
    )  # fmt: skip

    def __init__(self, holding: bytearray, now: float) -> None:
        self.holding = holding
        """A byte for each piece, not zero where the provider has it."""
        self.outbox: deque[Question] = deque()
        """Questions to be sent before any other."""
        self.awaited: set[tuple[int, int]] = set()
        """Pieces and blocks asked for that are not here."""
        self.rate = 0.0
        """Bytes a second, smoothed."""
        self._owed = 0
        self._heard = now
        self._began = now
        self._in_window = 0
        self._stalls = 0

    @property
    def has_room(self) -> bool:
        """Whether to ask it for more."""
        if self._stalls:
            return not self.awaited
        return len(self.awaited) < min(max(AHEAD * self.rate / BLOCK, FEWEST_BLOCKS), MOST_BLOCKS)

    @property
    def stalls_at(self) -> float:
        """When it will have been silent for too long."""
        return self._heard + PATIENCE if self.awaited else inf

    def ask(self, block: tuple[int, int], size: int, now: float) -> None:
        """It is asked for a block of ``size`` bytes."""
        if not self.awaited:
            self._heard = self._began = now  # it had nothing to say before
            self._in_window = 0
        self.awaited.add(block)
        self._owed += size

    def excuse(self, now: float) -> None:
        """Its silence until now is nobody's fault."""
        self._heard = now

    def progressed(self, now: float) -> None:
        """It brought some of what it owes. Nothing else is a sign of life: a byte of no use now and then could keep
        others from being asked for ever."""
        self._heard = now
        self._stalls = 0

    def brought(self, size: int, now: float) -> None:
        """It brought so many bytes, right or wrong.

        :raises Violation: where these are more than it was ever asked for.
        """
        self._owed -= size
        if self._owed < 0:
            raise protocol_violation("it sends what it wasn't asked for")
        self._in_window += size
        elapsed = now - self._began
        if elapsed >= RATE_WINDOW:
            rate = self._in_window / elapsed
            self.rate = rate if not self.rate else (self.rate + rate) / 2
            self._began = now
            self._in_window = 0

    def stall(self, now: float) -> bool:
        """It was silent for too long: it owes nothing any more. False where that was once too often."""
        self.awaited.clear()
        self._heard = now
        self.rate = 0.0
        self._stalls += 1
        return self._stalls < MOST_STALLS
