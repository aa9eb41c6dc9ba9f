"""A stream as an adapter holds it, but for the waits: what may be called when, and what the core says to it.

Rule: everything a stream *is* lives in the core. Here is what this side has done with it and heard of it, and calls
that never wait: each either does what it can now, or says that there is something to wait for.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from stt_backends.adapter.broadcast import Outbox
from stt_backends.adapter.errors import ErrorFamily
from stt_backends.adapter.parking import ParkingLot
from stt_core.errors import ErrorCode, SendTimeoutError, StreamClosedError, StreamError, StreamResetError, STTError
from stt_core.events import Event, StreamAcknowledged, StreamReadable, StreamStopped, StreamWritable
from stt_core.state import SendState
from stt_core.types import StreamMode

if TYPE_CHECKING:
    from stt_backends.adapter.session import BaseSession

_RESET: Final = (SendState.RESET_SENT, SendState.RESET_ACKED)


class BaseStream:
    """What both kinds of stream share: identity, half-close and the end."""

    errors: ClassVar[ErrorFamily]
    """The adapter's."""

    def __init__(
        self, session: BaseSession[Any, Any], stream_id: int, mode: StreamMode, purpose: str, priority: int
    ) -> None:
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
        self._push = session.node.push
        self._readable = True  # perhaps: only a look that finds nothing knows
        self._quiet = -1  # how often there was news when there was nothing to read; as often means: still nothing
        self._news: ParkingLot = session.node.make_parking_lot()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.stream_id} {self.purpose!r} of {self.session!r}>"

    # --- for the session

    def refresh(self) -> None:
        """Take over what both ends agreed on, where both opened the stream."""
        info = self._core.stream_info(self.stream_id)
        self.purpose, self.priority = info.purpose, info.priority

    def handle_event(self, event: Event) -> None:
        """Note what the core reports about this stream, and wake those who wait for it."""
        if event.__class__ is StreamReadable:  # most are
            self._readable = True
        elif isinstance(event, StreamAcknowledged):
            self._acknowledged = max(self._acknowledged, event.offset)
        elif isinstance(event, StreamStopped):
            self._stopped_by = event.code
            self._on_writable()
        elif isinstance(event, StreamWritable):
            self._on_writable()
        self._news.wake_all()

    def _on_writable(self) -> None:
        """There is room to send, or never will be."""

    @property
    def news(self) -> ParkingLot:
        """Where those wait who want to hear of this stream."""
        return self._news

    def wake(self) -> None:
        """Let every wait on this stream look again."""
        self._news.wake_all()

    # --- receiving

    def _check_open(self) -> None:
        if self._closed:
            raise self.errors.stream_closed(f"stream {self.stream_id} is closed on this side")

    def _take(self, max_bytes: int) -> bytes | None:
        """What the core has, or None."""
        raise AssertionError("each kind of stream reads in its own way")

    def _is_quiet(self) -> bool:
        """Whether the last look found nothing and there was no news since: another would find the same."""
        known = self._readable or self._ended or self._closed or self._broken_by is not None
        return not known and self._quiet == self._news.wakes

    def _read(self, max_bytes: int) -> bytes | None:
        """What there is now, None for nothing; the end and a reset are told as often as they are asked for."""
        if self._closed:
            self._check_open()
        if self._broken_by is not None:
            raise self.errors.stream_reset(
                f"stream {self.stream_id} was reset with code {self._broken_by}", code=self._broken_by
            )
        if self._ended:
            raise self.errors.end
        core = self._core
        try:
            data = self._take(max_bytes)
            self._readable = data is not None and core.is_readable(self.stream_id)
            self._ended = data is None and core.at_end(self.stream_id)
        except STTError as error:
            if isinstance(error, StreamResetError):
                self._broken_by = error.code
            raise self.errors.translate(error) from error.__cause__
        if self._ended:
            raise self.errors.end
        if data is None:
            self.session.raise_if_over()
        if not self._readable and self.session.lasts:  # there will be news, if only of the session's end
            self._quiet = self._news.wakes
        return data

    # --- sending

    def _check_sending(self) -> None:
        self._check_open()
        self._check_not_stopped()

    def _check_not_stopped(self) -> None:
        if self._stopped_by is not None:
            raise self.errors.stream_reset(
                f"the peer stopped stream {self.stream_id} with code {self._stopped_by}", code=self._stopped_by
            )

    def _give(self, data: bytes | memoryview) -> bytes | memoryview | None:
        """Let the core accept of ``data`` what it will; what is left then, None where nothing is."""
        raise AssertionError("each kind of stream sends in its own way")

    def _offer(self, data: bytes | memoryview) -> bytes | memoryview | None:
        """Send of ``data`` what there is room for now; what is left then, None where nothing is."""
        if self._closed or self._stopped_by is not None:
            self._check_sending()
        try:
            left = self._give(data)
        except STTError as error:
            raise self.errors.translate(error) from error.__cause__
        self._kick()
        return left

    def _has_room(self) -> bool:
        """Whether anything could be sent now; raises where nothing ever can. Where not, there will be news."""
        self._check_sending()
        with self.errors.translated:
            return self._core.has_room(self.stream_id)

    def _finish(self) -> None:
        """End the sending half; does nothing a second time."""
        if not self._finished:
            with self.errors.translated:
                self._core.finish(self.stream_id)
            self._finished = True
            self._kick()

    def _not_in_time(self, size: int, timeout: float) -> SendTimeoutError:
        return SendTimeoutError(
            f"no acknowledgement of {size} bytes on stream {self.stream_id} within {timeout:g} s; what was "
            "accepted may still arrive"
        )

    # --- acknowledgements

    def _watch(self) -> int:
        """Ask to be told when all that was sent so far has arrived; the offset to give to :meth:`_has_arrived`."""
        self._check_not_abandoned()
        try:
            with self.errors.translated:
                offset = self._core.watch(self.stream_id)
        except StreamClosedError:
            return 0  # both halves are done: the peer has it all
        self._kick()
        return offset

    def _has_arrived(self, offset: int) -> bool:
        """Whether the peer has all up to ``offset``; raises where it never will."""
        if self._acknowledged >= offset:
            return True
        self._check_not_abandoned()
        self.session.raise_if_over()
        return False

    def _check_not_abandoned(self) -> None:
        """Raise where not all that was sent will arrive."""
        if self._abandoned:
            raise self.errors.stream_closed(f"this side reset stream {self.stream_id}")
        self._check_not_stopped()
        with suppress(StreamClosedError), self.errors.translated:
            if self._core.stream_info(self.stream_id).send_state in _RESET:
                raise self.errors.stream_reset(f"stream {self.stream_id} was reset: the peer broke its rules")

    # --- the end

    def reset(self, code: int = ErrorCode.APPLICATION) -> None:
        """Abandon both halves at once: unsent data is dropped, the peer's calls fail with ``code``."""
        if self._closed:
            return
        self._closed = self._abandoned = True
        if self.session.lasts:
            # Either half may be over already: there is nothing to abandon then.
            with suppress(StreamError):
                self._core.reset_stream(self.stream_id, code)
            with suppress(StreamError):
                self._core.stop_stream(self.stream_id, code)
            self._kick()
        self.wake()

    def _close(self) -> None:
        """End both halves: what was sent still arrives, what wasn't read is refused. Nothing a second time."""
        if self._closed:
            return
        if self.session.lasts:
            with suppress(StreamError):
                self._finish()
            with suppress(StreamError):
                if not self._core.at_end(self.stream_id):
                    self._core.stop_stream(self.stream_id, ErrorCode.NO_ERROR)
            self._kick()
        self._closed = True
        self.wake()


