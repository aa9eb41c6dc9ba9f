"""The half of a node that calls others: connections and handshakes begun, given up, and what becomes of them.

Rule: what is begun here ends by :meth:`BaseCaller._end_connect`, whoever gave it up.
"""

from __future__ import annotations

import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from functools import cache, partial
from typing import Any, ClassVar, Generic, TypeVar

from stt_backends.absent import AbsentSocket
from stt_backends.adapter.building import NodeSettings
from stt_backends.adapter.connecting import Connecting, Destination, Found, destination_of, pick
from stt_backends.adapter.errors import ErrorFamily
from stt_backends.adapter.moving import Moving
from stt_backends.adapter.opening import Opening
from stt_backends.adapter.parking import ParkingLot
from stt_backends.adapter.session import BaseSession
from stt_backends.driver import Driver
from stt_backends.udp import UdpSocket
from stt_backends.websocket.link import Link, Target
from stt_backends.websocket.tls import default_context
from stt_backends.websocket.url import WebSocketUrl
from stt_core.config import check_seconds
from stt_core.errors import ConfigurationError, SessionClosedError, StateError, STTError
from stt_core.types import Path, SessionKey

SessionT = TypeVar("SessionT", bound=BaseSession[Any, Any])


@cache
def _system_context() -> ssl.SSLContext:
    """One for all sessions that may never use it: to load the system's authorities takes a moment."""
    return default_context()


