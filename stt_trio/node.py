"""STTNode: what :class:`BaseNode` knows, on trio: the task that keeps it going, and the waits."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self

import trio

from stt_backends.adapter.broadcast import Broadcast, Delivery
from stt_backends.adapter.connecting import Connecting, Destination, address_for, unresolved
from stt_backends.adapter.node import (
    CALLBACK_PATIENCE,
    STOP_PATIENCE,
    BaseNode,
)
from stt_backends.adapter.pump import Pump
from stt_backends.adapter.racing import Found
from stt_backends.adapter.session import BaseSession
from stt_backends.driver import Driver
from stt_core.backoff import FIRST_DELAY, MAX_DELAY
from stt_core.errors import StateError
from stt_core.session import Session
from stt_trio.callbacks import Callbacks
from stt_trio.errors import ERRORS
from stt_trio.listeners import Listener
from stt_trio.parking import ParkingLot
from stt_trio.pump import TrioPump
from stt_trio.reconnecting import Reconnecting
from stt_trio.session import STTSession


class _Started:
    """What :meth:`STTNode.start` returns: the node listens already, awaiting it changes nothing."""

    def __init__(self, node: STTNode) -> None:
        self._node = node

    def __await__(self) -> Generator[Any, Any, STTNode]:
        return self._pause().__await__()

    async def _pause(self) -> STTNode:
        await trio.lowlevel.checkpoint()
        return self._node


class STTNode(BaseNode[STTSession]):
    """A node that connects to others and is connected to, by UDP, WebSocket, or both; see :class:`BaseNode`.

    Lead with ``async with STTNode(...) as node``; :meth:`start` and :meth:`stop` work outside of one too. Settings
    not listed in the signature's first lines are :class:`~stt_core.config.EndpointConfig`'s and in its units.

    :raises ConfigurationError: on :meth:`start` or entering, naming the setting, its value and what it may be.
    """

    errors = ERRORS
    _callbacks: Callbacks

    def make_parking_lot(self) -> ParkingLot:
        """See :class:`BaseNode`."""
        return ParkingLot()

    def _make_callbacks(self) -> Callbacks:
        return Callbacks()

    def _make_session(self, core: Session) -> STTSession:
        return STTSession(self, core)

    def _launch(self, driver: Driver) -> Pump:
        pump = TrioPump(driver, self._is_finished)
        trio.lowlevel.spawn_system_task(self._run, pump)
        return pump

    async def _run(self, pump: Pump) -> None:
        crash: Exception | None = None
        try:
            await pump.run()
        except Exception as error:  # noqa: BLE001 - it is told to whoever stops the node
            crash = error
        finally:
            self._end(crash)

    # --- starting and stopping

    def start(self, server_mode: bool | None = None) -> _Started:
        """Bind the socket and begin to serve, at once; the result may be awaited or not.

        With ``server_mode=False`` nobody can connect to this node; without, the setting ``accept`` says so (the default
        is that they can).

        :raises ConfigurationError: if a setting is wrong or there is no seed; ``OSError`` if the port is taken.
        """
        self._start(server_mode)
        return _Started(self)

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()  # before: who is cancelled in here is not asked to stop the node
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close all sessions gracefully, then the socket; bounded in time. Does nothing a second time.

        Cancelled (or inside a cancelled scope) it still closes the socket, without waiting for the peers.
        """
        if not self._begin_stop():
            await trio.lowlevel.checkpoint()
            return
        try:
            with trio.move_on_after(STOP_PATIENCE):
                await self._wait_stopped()
        finally:
            self._hurry()
            with trio.CancelScope(shield=True):
                await self._wait_stopped()
            await self._callbacks.finish(CALLBACK_PATIENCE)
        self._raise_crash()

    async def sleep_unless_stopped(self, seconds: float) -> None:
        """Wait so long, or until the node is stopped.

        :raises StateError: before the node is started.
        """
        self._started()
        with trio.move_on_after(seconds):
            while not self._stopping:
                await self._parked()
        await trio.lowlevel.checkpoint()

    async def _wait_stopped(self) -> None:
        while not self._stopped and self._news is not None:
            await self._news.park()

    # --- connecting

    async def connect(
        self,
        peer_address: tuple[Any, ...] | str,
        peer_node_id: bytes | None = None,
        *,
        peer_key: bytes | None = None,
        timeout: float | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> STTSession:
        """A session with the node at ``peer_address``: ``(host, port)`` by UDP, or a ``ws://`` or ``wss://`` URL.

        The host may be a name. ``peer_node_id`` says who must answer, ``peer_key`` (32 bytes) which identity it must
        prove. ``ssl_context`` is for ``wss``, by default the system's authorities; ``proxy`` for a URL, by default the
        node's.

        :raises ConnectionRefusedError: nothing listens there. ``ConnectionTimeoutError``: no answer in ``timeout``
            seconds (default 10). ``AuthenticationError``: it does not hold our seed; don't retry. ``PeerBusyError``:
            it declined for now. ``ConnectError``: a proxy, TLS or a web server refused, it says which and why. All
            are ``ConnectionError``.
        """
        destination = self.destination(peer_address, ssl_context, proxy)
        found = await self.resolve(destination)
        return await self._finish(self._begin_connect(destination, found, peer_node_id, peer_key, timeout))

    async def resume(
        self,
        token: bytes | None,
        peer_address: tuple[Any, ...] | str,
        peer_node_id: bytes | None = None,
        *,
        transport: str = "udp",
        peer_key: bytes | None = None,
        timeout: float | None = None,
        takeover: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> STTSession:
        """Go on with the session whose ``resumption_token`` this is, with its peer at ``peer_address`` now.

        Its ``resumed`` says how much goes on: ``"full"``, then it is the session that was there, and whoever waits on
        its streams just goes on; ``"identity"`` or ``"no"``, then it is a new one. Without a token, the newest detached
        session of this node's identity (``node_seed``), with ``takeover`` also one in use elsewhere. The address
        is as :meth:`connect` takes it; with ``transport="websocket"``, ``(host, port)`` stands for its URL.

        :raises ConfigurationError: if the token is damaged; otherwise as :meth:`connect`.
        """
        address = address_for(peer_address, transport)
        destination = self.destination(address, ssl_context, proxy)
        found = await self.resolve(destination)
        return await self._finish(
            self._begin_resume(token, destination, found, peer_node_id, peer_key, timeout, takeover=takeover)
        )

    async def _finish(self, connecting: Connecting[STTSession]) -> STTSession:
        try:
            while not connecting.done:
                await connecting.news.park()
        except BaseException:
            self._dialer.give_up(connecting)
            raise
        finally:
            self._dialer.end(connecting)
        return self._connected(connecting)

    async def resolve(self, destination: Destination) -> Found:
        """What the destination's host is, by number.

        :raises ConnectError: if nobody knows.
        """
        if destination.numeric is not None:
            await trio.lowlevel.checkpoint()
            return destination.numeric
        try:
            return await trio.socket.getaddrinfo(destination.host, destination.port, type=destination.kind)
        except OSError as error:
            raise unresolved(destination.host, error) from error

    def reconnecting(
        self,
        peer_address: tuple[Any, ...] | str,
        peer_node_id: bytes | None = None,
        *,
        peer_key: bytes | None = None,
        timeout: float | None = None,
        first_delay: float = FIRST_DELAY,
        max_delay: float = MAX_DELAY,
    ) -> Reconnecting:
        """Sessions with one peer, each made when the last is over: ``async for session in node.reconnecting(…)``.

        Where connecting fails it is tried again after ``first_delay`` seconds, doubled up to ``max_delay`` and lessened
        by up to a half at random. Iterating raises ``AuthenticationError`` and ``VersionError`` at once, and ends when
        the node stops. A session that is still open when the loop comes round again is closed.

        :raises ConfigurationError: unless 0 < ``first_delay`` <= ``max_delay``.
        """
        connect = partial(self.connect, peer_address, peer_node_id, peer_key=peer_key, timeout=timeout)
        return Reconnecting(self, connect, peer_address, first_delay, max_delay)

    # --- accepting

    async def accept(self) -> STTSession:
        """The next session a peer made with us.

        :raises StateError: when the node stops, or before it is started.
        """
        await trio.lowlevel.checkpoint()
        while (session := self._next_accepted()) is None:
            await self._parked()
        return session

    async def _parked(self) -> None:
        if self._news is not None:
            await self._news.park()

    def listener(self) -> Listener[STTSession]:
        """The sessions peers make, for :func:`trio.serve_listeners`; :meth:`serve` lives through a crash, too."""
        return Listener(self.accept)

    async def incoming(self) -> AsyncIterator[STTSession]:
        """Sessions as peers make them; ends when the node stops.

        :raises StateError: before the node is started.
        """
        self._started()
        while True:
            try:
                session = await self.accept()
            except StateError:
                return
            yield session

    async def serve(
        self,
        handler: Callable[[STTSession], Awaitable[Any]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run ``handler(session)`` for each session until the node stops; a session is closed when its handler ends.

        A handler that raises is logged and ends its own session only. With ``nursery.start`` this returns at once.
        """
        self._started()
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for session in self.incoming():
                nursery.start_soon(self._handle, handler, session)

    # --- to many

    async def send_to_all(self, data: bytes, stream_id: int = 1, *, policy: str = "drop") -> dict[bytes, Delivery]:
        """Send one message to every active session, on its shared stream ``stream_id``; a result by session id.

        Each session has a queue of its own (256 messages, 4 MiB) for what its peer has no room for. Where that is full,
        ``policy`` says what becomes of the message there: ``"drop"``, ``"close"`` the session, or ``"wait"`` for room.

        :raises ConfigurationError: on another ``policy``.
        """
        await trio.lowlevel.checkpoint()
        return await self._deliver(self._broadcast(None, data, stream_id, policy))

    async def send_to_sessions(
        self, session_ids: Iterable[bytes], data: bytes, stream_id: int = 1, *, policy: str = "drop"
    ) -> dict[bytes, Delivery]:
        """:meth:`send_to_all`, to the sessions with these ids; one that isn't active has the result ``failed``."""
        await trio.lowlevel.checkpoint()
        return await self._deliver(self._broadcast(session_ids, data, stream_id, policy))

    async def _deliver(self, broadcast: Broadcast) -> dict[bytes, Delivery]:
        if broadcast.waiting:
            async with trio.open_nursery() as nursery:
                for session in broadcast.waiting:
                    nursery.start_soon(self._deliver_to, broadcast, session)
        return broadcast.results

    async def _deliver_to(self, broadcast: Broadcast, session: BaseSession[Any, Any]) -> None:
        news = session.get_stream(broadcast.stream_id).news
        since = news.wakes
        while not broadcast.try_session(session):
            await news.park(since)
            since = news.wakes

    async def _handle(self, handler: Callable[[STTSession], Awaitable[Any]], session: STTSession) -> None:
        try:
            async with session:
                await handler(session)
        except Exception as error:  # noqa: BLE001 - logged
            self._handler_failed(session, error)
