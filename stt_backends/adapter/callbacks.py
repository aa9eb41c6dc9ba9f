"""What an application registered to be told, and how it is told.

Rule: what an application registered can neither end the node nor outlive it: its exceptions are logged, never
swallowed, and what is asynchronous is handed to the adapter, which sees it to its end.
"""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

logger = logging.getLogger("stt.node")

CANCEL_PATIENCE = 1.0
"""Seconds a cancelled callback has for its clean-up; whoever shields itself for longer is left behind."""

ClosedCallback = Callable[[bytes, str], Any]
"""Takes a session's id and why it ended."""


class BaseCallbacks(ABC):
    """Calls what the application registered, sync or async."""

    def __init__(self) -> None:
        self.on_closed: list[ClosedCallback] = []
        self.on_established: list[Callable[[Any], Any]] = []
        self.on_detached: list[Callable[[Any], Any]] = []

    def tell_closed(self, session_id: bytes, reason: str) -> None:
        """Tell all who want to know of sessions that end."""
        if self.on_closed:
            self._tell(self.on_closed, session_id, reason)

    def tell_established(self, session: object) -> None:
        """Tell all who want to know of sessions that are made."""
        if self.on_established:
            self._tell(self.on_established, session)

    def tell_detached(self, session: object) -> None:
        """Tell all who want to know of sessions whose peer fell silent, and that may be resumed."""
        if self.on_detached:
            self._tell(self.on_detached, session)

    def _tell(self, callbacks: list[Callable[..., Any]], *details: Any) -> None:
        """Call each with ``details``; those that return an awaitable go on in the background."""
        for callback in tuple(callbacks):
            try:
                result = callback(*details)
            except Exception:
                logger.exception("a callback failed: %r", callback)
                continue
            if inspect.isawaitable(result):
                self._start_or_warn(callback, result)

    def _start_or_warn(self, callback: Callable[..., Any], result: Awaitable[Any]) -> None:
        try:
            self._start(callback, result)
        except RuntimeError:
            if inspect.iscoroutine(result):
                result.close()
            logger.warning("a callback was not run: the event loop is ending: %r", callback)

    @abstractmethod
    def _start(self, callback: Callable[..., Any], result: Awaitable[Any]) -> None:
        """Await ``result``, what ``callback`` returned, in the background; log what it raises.

        :raises RuntimeError: if the event loop takes no more tasks; nothing is left behind then.
        """
