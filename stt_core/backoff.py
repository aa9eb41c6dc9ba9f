"""How long to wait before trying again (chapter, "Exponential Backoff").

Rule: the wait doubles up to a cap, and half of it is drawn by lot: peers that lost the same server at the same moment
must not come back at the same moment. A success that did not last doesn't count as one.
"""

from __future__ import annotations

from typing import Final

from stt_core.config import check_seconds
from stt_core.errors import ConfigurationError
from stt_core.types import Entropy

FIRST_DELAY: Final = 1.0
MAX_DELAY: Final = 60.0


class Backoff:
    """Delays between attempts, in seconds: ``first`` doubled up to ``most``, each lessened by up to a half.

    :raises ConfigurationError: unless 0 < ``first`` <= ``most``.
    """

    __slots__ = ("_delay", "_entropy", "_first", "_most", "_since")

    def __init__(self, entropy: Entropy, first: float = FIRST_DELAY, most: float = MAX_DELAY) -> None:
        check_seconds("first_delay", first)
        check_seconds("max_delay", most)
        if not 0 < first <= most:
            raise ConfigurationError(
                f"first_delay is {first:g} s, expected more than 0 and at most max_delay, {most:g} s"
            )
        self._entropy = entropy
        self._first = first
        self._most = most
        self._delay = first
        self._since: float | None = None

    def succeeded(self, now: float) -> None:
        """An attempt succeeded at ``now``."""
        self._since = now

    def next_delay(self, now: float) -> float:
        """How long to wait from ``now``: after a failed attempt, or after what an attempt had brought was lost."""
        if self._since is not None and now - self._since >= self._delay:
            self._delay = self._first
        self._since = None
        share = int.from_bytes(self._entropy(4), "big") / 2**32
        delay = self._delay * (1 - share / 2)
        self._delay = min(2 * self._delay, self._most)
        return delay
