"""A session that is there again whenever it was lost: for commands that go on for days.

Rule: where the session itself can go on, it does, and whoever uses its streams notices nothing but time; where it
can't, a new one takes its place. What no repetition mends (another seed, another version) ends the command.
"""

from __future__ import annotations

import logging
import os
from itertools import cycle
from typing import Any

import anyio

from stt_anyio import AuthenticationError, ConnectError, STTSession, VersionError
from stt_anyio.cli.addresses import Address
from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.output import say
from stt_anyio.cli.sessions import named
from stt_core.backoff import Backoff

logger = logging.getLogger("stt.cli")

FIRST_DELAY = 0.5
MAX_DELAY = 10.0
"""Seconds between attempts, from the first on: the user is waiting."""
ATTEMPT_PATIENCE = 10.0
"""Seconds for one attempt."""
PATIENCE = 15.0
"""Seconds that something new waits for the session to be there again: a little longer than until a silent peer is
noticed."""


class Line:
    """The session with one peer: ``session``, made at ``address``. It may also be reached at ``detour``, a URL."""

    def __init__(self, session: STTSession, address: Address | str, detour: str | None) -> None:
        self._node = session.node
        self._address = address
        self._detour = detour
        self._session = session
        self._news = self._node.make_parking_lot()
        self._node.on_session_closed(self._look)
        self._node.on_session_detached(self._look)
        self.resumed = 0
        """How often the session went on by itself."""
        self.renewed = 0
        """How often another had to take its place."""

    @property
    def current(self) -> STTSession:
        """The session there is, or was last."""
        return self._session

    async def session(self) -> STTSession:
        """The session, once it is there.

        :raises Failure: if it isn't after 15 s.
        """
        with anyio.move_on_after(PATIENCE):
            while not self._session.alive:
                await self._news.park()
        if not self._session.alive:
            raise Failure(Exit.UNREACHABLE, f"no session with {named(self._address)} for {PATIENCE:g} s")
        return self._session

    async def keep(self) -> None:
        """Make the session anew, or let it go on, each time that it is lost.

        :raises STTError: if that can't succeed any more.
        """
        while True:
            await self._allow_detour()
            while self._session.alive:
                await self._news.park()
            say(f"lost {named(self._address)}; trying again")
            await self._regain()
            self._news.wake_all()

    async def _allow_detour(self) -> None:
        if self._detour is not None:
            try:
                await self._session.allow_fallback(self._detour)
            except ConnectError as error:
                logger.info("there is no way round by %s: %s", self._detour, error)

    async def _regain(self) -> None:
        backoff = Backoff(os.urandom, FIRST_DELAY, MAX_DELAY)
        last = self._session
        for way in cycle([self._address] if self._detour is None else [self._address, self._detour]):
            try:
                self._session = await self._attempt(last, way)
            except (AuthenticationError, VersionError):
                raise
            except ConnectError as error:
                logger.info("can't reach %s, trying again: %s", named(way), error)
                await anyio.sleep(backoff.next_delay(anyio.current_time()))
            else:
                break
        if self._session is last:
            self.resumed += 1
            say(f"{named(self._address)} is back; all connections go on")
        else:
            self.renewed += 1
            say(f"{named(self._address)} is back, in a new session; the connections of the last one are lost")

    async def _attempt(self, last: STTSession, way: Address | str) -> STTSession:
        token = last.resumption_token
        if token is None:
            return await self._node.connect(way, timeout=ATTEMPT_PATIENCE)
        return await self._node.resume(token, way, timeout=ATTEMPT_PATIENCE)

    def _look(self, *_: Any) -> None:
        self._news.wake_all()
