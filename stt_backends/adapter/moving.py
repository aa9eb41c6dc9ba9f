"""A ``migrate`` under way: from the wish to be elsewhere until the session is there, or stays where it was.

Rule: the core says where a session is and where it is going; here it is only asked. A session that can't go where it
was told to is where it was before, with all it had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stt_backends.adapter.connecting import Destination
from stt_backends.adapter.opening import Opening
from stt_backends.adapter.racing import Found
from stt_backends.driver import Driver
from stt_backends.websocket.link import Link, Target
from stt_core.errors import ConnectError, ConnectionTimeoutError, STTError
from stt_core.state import SessionState
from stt_core.types import Path

if TYPE_CHECKING:
    from stt_backends.adapter.session import BaseSession


class Moving:
    """One session's; ``failure`` says why it didn't go where it was told to, once ``done``.

    :param patience: seconds after which whoever waits calls :meth:`end`.
    """

    def __init__(
        self, session: BaseSession[Any, Any], driver: Driver, destination: Destination, patience: float
    ) -> None:
        self.news = session.node.make_parking_lot()
        self.patience = patience
        self.done = False
        self.failure: STTError | None = None
        self._session = session
        self._core = session.core
        self._driver = driver
        self._destination = destination
        self._opening: Opening | None = None
        self._targets: list[Target] = []
        self._path: Path | None = None

    # --- on the way

    def go(self, path: Path) -> None:
        """Move to this path, which is open.

        :raises SessionClosedError: if the session is over.
        :raises StateError: if it is detached.
        """
        moves = path != self._core.path
        self._core.migrate(path, self._driver.clock())
        self._path = path
        self._session.kick()
        if not moves:  # this side's own address has changed, and there is nothing to wait for
            self._settle(None)

    def open(self, found: Found) -> None:
        """Open a connection, and move there."""
        self._core.require_path()
        deadline = self._driver.clock() + self.patience
        self._targets = self._destination.targets(found)
        self._opening = Opening(self._driver, self._targets, deadline, self._on_opened)
        self._opening.begin()

    def _on_opened(self, link: Link) -> None:
        if link.failure is not None:
            self._settle(link.failure)
            return
        self._session.detour(self._driver)  # before it moves, so that it knows where it came from
        try:
            self.go(link.path)
        except STTError as error:
            self._driver.hub.abandon(link)
            self._settle(error)

    def look(self) -> None:
        """Something was told of the session: is it there, or not going there any more?"""
        if self.done:
            return
        core = self._core
        if core.state is not SessionState.ESTABLISHED:
            self._settle(core.error or ConnectError(f"the session is {core.state.value}, and goes nowhere"))
        elif self._path is None:
            return
        elif core.path == self._path:
            if self._path.reliable:
                self._session.detour(self._driver).targets = self._targets
            self._settle(None)
        elif core.moving_to != self._path:
            self._settle(self._silence())

    # --- the end

    def end(self, failure: STTError | None = None) -> None:
        """Nobody waits any more: the session stays where it is, if it isn't there yet."""
        if self.done:
            return
        if self._opening is not None:
            self._opening.abandon()
        if self._path is not None and self._core.moving_to == self._path:
            self._core.stay()
            self._session.kick()
        self._settle(failure or self._silence())

    def _settle(self, failure: STTError | None) -> None:
        if not self.done:
            self.done = True
            self.failure = failure
            self.news.wake_all()

    def _silence(self) -> ConnectionTimeoutError:
        to = self._destination
        where = f"{to.url}" if to.url is not None else f"{to.host} port {to.port} by UDP"
        return ConnectionTimeoutError(f"the peer did not answer at {where} in time: the session stays where it is")
