"""The half of a node that calls others: to make sessions, to move them, to let them go round.

Rule: here it is said where to; :mod:`~stt_backends.adapter.dialing` and the others see to it.
"""

from __future__ import annotations

import socket
import ssl
from abc import ABC, abstractmethod
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar

from stt_backends.absent import AbsentSocket
from stt_backends.adapter.building import NodeSettings
from stt_backends.adapter.connecting import Connecting, Destination, destination_of, pick
from stt_backends.adapter.dialing import Dialer
from stt_backends.adapter.errors import ErrorFamily
from stt_backends.adapter.moving import Moving
from stt_backends.adapter.parking import ParkingLot
from stt_backends.adapter.racing import Found
from stt_backends.adapter.session import BaseSession
from stt_backends.driver import Driver
from stt_backends.udp import UdpSocket
from stt_backends.websocket.link import Target
from stt_backends.websocket.tls import default_context
from stt_backends.websocket.url import WebSocketUrl
from stt_core.config import check_seconds
from stt_core.errors import ConfigurationError, SessionClosedError, StateError
from stt_core.types import Path

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
    _dialer: Dialer[SessionT]

    @abstractmethod
    def make_parking_lot(self) -> ParkingLot:
        """A new one, of the kind that parks best on the running event loop."""

    @abstractmethod
    def kick(self) -> None:
        """Let what a command has queued leave: at once, or with what follows at its heels."""

    @abstractmethod
    def wake_pump(self) -> None:
        """Let a turn be taken soon, for a connection has a deadline."""

    @property
    @abstractmethod
    def socket(self) -> UdpSocket | AbsentSocket:
        """What it is bound to."""

    @property
    @abstractmethod
    def stopping(self) -> bool:
        """Whether it is being stopped, or was."""

    @abstractmethod
    def stopped_error(self) -> StateError:
        """What a call on a node that is being stopped raises."""

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
        settings = self._settings
        return destination_of(
            address, ssl_context, settings.proxy if proxy is None else proxy, settings.proxy_ssl_context
        )

    def _begin_connect(
        self,
        destination: Destination,
        found: Found,
        peer_node_id: bytes | None,
        peer_key: bytes | None,
        timeout: float | None,
    ) -> Connecting[SessionT]:
        """Ask for a session with the node at any of the addresses found; the dialer's ``end`` must follow."""
        driver, _ = self._started()
        return self._dialer.connect(driver, destination, found, peer_node_id, peer_key, timeout)

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
        """Ask the node at one of the addresses found to go on; the dialer's ``end`` must follow."""
        driver, _ = self._started()
        return self._dialer.resume(
            driver, token, destination, found, peer_node_id, peer_key, timeout, takeover=takeover
        )

    def beside(self, address: tuple[Any, ...]) -> list[Target]:
        """The WebSocket that a peer has at the same port number if it is a node like this one, which has both."""
        settings = self._settings
        if settings.transport != "both":
            return []
        host, port, *_ = address
        secure = settings.ssl_context is not None
        url = WebSocketUrl(secure, host.partition("%")[0], port, settings.websocket_path)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return [Target(url, family, address, tls=_system_context() if secure else None)]

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

    def _connected(self, connecting: Connecting[SessionT]) -> SessionT:
        """What a ``connect`` that is done returns or raises."""
        if connecting.session is None:
            raise self.errors.translate(connecting.failure or SessionClosedError("the node was stopped"))
        return connecting.session
