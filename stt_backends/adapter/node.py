"""A node as an adapter holds it, but for the waits: settings, sessions, who connects, who was accepted, who is told.

Rule: one task owns the socket. Applications' calls queue commands in the core and kick that task; it sends, and wakes
them by events. A crashing callback or handler is logged and ends nothing but its own session.
"""

from __future__ import annotations

import logging
import os
import ssl
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from stt_backends.absent import AbsentSocket
from stt_backends.adapter.broadcast import Broadcast, SlowPolicy
from stt_backends.adapter.building import NodeSettings, build_driver
from stt_backends.adapter.callbacks import BaseCallbacks, ClosedCallback
from stt_backends.adapter.calling import BaseCaller
from stt_backends.adapter.dialing import Dialer
from stt_backends.adapter.lodging import House
from stt_backends.adapter.parking import ParkingLot
from stt_backends.adapter.pump import Pump
from stt_backends.adapter.session import OF_STREAMS, BaseSession
from stt_backends.adapter.stream import as_message
from stt_backends.driver import Driver
from stt_backends.udp import UdpSocket
from stt_core.config import MAX_DATAGRAM
from stt_core.dht.attached import refuse
from stt_core.endpoint import Endpoint
from stt_core.errors import (
    AuthenticationError,
    CloseReason,
    ConfigurationError,
    ErrorCode,
    SessionClosedError,
    StateError,
    StreamResetError,
)
from stt_core.events import (
    AnyEvent,
    Event,
    HandshakeFailed,
    PeerRejected,
    SessionClosed,
    SessionDetached,
    SessionEstablished,
    SessionResumed,
)
from stt_core.resumption import TicketStore
from stt_core.session import Session
from stt_core.types import RateLimits, SessionKey

logger = logging.getLogger("stt.node")

STOP_PATIENCE = 3.0
"""Seconds ``stop`` gives the peers to acknowledge, before the socket closes anyway."""
STOP_LINGER = 1.0
"""Seconds of these it spends on getting acknowledged what was sent; a session's ``close`` is more patient."""
CALLBACK_PATIENCE = 1.0
"""Seconds it gives asynchronous callbacks that still run after that, before it cancels them."""

SessionT = TypeVar("SessionT", bound=BaseSession[Any, Any])


