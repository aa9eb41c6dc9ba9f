"""Streams of a session as anyio's own kinds: ``ObjectStream[bytes]`` for messages, ``ByteStream`` for bytes.

Rule: everything a stream *is* lives in the core; here are only the waits. Every wait is cancellable and loses nothing.
"""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import anyio
import anyio.abc
import anyio.lowlevel
from anyio import ResourceGuard

from stt_anyio.errors import StreamClosedError, StreamResetError, translate, translated
from stt_anyio.parking import parking_lot
from stt_core.errors import ErrorCode, SendTimeoutError, StreamError, STTError
from stt_core.errors import StreamResetError as CoreStreamResetError
from stt_core.events import Event, StreamAcknowledged, StreamReadable, StreamStopped
from stt_core.state import SendState
from stt_core.types import StreamMode

if TYPE_CHECKING:
    from stt_anyio.session import STTSession


_RESET: Final = (SendState.RESET_SENT, SendState.RESET_ACKED)


class _Stream:
    """What both kinds share: identity, waiting, half-close and the end."""

    def __init__(self, session: STTSession, stream_id: int, mode: StreamMode, purpose: str, priority: int) -> None:
        self.session = session
        self.stream_id = stream_id
        self.mode = mode
        self.purpose = purpose
        self.priority = priority
        self._closed = False
        self._abandoned = False
        self._finished = False
        self._ended = False
        self._broken_by: int | None = None
        self._stopped_by: int | None = None
        self._acknowledged = 0
        self._core = session.core
        self._kick = session.node.kick
        self._readable = True  # perhaps: only a look that finds nothing knows
        self._quiet = -1  # how often there was news when there was nothing to read; as often means: still nothing
        self._news = parking_lot()
        self._sending = ResourceGuard("sending to")
        self._receiving = ResourceGuard("receiving from")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.stream_id} {self.purpose!r} of {self.session!r}>"

    # --- for the session

    def refresh(self) -> None:
        """Take over what both ends agreed on, where both opened the stream."""
        info = self._core.stream_info(self.stream_id)
        self.purpose, self.priority = info.purpose, info.priority

    def handle_event(self, event: Event) -> None:
        """Note what the core reports about this stream, and wake those who wait for it."""
        if isinstance(event, StreamAcknowledged):
            self._acknowledged = max(self._acknowledged, event.offset)
        elif isinstance(event, StreamReadable):
            self._readable = True
        elif isinstance(event, StreamStopped):
            self._stopped_by = event.code
        self.wake()

    def wake(self) -> None:
        """Let every wait on this stream look again."""
        self._news.wake_all()

    # --- both halves

    def _check_open(self) -> None:
        if self._closed:
            raise StreamClosedError(f"stream {self.stream_id} is closed on this side")

    def _check_sending(self) -> None:
        self._check_open()
        self._check_not_stopped()

    def _check_not_stopped(self) -> None:
        if self._stopped_by is not None:
            raise StreamResetError(
                f"the peer stopped stream {self.stream_id} with code {self._stopped_by}", code=self._stopped_by
            )

    def _take(self, max_bytes: int) -> bytes | None:
        """What the core has, or None."""
        raise AssertionError("each kind of stream reads in its own way")

    def _read(self, max_bytes: int) -> bytes | None:
        """What there is; the end and a reset are told as often as they are asked for."""
        self._check_open()
        if self._broken_by is not None:
            raise StreamResetError(
                f"stream {self.stream_id} was reset with code {self._broken_by}", code=self._broken_by
            )
        if self._ended:
            raise anyio.EndOfStream
        core = self._core
        try:
            data = self._take(max_bytes)
            self._readable = data is not None and core.is_readable(self.stream_id)
            self._ended = data is None and core.at_end(self.stream_id)
        except STTError as error:
            if isinstance(error, CoreStreamResetError):
                self._broken_by = error.code
            raise translate(error) from error.__cause__
        if self._ended:
            raise anyio.EndOfStream
        if data is None:
            self.session.raise_if_over()
        if not self._readable and self.session.alive:  # there will be news, if only of the session's end
            self._quiet = self._news.wakes
        return data

    async def _receive(self, max_bytes: int) -> bytes:
        with self._receiving:
            # Each call is a checkpoint, and one is enough: where nothing waits to be read, parking is it.
            if self._readable or self._ended or self._closed or self._broken_by is not None:
                await anyio.lowlevel.checkpoint()
            elif self._quiet == self._news.wakes:
                await self._news.park()
            try:
                while (data := self._read(max_bytes)) is None:
                    await self._news.park()
            finally:
                self._kick()  # reading gives the peer credit, and finding the end room for another stream
        return data

    async def send_eof(self) -> None:
        """End the sending half: the peer reads what was sent, then the end. Receiving goes on."""
        await anyio.lowlevel.checkpoint()
        self._check_sending()
        self._finish()

    def _finish(self) -> None:
        if not self._finished:
            with translated():
                self._core.finish(self.stream_id)
            self._finished = True
            self._kick()

    def reset(self, code: int = ErrorCode.APPLICATION) -> None:
        """Abandon both halves at once: unsent data is dropped, the peer's calls fail with ``code``."""
        if self._closed:
            return
        self._closed = self._abandoned = True
        if self.session.alive:
            # Either half may be over already: there is nothing to abandon then.
            with suppress(StreamError):
                self._core.reset_stream(self.stream_id, code)
            with suppress(StreamError):
                self._core.stop_stream(self.stream_id, code)
            self._kick()
        self.wake()

    async def aclose(self) -> None:
        """End both halves: what was sent still arrives, what wasn't read is refused."""
        if not self._closed:
            if self.session.alive:
                with suppress(StreamError):
                    self._finish()
                with suppress(StreamError):
                    if not self._core.at_end(self.stream_id):
                        self._core.stop_stream(self.stream_id, ErrorCode.NO_ERROR)
                self._kick()
            self._closed = True
            self.wake()
        await anyio.lowlevel.checkpoint()

    async def close(self) -> None:
        """The chapter's name of :meth:`aclose`."""
        await self.aclose()

    def _give(self, data: bytes | memoryview) -> bytes | memoryview | None:
        """Let the core accept of ``data`` what it will; what is left then, None where nothing is."""
        raise AssertionError("each kind of stream sends in its own way")

    async def _send(self, data: bytes | memoryview, timeout: float | None) -> None:
        """Both kinds' ``send``: accepted without a ``timeout``, acknowledged within one."""
        if timeout is not None:
            with anyio.move_on_after(timeout):
                await self._send(data, None)
                await self.wait_acknowledged()
                return
            raise SendTimeoutError(
                f"no acknowledgement of {len(data)} bytes on stream {self.stream_id} within {timeout:g} s; what was "
                "accepted may still arrive"
            )
        await anyio.lowlevel.checkpoint()
        rest: bytes | memoryview = data
        with self._sending:
            while True:
                self._check_sending()
                since = self._news.wakes
                try:
                    left = self._give(rest)
                except STTError as error:
                    raise translate(error) from error.__cause__
                self._kick()
                if left is None:
                    return
                rest = left
                await self._news.park(since)

    async def wait_acknowledged(self) -> None:
        """Return once everything sent so far is in the peer's hands (its receive buffer, not its application).

        :raises StreamResetError: if the peer stops the stream before; ``StreamClosedError`` if this side resets it,
            ``SessionClosedError`` if the session ends.
        """
        await anyio.lowlevel.checkpoint()
        self._check_not_abandoned()
        try:
            with translated():
                offset = self._core.watch(self.stream_id)
        except StreamClosedError:
            return  # both halves are done: the peer has it all
        self._kick()
        while self._acknowledged < offset:
            self._check_not_abandoned()
            self.session.raise_if_over()
            await self._news.park()

    def _check_not_abandoned(self) -> None:
        """Raise where not all that was sent will arrive."""
        if self._abandoned:
            raise StreamClosedError(f"this side reset stream {self.stream_id}")
        self._check_not_stopped()
        with suppress(StreamClosedError), translated():
            if self._core.stream_info(self.stream_id).send_state in _RESET:
                raise StreamResetError(f"stream {self.stream_id} was reset: the peer broke its rules")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class MessageStream(_Stream, anyio.abc.ObjectStream[bytes]):
    """One ``send`` is one ``receive``, whatever the network did between."""

    async def send(self, item: bytes, timeout: float | None = None) -> None:
        """Send one message.

        Without ``timeout`` this returns once the message is accepted (under back-pressure, when there is room), with
        one, in seconds, once it is acknowledged. An accepted message is not withdrawn by cancellation or timeout.

        :raises SendTimeoutError: not acknowledged in time.
        :raises MessageTooLargeError: above ``max_message``; nothing was sent.
        :raises StreamClosedError: if this side has closed the stream, or ``SessionClosedError`` if the session ended.
        :raises anyio.BusyResourceError: if another task is sending on this stream.
        """
        message = item if type(item) is bytes else bytes(memoryview(item))  # bytes(5) would be five zeros
        await self._send(message, timeout)

    def _give(self, data: bytes | memoryview) -> bytes | memoryview | None:
        return None if self._core.send_message(self.stream_id, data) else data

    def _take(self, max_bytes: int) -> bytes | None:
        return self._core.read_message(self.stream_id)

    async def receive(self) -> bytes:
        """The next message.

        :raises anyio.EndOfStream: when the peer has ended the stream and every message was read.
        :raises StreamResetError: if the peer abandoned it, ``SessionClosedError`` if the session ended.
        :raises anyio.BusyResourceError: if another task is receiving on this stream.
        """
        return await self._receive(0)


