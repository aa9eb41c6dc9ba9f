"""Where tasks wait for news: of a stream, of a session, of the node. Each adapter has its own kind.

Rule: news is never queued here. Whoever is woken looks again; whoever does anything between looking and parking says
since when it waits, for what it did may have brought the very news.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol


class ParkingLot(Protocol):
    """Tasks that wait for the same thing."""

    @property
    def wakes(self) -> int:
        """How often there was news."""
        ...

    def park(self, since: int | None = None) -> Coroutine[Any, Any, None]:
        """Until :meth:`wake_all`, or not at all where it was called since :attr:`wakes` was ``since``; a checkpoint."""
        ...

    def wake_all(self) -> None:
        """End the wait of all that are parked."""
        ...
