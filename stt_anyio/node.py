"""STTNode: a socket, an endpoint, and the task that keeps both going (chapter, "Session Lifecycle").

Rule: one task owns the socket. Applications' calls queue commands in the core and kick that task; it sends, and wakes
them by events. A crashing callback or handler is logged and ends nothing but its own session.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import fields
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel

from stt_anyio.callbacks import Callbacks, spawn
from stt_anyio.errors import translate, translated
from stt_anyio.parking import ParkingLot, parking_lot
from stt_anyio.pump import Pump, pump_for
from stt_anyio.session import OF_STREAMS, STTSession
from stt_backends.driver import Driver
from stt_backends.pyca import PycaCrypto
from stt_backends.seed import load_shared_seed
from stt_backends.udp import UdpSocket
from stt_core.config import MAX_DATAGRAM, EndpointConfig, check_bytes
from stt_core.endpoint import Endpoint
from stt_core.errors import (
    AuthenticationError,
    CloseReason,
    ConfigurationError,
    ConnectError,
    ErrorCode,
    SessionClosedError,
    StateError,
    StreamResetError,
    STTError,
)
from stt_core.events import (
    AnyEvent,
    Event,
    HandshakeFailed,
    PeerRejected,
    SessionClosed,
    SessionEstablished,
)
from stt_core.handshake import Identity, node_id_of, weak_seed_reason
from stt_core.types import RateLimits, SessionKey

logger = logging.getLogger("stt.node")

STOP_PATIENCE = 3.0
"""Seconds :meth:`STTNode.stop` gives the peers to acknowledge, before the socket closes anyway."""
STOP_LINGER = 1.0
"""Seconds of these it spends on getting acknowledged what was sent; :meth:`STTSession.close` is more patient."""
CALLBACK_PATIENCE = 1.0
"""Seconds it gives asynchronous callbacks that still run after that, before it cancels them."""

_SETTINGS = {field.name for field in fields(EndpointConfig)}

ClosedCallback = Callable[[bytes, str], Any]
EstablishedCallback = Callable[[STTSession], Any]


class _Started:
    """What :meth:`STTNode.start` returns: the node listens already, awaiting it changes nothing."""

    def __init__(self, node: STTNode) -> None:
        self._node = node

    def __await__(self) -> Generator[Any, Any, STTNode]:
        yield from anyio.lowlevel.checkpoint().__await__()
        return self._node


class _Connecting:
    """A ``connect`` under way: one of ``session`` and ``failure`` is there once ``done`` is set."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.session: STTSession | None = None
        self.failure: STTError | None = None

    def fail(self, error: STTError) -> None:
        if not self.done.is_set():
            self.failure = error
            self.done.set()