class BaseCaller(ABC, Generic[SessionT]):
    """What :class:`~stt_backends.adapter.node.BaseNode` does to connect and to move."""

    errors: ClassVar[ErrorFamily]
    """The adapter's."""
    _settings: NodeSettings
    _stopping: bool
    _crash: BaseException | None
    _connecting: dict[SessionKey, Connecting[SessionT]]
    _opening: set[Connecting[SessionT]]
    """Those whose connection isn't open yet."""

    @abstractmethod
    def make_parking_lot(self) -> ParkingLot:
        """A new one, of the kind that parks best on the running event loop."""

    @abstractmethod
    def kick(self) -> None:
        """Let what a command has queued leave: at once, or with what follows at its heels."""

    @abstractmethod
    def wake_pump(self) -> None:
        """Let a turn be taken soon, for a connection has a deadline."""

    @abstractmethod
    def _started(self) -> tuple[Driver, UdpSocket | AbsentSocket]:
        """What it runs on.

        :raises StateError: before the node is started.
        """

    def destination(self, address: object, ssl_context: ssl.SSLContext | None, proxy: str | None) -> Destination:
        """What an address given by the application means; what is not said of a proxy, the node's settings say.

        :raises ConfigurationError: if it means nothing.
        """
        self._started()
        return destination_of(address, ssl_context, self._settings.proxy if proxy is None else proxy)

    def _begin_connect(
        self,
        destination: Destination,
        found: Found,
        peer_node_id: bytes | None,
        peer_key: bytes | None,
        timeout: float | None,
    ) -> Connecting[SessionT]:
        """Ask for a session with the node at one of the addresses found; :meth:`_end_connect` must follow."""
        driver, _ = self._started()
        begin = partial(driver.endpoint.connect, peer_node_id=peer_node_id, peer_key=peer_key)
        return self._begin(begin, destination, found, timeout)

    def _begin_resume(
        self,
        token: bytes | None,
        destination: Destination,
        found: Found,
        peer_node_id: bytes | None,
        peer_key: bytes | None,
        timeout: float | None,
        *,
        takeover: bool,
    ) -> Connecting[SessionT]:
        """Ask the node at one of the addresses found to go on; :meth:`_end_connect` must follow."""
        driver, _ = self._started()
        resume = driver.endpoint.resume
        begin = partial(resume, token, peer_node_id=peer_node_id, peer_key=peer_key, takeover=takeover)
        return self._begin(begin, destination, found, timeout)

    def _begin(
        self, begin: Callable[..., SessionKey], destination: Destination, found: Found, timeout: float | None
    ) -> Connecting[SessionT]:
        driver, sock = self._started()
        address = () if destination.url else sock.canonical(pick(destination.host, found, self._settings.bind_address))
        if self._stopping:
            raise StateError("the node is stopped") from self._crash
        connecting: Connecting[SessionT] = Connecting(self.make_parking_lot(), begin)
        if destination.url is None:
            connecting.targets = self._beside(address)
            self._begin_handshake(connecting, address, "udp", timeout)
        else:
            connecting.targets = destination.targets(found)
            seconds = driver.endpoint.config.handshake_timeout if timeout is None else timeout
            check_seconds("timeout", seconds)
            self._opening.add(connecting)
            self._open_link(connecting, driver.clock() + seconds)
        return connecting

    def _begin_handshake(
        self, connecting: Connecting[SessionT], address: Hashable, transport: str, timeout: float | None
    ) -> None:
        driver, _ = self._started()
        now = driver.clock()
        with self.errors.translated:
            key = connecting.begin(address, now=now, transport=transport, timeout=timeout)
        connecting.key = key
        self._connecting[key] = connecting
        self.kick()

    def _beside(self, address: tuple[Any, ...]) -> list[Target]:
        """The WebSocket that a peer has at the same port number if it is a node like this one, which has both."""
        settings = self._settings
        if settings.transport != "both":
            return []
        host, port, *_ = address
        secure = settings.ssl_context is not None
        url = WebSocketUrl(secure, host.partition("%")[0], port, settings.websocket_path)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return [Target(url, family, address, tls=_system_context() if secure else None)]

    def _open_link(self, connecting: Connecting[SessionT], deadline: float) -> None:
        """Open a connection to the first of its targets that answers, then begin the handshake on it."""
        driver, _ = self._started()

        def on_done(link: Link) -> None:
            if link.failure is not None:
                connecting.fail(link.failure)
            elif not (connecting.done or self._stopping):
                self._opening.discard(connecting)
                self._begin_over(connecting, link, deadline - driver.clock())

        connecting.opening = Opening(driver, connecting.targets, deadline, on_done)
        connecting.opening.begin()
        self.wake_pump()

    def begin_move(self, session: SessionT, destination: Destination, found: Found, timeout: float | None) -> Moving:
        """Let a session go to one of the addresses found; :meth:`Moving.end` must follow.

        :raises STTError: if it can't go anywhere: it is over, or detached.
        """
        driver, sock = self._started()
        seconds = driver.endpoint.config.handshake_timeout if timeout is None else timeout
        check_seconds("timeout", seconds)
        moving = Moving(session, driver, destination, seconds)
        with self.errors.translated:
            if destination.url is None:
                moving.go(Path("udp", sock.canonical(pick(destination.host, found, self._settings.bind_address))))
            else:
                moving.open(found)
                self.wake_pump()
        return moving

    def allow_fallback(self, session: SessionT, destination: Destination, found: Found) -> None:
        """Let a session go round by one of the addresses found, where what it uses falls silent.

        :raises ConfigurationError: if they are for UDP.
        """
        if destination.url is None:
            raise ConfigurationError(f"the address is {destination.host!r}, expected a ws:// or wss:// URL")
        session.detour(self._started()[0]).targets = destination.targets(found)

    def _begin_over(self, connecting: Connecting[SessionT], link: Link, timeout: float) -> None:
        try:
            self._begin_handshake(connecting, link.path.address, "websocket", max(timeout, 0.001))
        except STTError as error:
            connecting.fail(error)
            self._started()[0].hub.abandon(link)

    def _give_up(self, connecting: Connecting[SessionT]) -> None:
        """Nobody wants this session any more, whether or not it has been made in the meantime. One that was there
        before stays."""
        if connecting.session is not None:
            if connecting.session.core.key == connecting.key:
                connecting.session.core.close()
        elif connecting.failure is None and connecting.key is not None:
            self._started()[0].endpoint.session(connecting.key).close()
        elif connecting.opening is not None:
            self._opening.discard(connecting)
            connecting.opening.abandon()
        self.kick()

    def _reached(self, connecting: Connecting[SessionT], session: SessionT) -> None:
        """What was asked for is there."""
        if connecting.targets:
            session.detour(self._started()[0]).targets = connecting.targets
        connecting.succeed(session)

    def _end_connect(self, connecting: Connecting[SessionT]) -> None:
        self._opening.discard(connecting)
        if connecting.key is not None:
            del self._connecting[connecting.key]

    def _connected(self, connecting: Connecting[SessionT]) -> SessionT:
        """What a ``connect`` that is done returns or raises."""
        if connecting.session is None:
            raise self.errors.translate(connecting.failure or SessionClosedError("the node was stopped"))
        return connecting.session

    def _fail_connecting(self) -> None:
        for connecting in [*self._connecting.values(), *self._opening]:
            connecting.fail(SessionClosedError("the node was stopped"))
