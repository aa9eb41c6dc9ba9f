"""What a loop that reconnects does between two sessions (chapter, "Reconnection Strategies").

Rule: what may pass by itself is tried again, ever more slowly; a wrong seed, a wrong identity or a version that
differs is not: no repetition mends these, and each costs one of the few guesses a host is allowed.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from stt_core.backoff import FIRST_DELAY, MAX_DELAY, Backoff
from stt_core.errors import AuthenticationError, ConnectError, STTError, VersionError

logger = logging.getLogger("stt.node")

PERMANENT: Final = (AuthenticationError, VersionError)
"""Errors of ``connect`` that are raised at once."""


class BaseReconnecting:
    """When to try again; delays in seconds."""

    def __init__(self, first_delay: float = FIRST_DELAY, max_delay: float = MAX_DELAY) -> None:
        self._backoff = Backoff(os.urandom, first_delay, max_delay)
        self._begun = False

    def _delay(self, now: float) -> float:
        """Seconds to wait before the next attempt: none before the first."""
        if not self._begun:
            self._begun = True
            return 0.0
        return self._backoff.next_delay(now)

    def _failed(self, error: STTError, address: object) -> None:
        """An attempt failed; raises where the next would, too."""
        if isinstance(error, PERMANENT) or not isinstance(error, ConnectError):
            raise error
        logger.info("can't connect to %s, trying again: %s", address, error)

    def _succeeded(self, now: float) -> None:
        self._backoff.succeeded(now)
