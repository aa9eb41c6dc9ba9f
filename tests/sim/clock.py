"""Virtual time: a heap of callbacks, and a ``now`` that jumps from one to the next.

Rule: nothing in the laboratory reads a wall clock or sleeps. Callbacks due at the same instant run in the order they
were asked for, so one seed is one history.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

Callback = Callable[[], None]


class Clock:
    """The time of one laboratory, in seconds, and what is due when."""

    __slots__ = ("_heap", "_order", "now")

    def __init__(self, start: float) -> None:
        self.now = start
        self._heap: list[tuple[float, int, Callback]] = []
        self._order = 0

    def at(self, when: float, callback: Callback) -> None:
        """Run ``callback`` at ``when``, or right after what is already due now if that time has passed."""
        self._order += 1
        heapq.heappush(self._heap, (max(when, self.now), self._order, callback))

    def after(self, delay: float, callback: Callback) -> None:
        """Run ``callback`` in ``delay`` seconds."""
        self.at(self.now + delay, callback)

    @property
    def next(self) -> float | None:
        """When the next callback is due; None when nothing will ever happen again."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> None:
        """Jump to the next callback and run it."""
        self.now, _, callback = heapq.heappop(self._heap)
        callback()
