"""All of one endpoint's WebSocket connections, and the listener they come from.

Rule: the core decides what is said and to whom, a link how it travels; here is only told, each time, what the core must
hear: a message came, a link is full, has room again, is over.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Collection
from itertools import count
from typing import Final, Protocol

from stt_backends.udp_address import Address
from stt_backends.websocket.errors import CloseCode, UpgradeRefused
from stt_backends.websocket.link import MAX_UNSENT, Link, Scratch, Stage, Target
from stt_backends.websocket.listener import FIRST_WORD, INTRODUCTION, Listener
from stt_backends.websocket.upgrade import ServerUpgrade
from stt_core.endpoint import Endpoint
from stt_core.links import LinkState
from stt_core.types import Path, Transmit

logger = logging.getLogger("stt.websocket")

ROOM: Final = MAX_UNSENT // 2
"""Bytes left unsent at which a link that was full takes more."""


class Source(Protocol):
    """Something a pump watches: a link or a listener."""

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        ...

    @property
    def wants_read(self) -> bool:
        """Whether to wait until it is readable."""
        ...

    @property
    def wants_write(self) -> bool:
        """Whether to wait until it is writable."""
        ...


class Watcher(Protocol):
    """What a pump does for a hub. A source is watched before its first :meth:`adjust`, and not after ``unwatch``."""

    def watch(self, source: Source) -> None:
        """Wait for a new source."""
        ...

    def adjust(self, source: Source) -> None:
        """What a source wants may be other than it was."""
        ...

    def unwatch(self, source: Source) -> None:
        """Stop waiting for it; it is closed next, with nothing in between."""
        ...


class Alarm:
    """Something to do at a time; see :meth:`Hub.call_at`."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action = action


