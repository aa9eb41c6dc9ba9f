"""Liveness: when to send KEEP_ALIVE, and when a silent peer is dead (chapter, "Keep-Alive Mechanism").

Rule: only received, authenticated packets count as life. Our own probes never push the deadline back, whatever the
network does to the answers.
"""

from __future__ import annotations

from typing import Final

GRID = 200
"""Moments in one interval at which keep-alives leave."""
YIELD: Final = 1 / 20
"""The part of an interval by which one of two sides waits longer, or both would ask at once."""


class KeepAlive:
    """One session's liveness. All times are monotonic seconds.

    A keep-alive is due ``interval`` after the peer was last heard, and again every ``interval`` of silence; after
    ``timeout`` of silence the peer is dead. A side that is being talked to need not ask whether anyone is there, so of
    two idle peers one asks and one answers, and both NAT mappings stay fresh; the side that ``yields`` lets the other
    be first.
    """

    __slots__ = ("_asked", "_open", "_serial", "_wait", "answered", "interval", "last_heard", "timeout")

    def __init__(self, interval: float, timeout: float, now: float, *, yields: bool = False) -> None:
        self.interval = interval
        self._wait = interval * (1 + YIELD) if yields else interval
        self.timeout = timeout
        self.last_heard = now
        """When the last packet came that opened under the session's keys."""
        self._asked = now
        self._serial = 0
        self._open = False
        self.answered = 0
        """How many of our questions were answered."""

    def next_due(self) -> float:
        """When the next KEEP_ALIVE should leave: up to a 200th of ``interval`` early, at a time of a common grid, so
        that one waking of the process serves many sessions."""
        due = max(self.last_heard, self._asked) + self._wait
        return due - due % (self.interval / GRID)

    def dead_at(self) -> float:
        """When silence becomes death."""
        return self.last_heard + self.timeout

    def take(self, now: float) -> int:
        """Note that a KEEP_ALIVE leaves now, and return its id."""
        self._asked = now
        self._open = True
        self._serial = (self._serial + 1) & 0xFFFF_FFFF
        return self._serial

    def on_answer(self, serial: int) -> bool:
        """A KEEP_ALIVE_ACK; False where it answers nothing we asked (old, twice, or made up), which is harmless."""
        if serial != self._serial or not self._open:
            return False
        self._open = False
        self.answered += 1
        return True
