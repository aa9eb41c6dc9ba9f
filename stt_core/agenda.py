"""When which session of an endpoint wants to be called: a heap, and how to keep it small.

Rule: no call looks at all sessions. An entry may be early but never late: a session whose timer moves away keeps the
entry it has, and that is put right when it comes to the front.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from math import inf

from stt_core.session import Session
from stt_core.types import SessionKey


class Agenda:
    """The timers of ``sessions``, which is the endpoint's own table: what isn't in there any more is forgotten."""

    __slots__ = ("_checked", "_heap", "_order", "_sessions")

    def __init__(self, sessions: Mapping[SessionKey, Session]) -> None:
        self._sessions = sessions
        self._heap: list[tuple[float, int, SessionKey]] = []  # keys: what is over must not be kept alive by a timer
        self._order = count(1)
        self._checked = 0  # the entry that was right when it came to the front

    def __len__(self) -> int:
        """How many entries there are, the void ones too."""
        return len(self._heap)

    def put(self, session: Session) -> None:
        """Note when this session's first timer is due, unless an entry as early is there."""
        at = min(session.timers.at)
        if at < inf and (session.scheduled_at is None or at < session.scheduled_at):
            session.scheduled_at = at
            heappush(self._heap, (at, next(self._order), session.key))
            if len(self._heap) > 64 + 4 * len(self._sessions):
                self._compact()

    def take(self, now: float) -> Session | None:
        """Take out a session whose timer is due at ``now``, the first of them; None where none is."""
        heap = self._heap
        if not heap or heap[0][0] > now:
            return None
        self._checked = 0
        at = self.next()
        if at is None or at > now:
            return None
        session = self._sessions[heappop(self._heap)[2]]
        session.scheduled_at = None
        return session

    @property
    def earliest(self) -> float:
        """No timer is due before: what stands at the front, without a look at whether it still holds."""
        return self._heap[0][0] if self._heap else inf

    def next(self) -> float | None:
        """The first of all timers; None where there is none.

        Most entries that come to the front were set for an answer that has arrived since: to put them right here is
        cheaper than a turn for each.
        """
        heap = self._heap
        while heap:
            at, order, key = heap[0]
            session = self._sessions.get(key)
            if session is None or session.scheduled_at != at:
                heappop(heap)
                continue
            if order == self._checked:
                return at
            due = session.next_timer()
            if due is not None and due <= at:
                self._checked = order
                return at
            session.scheduled_at = due
            if due is None:
                heappop(heap)
            else:
                heapreplace(heap, (due, order, key))
        return None

    def _compact(self) -> None:
        """One entry for each session that waits: all others are void, or say the same once more."""
        self._heap[:] = [
            (session.scheduled_at, next(self._order), session.key)
            for session in self._sessions.values()
            if session.scheduled_at is not None
        ]
        heapify(self._heap)
