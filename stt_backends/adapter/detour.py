"""Where a session can open a connection to its peer: for when UDP falls silent, or the connection it used is gone.

Rule: the core says when one is wanted and what becomes of it. One that can't be opened is nobody's failure: it is asked
for again later, ever more slowly.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from stt_backends.adapter.opening import Opening
from stt_backends.driver import Driver
from stt_backends.websocket.link import Link, Target
from stt_core.errors import STTError
from stt_core.events import Event, LinkWanted, SessionClosed, SessionDetached, SessionResumed
from stt_core.state import SessionState

if TYPE_CHECKING:
    from stt_backends.adapter.session import BaseSession

logger = logging.getLogger("stt.node")

PATIENCE: Final = 5.0
"""Seconds a connection has to open: then it is about to be asked for anew."""


class Detour:
    """One session's; ``targets`` is where its peer takes connections, as far as is known."""

    __slots__ = ("_driver", "_opening", "_session", "targets")

    def __init__(self, session: BaseSession[Any, Any], driver: Driver) -> None:
        self.targets: list[Target] = []
        self._session = session
        self._driver = driver
        self._opening: Opening | None = None

    def arm(self) -> None:
        """Have connections asked for from now on: once for each set of keys that a session has."""
        core = self._session.core
        if core.state is SessionState.ESTABLISHED:
            core.allow_fallback(self._driver.clock())
            self._session.kick()

    def on_event(self, event: Event) -> None:
        """Something was told of the session."""
        if isinstance(event, LinkWanted):
            self._open()
        elif isinstance(event, SessionResumed):
            self.arm()
        elif isinstance(event, SessionClosed | SessionDetached) and self._opening is not None:
            self._opening.abandon()
            self._opening = None

    def _open(self) -> None:
        if self._opening is None and self.targets:
            deadline = self._driver.clock() + PATIENCE
            self._opening = Opening(self._driver, self.targets, deadline, self._on_opened)
            self._opening.begin()
            self._session.node.wake_pump()

    def _on_opened(self, link: Link) -> None:
        self._opening = None
        if link.failure is not None:
            logger.info("%r has no way round: %s", self._session, link.failure)
            return
        try:
            self._session.core.fall_back(link.path, self._driver.clock())
        except STTError:
            self._driver.hub.abandon(link)
        else:
            logger.info("%r goes round by %s", self._session, link.path.address)
            self._session.kick()