class STTNode:
    """A node that connects to others and is connected to, over one UDP socket.

    Lead with ``async with STTNode(...) as node``; :meth:`start` and :meth:`stop` work outside of one too. Settings
    not listed in the signature's first lines are :class:`~stt_core.config.EndpointConfig`'s and in its units.

    :raises ConfigurationError: on :meth:`start` or entering, naming the setting, its value and what it may be.
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
        reuse_port: bool = False,
        recv_buffer_size: int | None = None,
        send_buffer_size: int | None = None,
        max_udp_payload: int | None = None,
        keep_alive_interval: float = 10.0,
        keep_alive_timeout: float = 30.0,
        max_sessions: int = 1000,
        rate_limits: RateLimits | None = RateLimits(),  # noqa: B008 - frozen
        **settings: Any,
    ) -> None:
        if transport != "udp":
            raise ConfigurationError(f"transport is {transport!r}, expected 'udp': this version speaks nothing else")
        unknown = sorted(settings.keys() - _SETTINGS)
        if unknown:
            raise TypeError(f"unknown setting {unknown[0]!r}, expected one of {', '.join(sorted(_SETTINGS))}")
        self.bind_address = bind_address
        self._wanted_port = port
        self._reuse_port = reuse_port
        self._buffers = (recv_buffer_size, send_buffer_size)
        self._seed = shared_seed
        self._settings: dict[str, Any] = {
            "node_id": node_id,
            # An identity of its own even where nobody asked for one: then the derived node id can be proved.
            "node_seed": os.urandom(32) if node_seed is None else node_seed,
            "max_udp_payload": MAX_DATAGRAM if max_udp_payload is None else max_udp_payload,
            "keep_alive_interval": keep_alive_interval,
            "keep_alive_timeout": keep_alive_timeout,
            "max_sessions": max_sessions,
            "rate_limits": rate_limits,
            "stable_resets": not reuse_port,
            **settings,
        }
        self._driver: Driver | None = None
        self._socket: UdpSocket | None = None
        self._pump: Pump | None = None
        self._stopping = False
        self._cut_short = False
        self._stopped = anyio.Event()
        self._crash: BaseException | None = None
        self._sessions: dict[SessionKey, STTSession] = {}
        self._connecting: dict[SessionKey, _Connecting] = {}
        self._accepted: deque[STTSession] = deque()
        self._arrivals: ParkingLot | None = None
        self._callbacks = Callbacks()
        self._on_closed: list[ClosedCallback] = []
        self._on_established: list[EstablishedCallback] = []

    def __repr__(self) -> str:
        where = f"{self.bind_address}:{self._socket.address[1]}" if self._socket else "not started"
        return f"<STTNode {where}, {len(self._sessions)} sessions>"

    # --- starting and stopping

    def start(self) -> _Started:
        """Bind the socket and begin to serve, at once; the result may be awaited or not.

        :raises ConfigurationError: if a setting is wrong or there is no seed; ``OSError`` if the port is taken.
        """
        if self._driver is not None:
            raise StateError("this node was started already; make a new one")
        seed = self._seed if self._seed is not None else load_shared_seed(os.environ)
        check_bytes("shared_seed", seed, 1, 1024, secret=True)
        weak = weak_seed_reason(seed)
        if weak is not None:
            logger.warning("the shared seed is weak: %s", weak)
        crypto = PycaCrypto()
        check_bytes("node_seed", self._settings["node_seed"], 16, 1024, secret=True)
        if self._settings["node_id"] is None:
            self._settings["node_id"] = node_id_of(Identity(self._settings["node_seed"], crypto, os.urandom).public)
        receive_size, send_size = self._buffers
        sock = UdpSocket(
            self.bind_address,
            self._wanted_port,
            reuse_port=self._reuse_port,
            recv_buffer_size=receive_size,
            send_buffer_size=send_size,
        )
        try:
            settings = {"mtu_search": sock.dont_fragment, **self._settings}
            config = EndpointConfig(shared_seed=seed, receive_buffer_hint=sock.receive_buffer, **settings)
            endpoint = Endpoint(config, crypto=crypto, entropy=os.urandom, wall_offset=time.time() - time.monotonic())
            driver = Driver(endpoint, sock, self._on_event)
            pump = pump_for(driver, self._is_finished)
            spawn(lambda: self._run(driver, sock, pump))
        except BaseException:
            sock.close()
            raise
        self._driver, self._socket, self._pump = driver, sock, pump
        return _Started(self)

    async def __aenter__(self) -> Self:
        self.start()
        await anyio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close all sessions gracefully, then the socket; bounded in time. Does nothing a second time.

        Cancelled (or inside a cancelled scope) it still closes the socket, without waiting for the peers.
        """
        driver = self._driver
        if driver is None:
            await anyio.lowlevel.checkpoint()
            return
        if not self._stopping:
            self._stopping = True
            driver.endpoint.close(ErrorCode.SHUTTING_DOWN, "the node is stopping", linger=STOP_LINGER)
        self._wake()
        self._fail_connecting()
        self._wake_arrivals()
        try:
            with anyio.move_on_after(STOP_PATIENCE):
                await self._stopped.wait()
        finally:
            if not self._stopped.is_set():
                driver.endpoint.close(ErrorCode.SHUTTING_DOWN, "the node is stopping")
                self._cut_short = True
                self._wake()
                with anyio.CancelScope(shield=True):
                    await self._stopped.wait()
            await self._callbacks.finish(CALLBACK_PATIENCE)
        if self._crash is not None:
            crash, self._crash = self._crash, None
            raise crash

    async def _run(self, driver: Driver, sock: UdpSocket, pump: Pump) -> None:
        try:
            await pump.run()
        except Exception as error:
            logger.exception("the node failed and stops")
            self._crash = error
        finally:
            self._stopping = True
            sock.close()
            try:
                self._end_sessions(driver)
            finally:
                self._stopped.set()

    def _is_finished(self) -> bool:
        """Whether nothing is left to be moved: asked after each turn."""
        return self._stopping and (self._cut_short or (self._driver is not None and self._driver.endpoint.idle))

    def kick(self) -> None:
        """Let what a command has queued leave: at once, or with what follows at its heels."""
        driver = self._driver
        if self._pump is not None and driver is not None and driver.has_work and not driver.join():
            self._pump.submit()

    def _wake(self) -> None:
        if self._pump is not None:
            self._pump.wake()

    def _end_sessions(self, driver: Driver) -> None:
        """Nobody will move datagrams any more: let no one wait for what can't come."""
        driver.endpoint.abandon("the node was stopped")
        while (event := driver.endpoint.next_event()) is not None:
            self._on_event(event)
        self._fail_connecting()
        self._wake_arrivals()

    def _fail_connecting(self) -> None:
        for connecting in self._connecting.values():
            connecting.fail(SessionClosedError("the node was stopped"))

    def _started(self) -> tuple[Driver, UdpSocket]:
        if self._driver is None or self._socket is None:
            raise StateError("the node isn't started")
        return self._driver, self._socket

    # --- what it is

    @property
    def port(self) -> int:
        """The UDP port bound, also where 0 asked for any.

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
    def endpoint(self) -> Endpoint:
        """The sans-IO core under this node, for looking at; commands to it go unnoticed until :meth:`kick`."""
        return self._started()[0].endpoint

    def get_active_sessions(self) -> list[STTSession]:
        """All sessions that are established."""
        return [session for session in self._sessions.values() if session.alive]

    def statistics(self) -> dict[str, int]:
        """Counters by name: datagrams, sessions, refusals, resets."""
        return self.endpoint.statistics()

    # --- connecting

    async def connect(
        self,
        peer_address: tuple[Any, ...],
        peer_node_id: bytes | None = None,
        *,
        peer_key: bytes | None = None,
        timeout: float | None = None,
    ) -> STTSession:
        """A session with the node at ``peer_address``, ``(host, port)``; the host may be a name.

        ``peer_node_id`` says who must answer, ``peer_key`` (32 bytes) which identity it must prove.

        :raises ConnectionRefusedError: nothing listens there. ``ConnectionTimeoutError``: no answer in ``timeout``
            seconds (default 10). ``AuthenticationError``: it does not hold our seed; don't retry. ``PeerBusyError``:
            it declined for now. All are ``ConnectionError``.
        """
        driver, sock = self._started()
        address = sock.canonical(await self._resolve(_checked_address(peer_address)))
        if self._stopping:
            raise StateError("the node is stopped") from self._crash
        with translated():
            key = driver.endpoint.connect(
                address, now=driver.clock(), peer_node_id=peer_node_id, peer_key=peer_key, timeout=timeout
            )
        connecting = self._connecting[key] = _Connecting()
        self.kick()
        try:
            await connecting.done.wait()
        except BaseException:
            self._give_up(driver, key, connecting)
            raise
        finally:
            del self._connecting[key]
        if connecting.session is None:
            raise translate(connecting.failure or SessionClosedError("the node was stopped"))
        return connecting.session

    def _give_up(self, driver: Driver, key: SessionKey, connecting: _Connecting) -> None:
        """Nobody wants this session any more, whether or not it has been made in the meantime."""
        if connecting.session is not None:
            connecting.session.core.close()
        elif connecting.failure is None:
            driver.endpoint.session(key).close()
        self.kick()

    async def _resolve(self, address: tuple[Any, ...]) -> tuple[Any, ...]:
        host, port = address[0], address[1]
        if _is_numeric(host):
            await anyio.lowlevel.checkpoint()
            return address
        try:
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise ConnectError(f"can't resolve {host!r}: {error.strerror or error}") from error
        prefer = socket.AF_INET6 if ":" in self.bind_address else socket.AF_INET
        for family, _, _, _, resolved in found:
            if family == prefer:
                return tuple(resolved)
        return tuple(found[0][4])

    # --- accepting

    async def accept(self) -> STTSession:
        """The next session a peer made with us.

        :raises StateError: when the node stops.
        """
        await anyio.lowlevel.checkpoint()
        while not self._accepted:
            if self._stopping:
                raise StateError("the node is stopped") from self._crash
            if self._arrivals is None:
                self._arrivals = parking_lot()
            await self._arrivals.park()
        return self._accepted.popleft()

    async def incoming(self) -> AsyncIterator[STTSession]:
        """Sessions as peers make them; ends when the node stops."""
        while True:
            try:
                session = await self.accept()
            except StateError:
                return
            yield session

    async def serve(self, handler: Callable[[STTSession], Awaitable[Any]]) -> None:
        """Run ``handler(session)`` for each session until the node stops; a session is closed when its handler ends.

        A handler that raises is logged and ends its own session only.
        """
        async with anyio.create_task_group() as tasks:
            async for session in self.incoming():
                tasks.start_soon(self._handle, handler, session)

    async def _handle(self, handler: Callable[[STTSession], Awaitable[Any]], session: STTSession) -> None:
        try:
            async with session:
                await handler(session)
        except Exception as error:
            if _is_the_peers_doing(error):
                logger.info("%r ended under its handler: %s", session, error)
            else:
                logger.exception("the handler of %r failed", session)

    # --- telling

    def on_session_closed(self, callback: ClosedCallback) -> None:
        """Call ``callback(session_id, reason)`` for each session that ends, and for each peer that fails to
        authenticate (reason ``auth_failure``, an empty id). Sync or async; its exceptions are logged."""
        self._on_closed.append(callback)

    def on_session_established(self, callback: EstablishedCallback) -> None:
        """Call ``callback(session)`` for each session that is made, by either side. Sync or async."""
        self._on_established.append(callback)

    # --- events

    def _on_event(self, event: AnyEvent) -> None:
        if isinstance(event, OF_STREAMS):
            concerned = self._sessions.get(event.session_key)
            if concerned is not None:
                concerned.handle_event(event)
        elif isinstance(event, SessionEstablished):
            self._on_new_session(event)
        elif isinstance(event, HandshakeFailed):
            connecting = self._connecting.get(event.session_key)
            if connecting is not None:
                connecting.fail(event.error)
        elif isinstance(event, PeerRejected):
            logger.warning("refused a peer at %s: %s", event.path.address, event.error)
            if isinstance(event.error, AuthenticationError):
                self._callbacks.tell(self._on_closed, b"", str(CloseReason.AUTH_FAILURE))
        elif isinstance(event, Event):
            session = self._sessions.get(event.session_key)
            if session is None:
                return
            session.handle_event(event)
            if isinstance(event, SessionClosed):
                del self._sessions[event.session_key]
                logger.info("%r closed: %s (%s)", session, event.reason, event.message)
                self._callbacks.tell(self._on_closed, event.session_id, str(event.reason))

    def _on_new_session(self, event: SessionEstablished) -> None:
        session = STTSession(self, self.endpoint.session(event.session_key))
        self._sessions[event.session_key] = session
        logger.info("%r established with %s", session, event.path.address)
        if not event.initiated:
            self._arrive(session)
        elif (connecting := self._connecting.get(event.session_key)) is not None:
            connecting.session = session
            connecting.done.set()
        self._callbacks.tell(self._on_established, session)

    def _arrive(self, session: STTSession) -> None:
        if len(self._accepted) >= self.endpoint.config.max_sessions:
            # A node that never accepts must not collect what has long ended; there can't be as many alive.
            self._accepted = deque(waiting for waiting in self._accepted if waiting.alive)
        self._accepted.append(session)
        self._wake_arrivals()

    def _wake_arrivals(self) -> None:
        if self._arrivals is not None:
            self._arrivals.wake_all()


def _checked_address(address: object) -> tuple[Any, ...]:
    if isinstance(address, tuple | list) and len(address) in (2, 4):
        host, port, *_ = address
        if isinstance(host, str) and isinstance(port, int):
            return tuple(address)
    raise ConfigurationError(f"peer_address is {address!r}, expected (host, port): a string and a number")


def _is_the_peers_doing(error: BaseException) -> bool:
    """Whether a handler ended because its peer went away or reset a stream, in whatever groups that came."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_the_peers_doing, error.exceptions))
    return isinstance(error, SessionClosedError | StreamResetError)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
