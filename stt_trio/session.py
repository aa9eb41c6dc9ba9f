"""A session as an application holds it: what :class:`BaseSession` knows, and the waits."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import trio

from stt_backends.adapter.session import CLOSE_LINGER, BaseSession
from stt_core.errors import ErrorCode, StreamLimitError
from stt_trio.datagrams import DatagramChannel
from stt_trio.errors import ERRORS
from stt_trio.listeners import Listener
from stt_trio.streams import ByteStream, MessageStream

if TYPE_CHECKING:
    from stt_trio.node import STTNode


class STTSession(BaseSession[MessageStream, ByteStream], trio.abc.AsyncResource):
    """An encrypted, authenticated channel to one peer. Use as ``async with`` to have it closed."""

    errors = ERRORS
    _message_stream = MessageStream
    _byte_stream = ByteStream
    node: STTNode

    # --- streams

    async def open_stream_when_possible(
        self,
        *,
        purpose: str = "",
        priority: int = 3,
        mode: Literal["messages", "bytes"] = "messages",
        max_frame_size: int | None = None,
    ) -> MessageStream | ByteStream:
        """:meth:`open_stream`, waiting where the peer's limit on concurrent streams is reached."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.open_stream(purpose=purpose, priority=priority, mode=mode, max_frame_size=max_frame_size)
            except StreamLimitError:
                await self._news.park()

    async def accept_stream(self) -> MessageStream | ByteStream:
        """The next stream the peer opened; ``purpose``, ``priority`` and ``mode`` are as it said.

        :raises SessionClosedError: when the session is over and none waits.
        """
        await trio.lowlevel.checkpoint()
        while (stream := self._next_stream()) is None:
            await self._news.park()
        return stream

    def listener(self) -> Listener[MessageStream | ByteStream]:
        """The streams the peer opens, for :func:`trio.serve_listeners`."""
        return Listener(self.accept_stream)

    # --- datagrams

    def datagrams(self) -> DatagramChannel:
        """The session's unreliable messages as a channel of their own."""
        return DatagramChannel(self)

    async def send_datagram(self, data: bytes) -> bool:
        """Send an unreliable, unordered message (RFC 9221); False if it was dropped because the queue is full.

        :raises MessageTooLargeError: above :attr:`max_datagram_size`.
        """
        await trio.lowlevel.checkpoint()
        return self.send_datagram_now(data)

    async def receive_datagram(self) -> bytes:
        """The next unreliable message.

        :raises SessionClosedError: when the session is over and none waits.
        """
        await trio.lowlevel.checkpoint()
        while (data := self.next_datagram()) is None:
            await self._news.park()
        return data

    # --- where it is

    async def migrate(
        self,
        peer_address: tuple[Any, ...] | str,
        *,
        timeout: float | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        """Go on at another address of the peer: ``(host, port)`` by UDP, or a ``ws://`` or ``wss://`` URL.

        Returns once the peer has answered there, within ``timeout`` seconds (default 10), and this side sends there.
        Streams go on meanwhile, and no byte is lost or comes twice. Whatever is raised, or if this is cancelled, the
        session stays where it was. Of two at once the later counts. The address in use says that this side's own has
        changed. ``ssl_context`` and ``proxy`` are as for :meth:`STTNode.connect`.

        :raises ConnectionTimeoutError: no answer. ``ConnectError``: no connection, or another ``migrate`` came between.
            ``SessionClosedError``: the session is over. All are ``ConnectionError``.
        :raises StateError: if the session is detached.
        """
        destination = self.node.destination(peer_address, ssl_context, proxy)
        moving = self._begin_migrate(destination, await self.node.resolve(destination), timeout)
        try:
            with trio.move_on_after(moving.patience):
                while not moving.done:
                    await moving.news.park()
        finally:
            self._end_migrate(moving)
        self._migrated(moving)

    async def allow_fallback(
        self, url: str, *, ssl_context: ssl.SSLContext | None = None, proxy: str | None = None
    ) -> None:
        """Where UDP falls silent, go on over a WebSocket at ``url`` until it answers again; and where a connection
        breaks, open another there.

        A node with ``transport="both"`` does so by itself, at its peer's same port number; and a session that connected
        to a URL, or migrated to one, at that URL.

        :raises ConfigurationError: if it is no ``ws://`` or ``wss://`` URL. ``ConnectError``: its host is unknown.
        """
        destination = self.node.destination(url, ssl_context, proxy)
        self.node.allow_fallback(self, destination, await self.node.resolve(destination))

    # --- the end

    async def wait_closed(self) -> None:
        """Return when the session is over, however it ended."""
        if self._over:
            await trio.lowlevel.checkpoint()
            return
        if self._end is None:
            self._end = self.node.make_parking_lot()
        await self._end.park()

    async def close(self, code: int = ErrorCode.NO_ERROR, reason: str = "", *, linger: float = CLOSE_LINGER) -> None:
        """Close gracefully: wait up to ``linger`` seconds for what was sent to be acknowledged, then say goodbye.

        Acknowledged means in the peer's receive buffer; only the peer's application can say that it was used.
        Cancelling this aborts: the goodbye leaves at once and nobody waits for its answer.
        """
        self._close(code, reason, linger)
        try:
            await self.wait_closed()
        except BaseException:
            self._close(code, reason)
            raise

    async def aclose(self) -> None:
        """:meth:`close`, under the name that trio's helpers look for."""
        await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            self._fail(kind)