class ByteStream(_Stream, anyio.abc.ByteStream):
    """Bytes without boundaries: files, tunnels, and whatever speaks over ``anyio.abc.ByteStream``."""

    async def send(self, item: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Send all bytes; returns when the last is accepted, or with ``timeout`` (seconds) when it is acknowledged.

        When cancelled, the bytes accepted so far are sent and the rest is not.

        :raises SendTimeoutError: not acknowledged in time; otherwise as :meth:`MessageStream.send`.
        """
        rest: bytes | memoryview = item if isinstance(item, bytes) else memoryview(item).cast("B")
        await self._send(rest, timeout)

    def _give(self, data: bytes | memoryview) -> bytes | memoryview | None:
        accepted = self._core.write(self.stream_id, data)
        return None if accepted == len(data) else memoryview(data)[accepted:]

    def _take(self, max_bytes: int) -> bytes | None:
        return self._core.read(self.stream_id, max_bytes) or None

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """At least one and at most ``max_bytes`` bytes, in order; never ``b""``.

        :raises anyio.EndOfStream: when the peer has ended the stream and everything was read.
        :raises StreamResetError: if the peer abandoned it, ``SessionClosedError`` if the session ended.
        :raises anyio.BusyResourceError: if another task is receiving on this stream.
        """
        return await self._receive(max_bytes)
