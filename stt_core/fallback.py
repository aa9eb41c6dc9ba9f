"""When UDP falls silent: a connection to the same peer takes its place, until UDP answers again.

Rule: only the side that knows a URL asks for connections, and it asks whoever embeds it. UDP counts as silent after
some probe timeouts in a row, never by a single one; and the more often it comes and goes, the more slowly it is trusted
again.
"""

from __future__ import annotations

from math import inf
from typing import Final

from stt_core.state import FALLBACK, FallbackState, FallbackTrigger, advance
from stt_core.types import Path

SILENT: Final = 3
"""Probe timeouts in a row after which UDP counts as silent."""
FIRST_WAIT: Final = 5.0
"""Seconds until UDP is asked for the first time whether it is back, or a connection is asked for again."""
LONGEST_WAIT: Final = 60.0
"""These waits double up to here."""


class Fallback:
    """One session's. ``home`` is the path over UDP to come back to, where there is one.

    From ``detour`` the session comes back; where the application itself told it to go over a connection, it stays.
    """

    __slots__ = ("_back_at", "_wait", "detour", "due_at", "home", "state")

    def __init__(self, active: Path, home: Path | None, now: float) -> None:
        self.home = home
        self.detour = active
        self.state = FallbackState.DIRECT
        self.due_at = inf
        """When to ask for a connection, or UDP, again."""
        self._wait = FIRST_WAIT
        self._back_at = -inf
        self.on_moved(active, now)

    def on_moved(self, path: Path, now: float) -> None:
        """Traffic goes over ``path`` now."""
        if path.reliable:
            self._advance(FallbackTrigger.DETOUR)
            self.due_at = now + self._wait if self.home is not None and path == self.detour else inf
        else:
            self.home = path
            if self.state is not FallbackState.DIRECT:
                self._back_at = now
            self.on_heard()

    def on_heard(self) -> None:
        """UDP answers."""
        self._advance(FallbackTrigger.ANSWER)
        self.due_at = inf

    def on_silence(self, now: float) -> bool:
        """The path in use is silent, or gone; True where a connection is to be asked for."""
        if self.state is FallbackState.SEEKING:
            return False
        # Soon after it came back: it is to be trusted less. Else whatever was is long ago.
        soon = now - self._back_at < LONGEST_WAIT
        self._wait = min(2 * self._wait, LONGEST_WAIT) if soon else FIRST_WAIT
        self._advance(FallbackTrigger.SILENCE)
        self.due_at = now + FIRST_WAIT
        return True

    def postpone(self, now: float) -> None:
        """What was due was done, and may be in vain."""
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        self.due_at = now + self._wait

    def _advance(self, trigger: FallbackTrigger) -> None:
        if (self.state, trigger) in FALLBACK:  # what is so already is no change
            self.state = advance(FALLBACK, self.state, trigger)
