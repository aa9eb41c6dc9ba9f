"""Streams of a session as anyio's own kinds: ``ObjectStream[bytes]`` for messages, ``ByteStream`` for bytes.

Rule: here are only the waits. Every wait is cancellable and loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel
from anyio import ResourceGuard

from stt_anyio.attributes import of_stream
from stt_anyio.errors import ERRORS
from stt_anyio.parking import on_trio
from stt_backends.adapter.stream import BaseByteStream, BaseMessageStream, BaseStream, as_bytes, as_message
from stt_core.errors import STTError

if TYPE_CHECKING:
    from stt_anyio.session import STTSession


BURST = 128 * 1024
"""What one stream may send and receive on asyncio before everybody else gets a turn, in bytes: a pass of the event loop
for each small message costs as much as all the rest that is done for it."""
CALL = 1024
"""Bytes that a call counts for, beside those it moves."""


class _Stream(BaseStream):
    """The waits of both kinds.

    Each call notices that it was cancelled. On trio each is a schedule point, too, as trio promises of all that is
    async; on asyncio, whose own streams promise nothing of the kind, one in each :data:`BURST` is.
    """

    errors = ERRORS
    session: STTSession

    def __init__(self, *details: Any) -> None:
        super().__init__(*details)
        self._sending = ResourceGuard("sending to")
        self._receiving = ResourceGuard("receiving from")
        self._burst = 0 if on_trio() else BURST
        self._since_turn = 0

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """See :class:`~stt_anyio.STTAttribute`."""
        return of_stream(self)

    async def _receive(self, max_bytes: int) -> bytes:
        with self._receiving:
            # One checkpoint is enough: where nothing waits to be read, parking is it.
            if self._is_quiet():
                self._since_turn = 0
                await self._news.park()
            elif self._since_turn >= self._burst:
                self._since_turn = 0
                await anyio.lowlevel.checkpoint()
            else:
                await anyio.lowlevel.checkpoint_if_cancelled()
            self._since_turn += CALL
            try:
                while (data := self._read(max_bytes)) is None:
                    await self._news.park()
            finally:
                self._kick()  # reading gives the peer credit, and finding the end room for another stream
            self._since_turn += len(data)
        return data

    async def _send(self, data: bytes | memoryview, timeout: float | None) -> None:
        """Both kinds' ``send``: accepted without a ``timeout``, acknowledged within one."""
        if timeout is not None:
            with anyio.move_on_after(timeout):
                await self._send(data, None)
                await self.wait_acknowledged()
                return
            raise self._not_in_time(len(data), timeout)
        await anyio.lowlevel.checkpoint_if_cancelled()
        with self._sending:
            since = self._news.wakes
            self._since_turn += CALL + len(data)
            try:
                rest = self._offer(data)
            except STTError:  # who tries again and again must not keep all others from their turn
                await anyio.lowlevel.checkpoint()
                raise
            if rest is None and self._since_turn >= self._burst:
                # Others' turn comes after what is said has left, or is about to: the peer can answer meanwhile.
                self._since_turn = 0
                self._push()
                await anyio.lowlevel.cancel_shielded_checkpoint()
            while rest is not None:
                await self._news.park(since)
                since = self._news.wakes
                rest = self._offer(rest)

    async def wait_acknowledged(self) -> None:
        """Return once everything sent so far is in the peer's hands (its receive buffer, not its application).

        :raises StreamResetError: if the peer stops the stream before; ``StreamClosedError`` if this side resets it,
            ``SessionClosedError`` if the session ends.
        """
        await anyio.lowlevel.checkpoint()
        offset = self._watch()
        while not self._has_arrived(offset):
            await self._news.park()

    async def send_eof(self) -> None:
        """End the sending half: the peer reads what was sent, then the end. Receiving goes on. Again: nothing."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._check_sending()
        self._finish()  # with what was sent just now: who has read it may be about to close
        await anyio.lowlevel.cancel_shielded_checkpoint()

    async def aclose(self) -> None:
        """End both halves: what was sent still arrives, what wasn't read is refused."""
        self._close()
        await anyio.lowlevel.checkpoint()

    async def close(self) -> None:
        """The chapter's name of :meth:`aclose`."""
        await self.aclose()


class MessageStream(BaseMessageStream, _Stream, anyio.abc.ObjectStream[bytes]):
    """One ``send`` is one ``receive``, whatever the network did between."""

    async def send(self, item: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Send one message.

        Without ``timeout`` this returns once the message is accepted (under back-pressure, when there is room), with
        one, in seconds, once it is acknowledged. An accepted message is not withdrawn by cancellation or timeout.

        :raises SendTimeoutError: not acknowledged in time.
        :raises MessageTooLargeError: above ``max_message``; nothing was sent.
        :raises StreamClosedError: if this side has closed the stream, or ``SessionClosedError`` if the session ended.
        :raises anyio.BusyResourceError: if another task is sending on this stream.
        """
        await self._send(as_message(item), timeout)

    async def receive(self) -> bytes:
        """The next message.

        :raises anyio.EndOfStream: when the peer has ended the stream and every message was read.
        :raises StreamResetError: if the peer abandoned it, ``SessionClosedError`` if the session ended.
        :raises anyio.BusyResourceError: if another task is receiving on this stream.
        """
        return await self._receive(0)


class ByteStream(BaseByteStream, _Stream, anyio.abc.ByteStream):
    """Bytes without boundaries: files, tunnels, and whatever speaks over ``anyio.abc.ByteStream``."""

    async def send(self, item: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Send all bytes; returns when the last is accepted, or with ``timeout`` (seconds) when it is acknowledged.

        When cancelled, the bytes accepted so far are sent and the rest is not.

        :raises SendTimeoutError: not acknowledged in time; otherwise as :meth:`MessageStream.send`.
        """
        await self._send(as_bytes(item), timeout)

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """At least one and at most ``max_bytes`` bytes, in order; never ``b""``.

        :raises ValueError: if ``max_bytes`` is less than 1.
        :raises anyio.EndOfStream: when the peer has ended the stream and everything was read.
        :raises StreamResetError: if the peer abandoned it, ``SessionClosedError`` if the session ended.
        :raises anyio.BusyResourceError: if another task is receiving on this stream.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}, expected at least 1")
        return await self._receive(max_bytes)