class Hub:
    """Holds ``endpoint``'s links. ``listener`` is where clients come from, if they may.

    :param tls: the context of a server for ``wss``.
    :param path: where the WebSocket is, on that server.
    :param allowed_origins: pages that may connect; None for all.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        listener: Listener | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        path: str = "/",
        allowed_origins: Collection[str] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.listener = listener
        self.dirty: set[Link] = set()
        """Links with something queued since they were flushed last."""
        self.watcher: Watcher | None = None
        self.due: float | None = None
        """When :meth:`handle_timers` is to be called; may be too early."""
        self._tls = tls
        self._path = path
        self._origins = allowed_origins
        self._scratch: Scratch | None = None
        self._serials = count(1)
        self._links: dict[Path, Link] = {}
        """Those the core may know of."""
        self._closing: set[Link] = set()
        """Those that have only their farewell to send, or to hear."""
        self._timed: set[Link] = set()
        """Those of both that have a deadline."""
        self._strangers: dict[Path, float] = {}
        """Accepted ones that serve no session yet, and how long they may stay so."""
        self._waiters: dict[Path, Callable[[Link], None]] = {}
        self._alarms: set[Alarm] = set()

    def _shared_scratch(self) -> Scratch:
        if self._scratch is None:
            self._scratch = Scratch()
        return self._scratch

    @property
    def idle(self) -> bool:
        """Whether no farewell is under way."""
        return not self._closing

    @property
    def sources(self) -> list[Source]:
        """All there is to watch."""
        listener: list[Source] = [] if self.listener is None else [self.listener]
        return [*listener, *self._links.values(), *self._closing]

    # --- clients

    def connect(self, target: Target, deadline: float, on_settled: Callable[[Link], None]) -> Link:
        """Begin to connect; ``on_settled(link)`` once it is open, or over: then its ``failure`` says why."""
        link = Link.connect(target, next(self._serials), self._shared_scratch(), deadline)
        if link.stage is Stage.OVER:
            on_settled(link)
            return link
        self._waiters[link.path] = on_settled
        self._add(link)
        return link

    def abandon(self, link: Link) -> None:
        """Whoever wanted this connection has gone, and no session is on it."""
        self._waiters.pop(link.path, None)
        self._links.pop(link.path, None)
        link.abort("nobody waits for it any more")
        self._timed.discard(link)
        self.dirty.discard(link)

    # --- what happened

    def turn(self, source: Source, now: float, *, writable: bool = False) -> None:
        """A source is readable, or ``writable``."""
        if isinstance(source, Listener):
            for sock, address in source.accept():
                self._welcome(source, sock, address, now)
            self._adjust(source)
        elif isinstance(source, Link) and source.stage is not Stage.OVER:
            was_calm = source.calm
            if writable:
                source.write()
            else:
                self._receive(source, now)
            if writable or not (was_calm and source.calm):
                self._after(source, now)

    def _receive(self, link: Link, now: float) -> None:
        receive = self.endpoint.receive_datagram
        found = link.receive(now)
        path = link.path  # which a request may have changed
        for datagram in found:
            receive(datagram, path, now)
        if path in self._strangers and self.endpoint.link_state(path) is LinkState.TRUSTED:
            link.deadline = None
            self._timed.discard(link)
            self._no_stranger(path)

    def _welcome(self, listener: Listener, sock: socket.socket, address: Address, now: float) -> None:
        path = Path("websocket", (*address[:2], next(self._serials)))
        upgrade = ServerUpgrade(self._path, self._origins)
        try:
            link = Link.accept(sock, path, self._shared_scratch(), now + FIRST_WORD, upgrade, self._tls)
        except OSError as error:
            logger.debug("a connection from %s was over before it began: %s", address[0], error)
            sock.close()
            listener.forget(address[0])
            return
        self._strangers[path] = now + INTRODUCTION
        link.on_request = self._rename
        self._add(link)

    def _rename(self, link: Link, forwarded_for: list[bytes]) -> None:
        """It may come by way of a reverse proxy: from here on it is known by whom that speaks for, to the core as well.

        :raises UpgradeRefused: where that one has enough connections already.
        """
        before = link.path
        assert isinstance(before.address, tuple)
        assert self.listener is not None
        host, *rest = before.address
        client = self.listener.rename(host, forwarded_for)
        if client is None:
            raise UpgradeRefused(429, "Too Many Requests", "this client has enough connections already")
        if client != host:
            link.path = Path("websocket", (client, *rest))
            self._links[link.path] = self._links.pop(before)
            self._strangers[link.path] = self._strangers.pop(before)

    def _add(self, link: Link) -> None:
        self._links[link.path] = link
        link.on_end = self._unwatch
        if self.watcher is not None:
            self.watcher.watch(link)
        self._plan(link)

    def _unwatch(self, link: Link) -> None:
        if self.watcher is not None:
            self.watcher.unwatch(link)

    def _no_stranger(self, path: Path) -> None:
        if self._strangers.pop(path, None) is not None and self.listener is not None:
            assert isinstance(path.address, tuple)
            self.listener.forget(path.address[0])
            self._adjust(self.listener)

    def _adjust(self, source: Source) -> None:
        if self.watcher is not None and source.fileno() >= 0:
            self.watcher.adjust(source)

    def _after(self, link: Link, now: float) -> None:
        """Tell whoever must know what has become of a link."""
        if link.stage is Stage.OPEN:
            if link.path in self._waiters:
                self._timed.discard(link)
                self._waiters.pop(link.path)(link)
            self._tell_room(link)
        elif link.stage in (Stage.CLOSING, Stage.OVER):
            self._gone(link, now)
            if link.stage is Stage.OVER:
                return
        self._adjust(link)

    def _tell_room(self, link: Link) -> None:
        if link.full != (link.unsent > (ROOM if link.full else MAX_UNSENT)):
            link.full = not link.full
            if link.full:
                self.endpoint.receive_path_blocked(link.path)
            else:
                self.endpoint.receive_path_writable(link.path)

    def _gone(self, link: Link, now: float) -> None:
        """It serves nobody any more, though it may have its farewell to send."""
        path = link.path
        if self._links.pop(path, None) is not None:
            self._no_stranger(path)
            self.endpoint.receive_path_closed(path, now)
            logger.debug("%r: %s", link, link.trouble or "no longer needed")
            if (waiter := self._waiters.pop(path, None)) is not None:
                waiter(link)
        if link.stage is Stage.CLOSING:
            self._closing.add(link)
            self._plan(link)
            return
        self._closing.discard(link)
        self._timed.discard(link)
        self.dirty.discard(link)
        if self.listener is not None and self.listener.starved:
            self.listener.starved = False
            self._adjust(self.listener)

    # --- time

    def call_at(self, when: float, action: Callable[[], None]) -> Alarm:
        """Call ``action()`` at ``when``, monotonic seconds, unless it is called off before; for whoever opens links."""
        alarm = Alarm(when, action)
        self._alarms.add(alarm)
        self._expect(when)
        return alarm

    def call_off(self, alarm: Alarm) -> None:
        """Let it be; harmless once it was called."""
        self._alarms.discard(alarm)

    def _expect(self, when: float) -> None:
        if self.due is None or when < self.due:
            self.due = when

    def _plan(self, link: Link) -> None:
        if link.deadline is not None:
            self._timed.add(link)
            self._expect(link.deadline)

    def handle_timers(self, now: float) -> None:
        """Act on what is due."""
        if self.due is None or self.due > now:
            return
        self.due = None
        for link in list(self._timed):
            if link.deadline is not None and link.deadline <= now:
                self._expire(link, now)
            if link in self._timed:
                self._plan(link)
        for alarm in sorted(self._alarms, key=_time_of):
            if alarm.at > now:
                self._expect(alarm.at)
            elif alarm in self._alarms:  # else an earlier one called it off
                self._alarms.discard(alarm)
                alarm.action()

    def _expire(self, link: Link, now: float) -> None:
        longest = self._strangers.get(link.path)
        if longest is not None and longest > now and self.endpoint.link_state(link.path) is LinkState.SPEAKING:
            link.deadline = longest
        elif link.stage is Stage.OPEN:
            link.close(CloseCode.POLICY_VIOLATION, "nothing that opens came in time", now)
            self._after(link, now)
        else:
            link.handle_timer()
            self._after(link, now)

    def receive_all(self, now: float) -> None:
        """Read what lies unread on any link: after a long sleep, before timers are believed."""
        for link in list(self._links.values()):
            if link.wants_read:
                self._receive(link, now)
                self._after(link, now)

    # --- sending

    def send(self, transmit: Transmit) -> None:
        """Queue what the core gave for one of its links; :meth:`flush` sends it. What is over loses it."""
        link = self._links.get(transmit.path)
        if link is None:
            return
        link.queue(transmit.data)
        self.dirty.add(link)
        if link.unsent > MAX_UNSENT:
            self._tell_room(link)

    def flush(self, now: float) -> None:
        """Send what was queued, and tell the core what became of it."""
        dirty, self.dirty = self.dirty, set()
        for link in dirty:
            link.flush()
            if not link.calm:
                self._after(link, now)

    # --- the end

    def release(self, path: Path, now: float) -> None:
        """The core needs this no longer: close it once what it was given has left."""
        link = self._links.get(path)
        if link is not None:
            link.close(CloseCode.NORMAL, "", now)
            self._after(link, now)

    def close(self, now: float) -> None:
        """Close everything, at once; links get their farewell as far as the system takes it. Whoever waits for one that
        isn't open is not told: he would open another."""
        self._waiters.clear()
        self._alarms.clear()
        for link in list(self._links.values()):
            link.close(CloseCode.GOING_AWAY, "the node stops", now)
            self._gone(link, now)
        for link in list(self._closing):
            link.abort(link.trouble)
            self._gone(link, now)
        if self.listener is not None:
            self.listener.close()


def _time_of(alarm: Alarm) -> float:
    return alarm.at