class BaseNode(House, BaseCaller[SessionT]):
    """A node that connects to others and is connected to, by UDP, WebSocket, or both.

    ``transport`` says where it listens: ``"udp"``, ``"websocket"`` or ``"both"``, at the same port number. Any node can
    connect to a URL. ``ssl_context`` makes a server of ``wss``, at ``websocket_path``; ``allowed_origins`` are the
    pages that browsers may connect from, such as ``"https://example.org"`` (None: all). ``proxy`` is the URL of an HTTP
    proxy for connections to URLs, ``http://user:password@host:port``, or ``https``, with ``proxy_ssl_context`` for one
    that the system's authorities don't know. ``trusted_proxies`` are the reverse proxies whose ``X-Forwarded-For`` is
    believed, by address or network; limits then count by the addresses it names.

    Lead with ``async with STTNode(...) as node``; ``start`` and ``stop`` work outside of one too. Settings not listed
    in the signature's first lines are :class:`~stt_core.config.EndpointConfig`'s and in its units.

    :raises ConfigurationError: on ``start`` or entering, naming the setting, its value and what it may be.
    """

    def __init__(
        self,
        node_id: bytes | None = None,
        port: int = 0,
        *,
        shared_seed: bytes | None = None,
        node_seed: bytes | None = None,
        transport: str = "udp",
        bind_address: str = "0.0.0.0",
        ssl_context: ssl.SSLContext | None = None,
        websocket_path: str = "/",
        allowed_origins: Collection[str] | None = None,
        proxy: str | None = None,
        proxy_ssl_context: ssl.SSLContext | None = None,
        trusted_proxies: Collection[str] = (),
        reuse_port: bool = False,
        recv_buffer_size: int | None = None,
        send_buffer_size: int | None = None,
        max_udp_payload: int | None = None,
        keep_alive_interval: float = 10.0,
        keep_alive_timeout: float = 30.0,
        max_sessions: int = 1000,
        rate_limits: RateLimits | None = RateLimits(),  # noqa: B008 - frozen
        tickets: TicketStore | None = None,
        **settings: Any,
    ) -> None:
        self._settings = NodeSettings(
            bind_address=bind_address,
            port=port,
            transport=transport,
            reuse_port=reuse_port,
            recv_buffer_size=recv_buffer_size,
            send_buffer_size=send_buffer_size,
            ssl_context=ssl_context,
            websocket_path=websocket_path,
            allowed_origins=allowed_origins,
            proxy=proxy,
            proxy_ssl_context=proxy_ssl_context,
            trusted_proxies=trusted_proxies,
            shared_seed=shared_seed,
            tickets=tickets,
            endpoint={
                "node_id": node_id,
                # A node without a name gets one that it can prove, though nobody asked for an identity.
                "node_seed": os.urandom(32) if node_seed is None and node_id is None else node_seed,
                "max_udp_payload": MAX_DATAGRAM if max_udp_payload is None else max_udp_payload,
                "keep_alive_interval": keep_alive_interval,
                "keep_alive_timeout": keep_alive_timeout,
                "max_sessions": max_sessions,
                "rate_limits": rate_limits,
                "stable_resets": not reuse_port,
                "keep_identity": node_seed is not None,
                **settings,
            },
        )
        self._begin_unstarted()

    def _begin_unstarted(self) -> None:
        self._driver: Driver | None = None
        self._socket: UdpSocket | AbsentSocket | None = None
        self._pump: Pump | None = None
        self._stopping = self._hurried = self._stopped = False
        self._crash: BaseException | None = None
        self._sessions: dict[SessionKey, SessionT] = {}
        self._dialer = Dialer(self)
        self._accepted: deque[SessionT] = deque()
        self._news: ParkingLot | None = None
        """Of sessions that arrive and of the end; there from the start on."""
        self._callbacks = self._make_callbacks()

    def __repr__(self) -> str:
        where = f"{self.bind_address}:{self._socket.address[1]}" if self._socket else "not started"
        return f"<{type(self).__name__} {where}, {len(self._sessions)} sessions>"

    # --- what the adapter supplies

    @abstractmethod
    def _make_callbacks(self) -> BaseCallbacks:
        """What runs the application's callbacks."""

    @abstractmethod
    def _make_session(self, core: Session) -> SessionT:
        """The application's side of ``core``."""

    @abstractmethod
    def _launch(self, driver: Driver) -> Pump:
        """Make a pump for ``driver`` and run it in the background, later: its end, whatever it is, is for :meth:`_end`.

        :raises RuntimeError: if no event loop is running.
        """

    # --- starting and stopping

    def _start(self, server_mode: bool | None = None) -> None:
        """Bind the socket and begin to serve; ``server_mode`` says whether peers may connect (the setting ``accept``).

        :raises ConfigurationError: if a setting is wrong or there is no seed; ``OSError`` if the port is taken.
        """
        if self._driver is not None:
            raise StateError("this node was started already; make a new one")
        if server_mode is not None:
            self._settings = replace(self._settings, endpoint={**self._settings.endpoint, "accept": server_mode})
        driver = build_driver(self._settings, self._on_event)
        try:
            self._news = self.make_parking_lot()
            self._pump = self._launch(driver)
        except BaseException:
            driver.close()
            raise
        self._driver, self._socket = driver, driver.socket

    def _begin_stop(self) -> bool:
        """Say goodbye to all peers and tell all who wait; False where there is nothing to stop."""
        driver = self._driver
        if driver is None:
            return False
        if not self._stopping:
            self._stopping = True
            self._evict()
            driver.endpoint.close(ErrorCode.SHUTTING_DOWN, "the node is stopping", linger=STOP_LINGER)
        self.wake_pump()
        self._dialer.fail_all()
        self._wake()
        return True

    def _hurry(self) -> None:
        """Stop without waiting for the peers any longer."""
        if self._driver is not None and not self._stopped:
            self._driver.endpoint.close(ErrorCode.SHUTTING_DOWN, "the node is stopping")
            self._hurried = True
            self.wake_pump()

    def _end(self, crash: Exception | None) -> None:
        """The pump has ended. Nobody will move datagrams any more: let no one wait for what can't come."""
        if crash is not None:
            logger.error("the node failed and stops", exc_info=crash)
            self._crash = crash
        self._stopping = True
        self._evict()
        driver, sock = self._started()
        sock.close()
        driver.hub.close(driver.clock())
        try:
            driver.endpoint.abandon("the node was stopped")
            while (event := driver.endpoint.next_event()) is not None:
                self._on_event(event)
        finally:
            self._stopped = True
            self._dialer.fail_all()
            self._wake()

    def _raise_crash(self) -> None:
        """Tell what the node failed of to whoever stops it, once."""
        if self._crash is not None:
            crash, self._crash = self._crash, None
            raise crash

    def _is_finished(self) -> bool:
        """Whether nothing is left to be moved: asked after each turn."""
        return self._stopping and (self._hurried or (self._driver is not None and self._driver.idle))

    def kick(self) -> None:
        """Let what a command has queued leave: at once, or with what follows at its heels."""
        driver = self._driver
        if self._pump is not None and driver is not None and driver.endpoint.has_work and not driver.join():
            self._pump.submit()

    def push(self) -> None:
        """Nothing follows at once: let what is held back leave as soon as everybody had a turn."""
        if self._driver is not None:
            self._driver.push()

    def wake_pump(self) -> None:
        """See :class:`BaseCaller`."""
        if self._pump is not None:
            self._pump.wake()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.wake_all()

    def _started(self) -> tuple[Driver, UdpSocket | AbsentSocket]:
        if self._driver is None or self._socket is None:
            raise StateError("the node isn't started")
        return self._driver, self._socket

    def stopped_error(self) -> StateError:
        """What a call on a node that is being stopped raises."""
        error = StateError("the node is stopped")
        error.__cause__ = self._crash
        return error

    # --- what it is

    @property
    def bind_address(self) -> str:
        """The address the node was told to listen at."""
        return self._settings.bind_address

    @property
    def stopping(self) -> bool:
        """Whether the node is being stopped, or was."""
        return self._stopping

    @property
    def port(self) -> int:
        """The port bound, also where 0 asked for any; UDP's and WebSocket's are the same.

        :raises StateError: before the node is started.
        """
        return int(self.address[1])

    @property
    def address(self) -> tuple[Any, ...]:
        """The bound address.

        :raises StateError: before the node is started.
        """
        return self._started()[1].address

    @property
    def socket(self) -> UdpSocket | AbsentSocket:
        """What it is bound to.

        :raises StateError: before the node is started.
        """
        return self._started()[1]

    @property
    def clock(self) -> Callable[[], float]:
        """The clock that the endpoint is given times of, seconds.

        :raises StateError: before the node is started.
        """
        return self._started()[0].clock

    @property
    def endpoint(self) -> Endpoint:
        """The sans-IO core under this node, for looking at; commands to it go unnoticed until :meth:`kick`."""
        return self._started()[0].endpoint

    def get_active_sessions(self) -> list[SessionT]:
        """All sessions that are established."""
        return [session for session in self._sessions.values() if session.alive]

    def statistics(self) -> dict[str, int]:
        """Counters by name: datagrams, sessions, refusals, resets."""
        return self.endpoint.statistics()

    # --- accepting

    def _next_accepted(self) -> SessionT | None:
        """The next session a peer made with us, None where none waits; raises when none will."""
        if self._accepted:
            return self._accepted.popleft()
        self._started()
        if self._stopping:
            raise self.stopped_error()
        return None

    def _handler_failed(self, session: SessionT, error: Exception) -> None:
        if _is_the_peers_doing(error):
            logger.info("%r ended under its handler: %s", session, error)
        else:
            logger.error("the handler of %r failed", session, exc_info=error)

    # --- to many

    def _broadcast(self, session_ids: Iterable[bytes] | None, data: bytes, stream_id: int, policy: str) -> Broadcast:
        """Send to those of these sessions that take it at once; None for all that are active."""
        self._started()
        try:
            slow = SlowPolicy(policy)
        except ValueError:
            raise ConfigurationError(f"policy is {policy!r}, expected one of {', '.join(SlowPolicy)}") from None
        message = as_message(data)
        active = self.get_active_sessions()
        if session_ids is None:
            return Broadcast(active, message, stream_id, slow)
        by_id = {session.session_id: session for session in active}
        wanted = list(dict.fromkeys(session_ids))
        known = [by_id[session_id] for session_id in wanted if session_id in by_id]
        broadcast = Broadcast(known, message, stream_id, slow)
        for session_id in wanted:
            if session_id not in by_id:
                broadcast.unknown(session_id, SessionClosedError(f"no session {session_id.hex()} is active"))
        return broadcast

    # --- telling

    def on_session_closed(self, callback: ClosedCallback) -> None:
        """Call ``callback(session_id, reason)`` for each session that ends, and for each peer that fails to
        authenticate (reason ``auth_failure``, an empty id). Sync or async; its exceptions are logged."""
        self._callbacks.on_closed.append(callback)

    def on_session_established(self, callback: Callable[[SessionT], Any]) -> None:
        """Call ``callback(session)`` for each session that is made, by either side. Sync or async."""
        self._callbacks.on_established.append(callback)

    def on_session_detached(self, callback: Callable[[SessionT], Any]) -> None:
        """Call ``callback(session)`` for each session whose peer fell silent and that waits to be resumed (with
        ``resumable=True``). Sync or async; its exceptions are logged."""
        self._callbacks.on_detached.append(callback)

    # --- events

    def _on_event(self, event: AnyEvent) -> None:
        if isinstance(event, OF_STREAMS):
            concerned = self._sessions.get(event.session_key)
            if concerned is not None:
                concerned.handle_event(event)
            return
        if self._lodger is not None:
            self._lodger.handle_event(event, self._started()[0].clock())
        if isinstance(event, SessionEstablished):
            self._on_new_session(event)
        elif isinstance(event, HandshakeFailed):
            self._dialer.on_failed(event.session_key, event.error)
        elif isinstance(event, PeerRejected):
            logger.warning("refused a peer at %s: %s", event.path.address, event.error)
            if isinstance(event.error, AuthenticationError):
                self._callbacks.tell_closed(b"", str(CloseReason.AUTH_FAILURE))
        elif isinstance(event, Event):
            self._on_session_event(event)

    def _on_session_event(self, event: Event) -> None:
        session = self._sessions.get(event.session_key)
        if session is None:
            return
        session.handle_event(event)
        if isinstance(event, SessionDetached):
            logger.info("%r detached: %s", session, event.message)
            self._callbacks.tell_detached(session)
        elif isinstance(event, SessionResumed):
            logger.info("%r goes on with %s", session, event.path.address)
            if event.attempt is not None:
                self._dialer.on_made(event.attempt, session)
        if isinstance(event, SessionClosed):
            del self._sessions[event.session_key]
            logger.info("%r closed: %s (%s)", session, event.reason, event.message)
            self._callbacks.tell_closed(event.session_id, str(event.reason))

    def _on_new_session(self, event: SessionEstablished) -> None:
        if event.dht_only:
            if self._lodger is None:
                refuse(self.endpoint, event.session_key)
            return
        if self._dialer.is_spare(event.session_key):
            return
        session = self._make_session(self.endpoint.session(event.session_key))
        self._sessions[event.session_key] = session
        logger.info("%r established with %s", session, event.path.address)
        if not event.initiated:
            self._arrive(session)
        else:
            self._dialer.on_made(event.session_key, session)
        self._callbacks.tell_established(session)

    def _arrive(self, session: SessionT) -> None:
        if len(self._accepted) >= self.endpoint.config.max_sessions:
            # A node that never accepts must not collect what has long ended; there can't be as many alive.
            self._accepted = deque(waiting for waiting in self._accepted if waiting.alive)
        self._accepted.append(session)
        self._wake()


def _is_the_peers_doing(error: BaseException) -> bool:
    """Whether a handler ended because its peer went away or reset a stream, in whatever groups that came."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_the_peers_doing, error.exceptions))
    return isinstance(error, SessionClosedError | StreamResetError)
