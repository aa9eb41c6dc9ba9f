"""What a loop that reconnects does between two sessions (chapter, "Reconnection Strategies").

Rule: what may pass by itself is tried again, ever more slowly; a wrong seed, a wrong identity or a version that
differs is not: no repetition mends these, and each costs one of the few guesses a host is allowed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from stt_backends.adapter.session import BaseSession
from stt_core.backoff import Backoff
from stt_core.errors import AuthenticationError, ConnectError, STTError, VersionError

if TYPE_CHECKING:
    from stt_backends.adapter.node import BaseNode

logger = logging.getLogger("stt.node")

PERMANENT: Final = (AuthenticationError, VersionError)
"""Errors of ``connect`` that are raised at once."""


SessionT = TypeVar("SessionT", bound=BaseSession[Any, Any])


class BaseReconnecting(Generic[SessionT]):
    """When to try again, and when no more; delays in seconds."""

    def __init__(
        self,
        node: BaseNode[SessionT],
        connect: Callable[[], Awaitable[SessionT]],
        address: object,
        first_delay: float,
        max_delay: float,
    ) -> None:
        self._node = node
        self._connect = connect
        self._address = address
        self._session: SessionT | None = None
        self._backoff = Backoff(os.urandom, first_delay, max_delay)
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    def _delay(self, now: float) -> float:
        """Seconds to wait before the next attempt: none before the first."""
        if not self._begun:
            self._begun = True
            return 0.0
        return self._backoff.next_delay(now)

    def _failed(self, error: STTError) -> None:
        """An attempt failed; raises where the next would, too, and ends the loop where the node was stopped."""
        if self._node.stopping:
            raise StopAsyncIteration from None
        if isinstance(error, PERMANENT) or not isinstance(error, ConnectError):
            raise error
        logger.info("can't connect to %s, trying again: %s", self._address, error)

    def _succeeded(self, session: SessionT, now: float) -> SessionT:
        self._session = session
        self._backoff.succeeded(now)
        return session
