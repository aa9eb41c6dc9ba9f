"""Streams of a session as trio's own kinds: ``Channel[bytes]`` for messages, ``HalfCloseableStream`` for bytes.

Rule: here are only the waits. Every wait is cancellable and loses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from stt_backends.adapter.stream import BaseByteStream, BaseMessageStream, BaseStream, as_bytes, as_message
from stt_core.errors import STTError
from stt_trio.errors import ERRORS, Guard

if TYPE_CHECKING:
    from stt_trio.session import STTSession

RECEIVE_SIZE = 65_536
"""Bytes a receive returns at most where nobody says."""


class _Stream(BaseStream):
    """The waits of both kinds."""

    errors = ERRORS
    session: STTSession

    def __init__(self, *details: Any) -> None:
        super().__init__(*details)
        self._sending = Guard("sending on this stream")
        self._receiving = Guard("receiving from this stream")

    async def _receive(self, max_bytes: int) -> bytes:
        with self._receiving:
            # Each call is a checkpoint, and one is enough: where nothing waits to be read, parking is it.
            if self._is_quiet():
                await self._news.park()
            else:
                await trio.lowlevel.checkpoint()
            try:
                while (data := self._read(max_bytes)) is None:
                    await self._news.park()
            finally:
                self._kick()  # reading gives the peer credit, and finding the end room for another stream
        return data

    async def _send(self, data: bytes | memoryview, timeout: float | None) -> None:
        """Both kinds' ``send``: accepted without a ``timeout``, acknowledged within one."""
        if timeout is not None:
            with trio.move_on_after(timeout):
                await self._send(data, None)
                await self.wait_acknowledged()
                return
            raise self._not_in_time(len(data), timeout)
        with self._sending:
            await trio.lowlevel.checkpoint_if_cancelled()
            since = self._news.wakes
            try:
                rest = self._offer(data)
            except STTError:  # who tries again and again must not keep all others from their turn
                await trio.lowlevel.checkpoint()
                raise
            if rest is None:
                # Others' turn comes after what is said has left, or is about to: the peer can answer meanwhile.
                await trio.lowlevel.cancel_shielded_checkpoint()
            while rest is not None:
                await self._news.park(since)
                since = self._news.wakes
                rest = self._offer(rest)

    async def wait_acknowledged(self) -> None:
        """Return once everything sent so far is in the peer's hands (its receive buffer, not its application).

        :raises StreamResetError: if the peer stops the stream before; ``StreamClosedError`` if this side resets it,
            ``SessionClosedError`` if the session ends.
        """
        await trio.lowlevel.checkpoint()
        offset = self._watch()
        while not self._has_arrived(offset):
            await self._news.park()

    async def send_eof(self) -> None:
        """End the sending half: the peer reads what was sent, then the end. Receiving goes on. Again: nothing.

        :raises trio.BusyResourceError: if another task is sending on this stream.
        """
        with self._sending:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._check_sending()
            self._finish()  # with what was sent just now: who has read it may be about to close
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def aclose(self) -> None:
        """End both halves: what was sent still arrives, what wasn't read is refused."""
        self._close()
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """The chapter's name of :meth:`aclose`."""
        await self.aclose()


class MessageStream(BaseMessageStream, _Stream, trio.abc.Channel[bytes]):
    """One ``send`` is one ``receive``, whatever the network did between."""

    async def send(self, value: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Send one message.

        Without ``timeout`` this returns once the message is accepted (under back-pressure, when there is room), with
        one, in seconds, once it is acknowledged. An accepted message is not withdrawn by cancellation or timeout.

        :raises SendTimeoutError: not acknowledged in time.
        :raises MessageTooLargeError: above ``max_message``; nothing was sent.
        :raises StreamClosedError: if this side has closed the stream, or ``SessionClosedError`` if the session ended.
        :raises trio.BusyResourceError: if another task is sending on this stream.
        """
        await self._send(as_message(value), timeout)

    async def receive(self) -> bytes:
        """The next message.

        :raises trio.EndOfChannel: when the peer has ended the stream and every message was read.
        :raises StreamResetError: if the peer abandoned it, ``SessionClosedError`` if the session ended.
        :raises trio.BusyResourceError: if another task is receiving on this stream.
        """
        return await self._receive(0)


class ByteStream(BaseByteStream, _Stream, trio.abc.HalfCloseableStream):
    """Bytes without boundaries: files, tunnels, and whatever speaks over ``trio.abc.HalfCloseableStream``."""

    async def send(self, data: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Send all bytes; returns when the last is accepted, or with ``timeout`` (seconds) when it is acknowledged.

        When cancelled, the bytes accepted so far are sent and the rest is not.

        :raises SendTimeoutError: not acknowledged in time; otherwise as :meth:`MessageStream.send`.
        """
        await self._send(as_bytes(data), timeout)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """:meth:`send`, as trio calls it."""
        await self._send(as_bytes(data), None)

    async def wait_send_all_might_not_block(self) -> None:
        """Until there is room for at least one byte.

        :raises trio.BusyResourceError: if another task is sending on this stream; otherwise as :meth:`send`.
        """
        with self._sending:
            await trio.lowlevel.checkpoint()
            while not self._has_room():
                await self._news.park()

    async def receive(self, max_bytes: int = RECEIVE_SIZE) -> bytes:
        """At least one and at most ``max_bytes`` bytes, in order; never ``b""``.

        :raises ValueError: if ``max_bytes`` is less than 1.
        :raises trio.EndOfChannel: when the peer has ended the stream and everything was read; :meth:`receive_some`
            returns ``b""`` there.
        :raises StreamResetError: if the peer abandoned it, ``SessionClosedError`` if the session ended.
        :raises trio.BusyResourceError: if another task is receiving on this stream.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}, expected at least 1")
        return await self._receive(max_bytes)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At least one and at most ``max_bytes`` bytes, in order; ``b""`` at the end. Otherwise :meth:`receive`."""
        if max_bytes is None:
            max_bytes = RECEIVE_SIZE
        elif not isinstance(max_bytes, int):
            raise TypeError(f"max_bytes is {max_bytes!r}, expected a number of bytes")
        try:
            return await self.receive(max_bytes)
        except trio.EndOfChannel:
            return b""