class BaseMessageStream(BaseStream):
    """A stream of messages."""

    _outbox: Outbox | None = None

    @property
    def outbox(self) -> Outbox:
        """What is broadcast on this stream and waits for room."""
        if self._outbox is None:
            self._outbox = Outbox(self)
        return self._outbox

    def _on_writable(self) -> None:
        if self._outbox is not None:
            self._outbox.handle_writable()

    def try_send(self, message: bytes) -> bool:
        """Send one message if there is room for it now; False, and nothing of it is sent, where there isn't.

        :raises STTError: as ``send`` does, where there never will be.
        """
        return self._offer(message) is None

    def _give(self, data: bytes | memoryview) -> bytes | memoryview | None:
        return None if self._core.send_message(self.stream_id, data) else data

    def _take(self, max_bytes: int) -> bytes | None:
        return self._core.read_message(self.stream_id)


class BaseByteStream(BaseStream):
    """A stream of bytes."""

    def _give(self, data: bytes | memoryview) -> bytes | memoryview | None:
        accepted = self._core.write(self.stream_id, data)
        return None if accepted == len(data) else memoryview(data)[accepted:]

    def _take(self, max_bytes: int) -> bytes | None:
        return self._core.read(self.stream_id, max_bytes) or None


def as_message(item: object) -> bytes:
    """The bytes of one message.

    :raises TypeError: if it is no bytes-like object: ``bytes(5)`` would be five zeros.
    """
    return item if type(item) is bytes else bytes(memoryview(item))  # type: ignore[arg-type]


def as_bytes(item: bytes | bytearray | memoryview) -> bytes | memoryview:
    """The bytes of one write, by the byte: ``len`` of the result is their number."""
    return item if isinstance(item, bytes) else memoryview(item).cast("B")
