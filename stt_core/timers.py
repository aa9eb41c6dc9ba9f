"""One table of named timers, and one minimum over it.

Rule: no deadline lives anywhere else in a session. Setting a timer that is set moves it.
"""

from __future__ import annotations

from enum import IntEnum
from math import inf
from typing import Final


class Timer(IntEnum):
    """What a session can be waiting for. Of timers due at the same moment, the lower number goes first."""

    HANDSHAKE = 0
    LOSS = 1
    PACING = 2
    ACK = 3
    KEEP_ALIVE = 4
    IDLE = 5
    CLOSE = 6
    KEYS = 7
    PATH = 8
    TICKET = 9
    DETACHED = 10


_ALL: Final = tuple(Timer)


class Timers:
    """Deadlines by name, monotonic seconds.

    A list rather than a dict: as small as it gets for a session that idles, and its minimum is one call.
    """

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = [inf] * len(_ALL)
        """The deadlines, indexed by :class:`Timer`; infinite where unset. What moves a timer with each packet may set
        it right here."""

    def set(self, timer: Timer, at: float) -> None:
        """Let ``timer`` expire at ``at``, whatever it was set to."""
        self.at[timer] = at

    def cancel(self, timer: Timer) -> None:
        """Unset ``timer``; nothing where it isn't set."""
        self.at[timer] = inf

    def clear(self) -> None:
        """Unset all."""
        self.at = [inf] * len(_ALL)

    def get(self, timer: Timer) -> float | None:
        """The deadline of ``timer``; None where it isn't set."""
        at = self.at[timer]
        return None if at == inf else at

    def __getitem__(self, timer: Timer) -> float:
        """The deadline of ``timer``.

        :raises KeyError: where it isn't set.
        """
        at = self.at[timer]
        if at == inf:
            raise KeyError(timer)
        return at

    def __contains__(self, timer: Timer) -> bool:
        return self.at[timer] != inf

    def next(self) -> float | None:
        """The earliest deadline; None where none is set."""
        at = min(self.at)
        return None if at == inf else at

    def expired(self, now: float) -> list[Timer]:
        """Unset and return the timers due at ``now``, the one that was due first at the head."""
        deadlines = self.at
        if min(deadlines) > now:
            return []
        due = [timer for timer in _ALL if deadlines[timer] <= now]
        due.sort(key=deadlines.__getitem__)  # stable: ties stay in the order of Timer
        for timer in due:
            deadlines[timer] = inf
        return due

    def __repr__(self) -> str:
        armed = ", ".join(f"{timer.name}={self.at[timer]:.6f}" for timer in _ALL if timer in self)
        return f"Timers({armed})"
