"""Durable streams, but for the waits: what a sender and a receiver know of theirs.

Rule: the log is the sender's memory and the position the receiver's; a session carries one to the other and may end at
any time. Whoever has the next session goes on with it (docs/resumption.md, "Durable streams").
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from stt_backends.adapter.parking import ParkingLot
from stt_backends.adapter.session import BaseSession
from stt_backends.adapter.stream import BaseByteStream, BaseStream
from stt_core.durable import PURPOSE, DurableLog, DurableSink, DurableSource
from stt_core.errors import ConfigurationError, ErrorCode, StateError, Violation
from stt_core.types import StreamMode

SLICE: Final = 65_536
"""Bytes appended to a log at once, where somebody sends more."""
MAX_NAME: Final = 200
"""Bytes of the longest name, in UTF-8."""

ByteT = TypeVar("ByteT", bound=BaseByteStream)


def durable_name(stream: BaseStream) -> str | None:
    """What the sender calls the durable stream that this one carries; None where it carries none."""
    return stream.purpose.removeprefix(PURPOSE) if stream.purpose.startswith(PURPOSE) else None


class Turn(Enum):
    """What there is to do after one turn of :class:`Carrying`."""

    DONE = "done"
    """The peer's application has consumed everything."""
    MORE = "more"
    """Another turn, once others had theirs."""
    WAIT = "wait"
    """Another turn when there is news."""


class Carrying:
    """A log under way over one session, turn by turn."""

    def __init__(self, log: DurableLog, stream: BaseByteStream) -> None:
        self._source = DurableSource(log)
        self._stream = stream
        self._rest: bytes | memoryview | None = None
        self._ended = False
        self.done = False

    @property
    def news(self) -> ParkingLot:
        """Where to wait for news: of the peer, of the log, of the session's end."""
        return self._stream.news

    def turn(self) -> Turn:
        """Hear what the peer has consumed, and send it a piece.

        :raises StreamResetError: if it asks for bytes that are gone, or breaks the rules; ``SessionClosedError`` if the
            session ended.
        """
        stream, source = self._stream, self._source
        try:
            while (heard := stream._read(SLICE)) is not None:
                source.receive_untrusted(heard)
        except Violation as violation:
            stream.reset(violation.code)
            raise stream.errors.stream_reset(violation.reason, code=violation.code) from None
        except stream.errors.end:
            if not source.complete:
                raise stream.errors.stream_reset("the peer consumes no more of it", code=ErrorCode.CANCELLED) from None
        finally:
            stream.session.kick()
        if source.complete:
            self.done = True
            return Turn.DONE
        if self._rest is None:
            self._rest = source.next_chunk()
        if self._rest is None:
            if source.exhausted and not self._ended:
                self._ended = True
                stream._finish()
            return Turn.WAIT
        before = len(self._rest)
        self._rest = stream._offer(self._rest)
        return Turn.WAIT if self._rest is not None and len(self._rest) == before else Turn.MORE

    def close(self) -> None:
        """The stream has done its duty, or is given up."""
        if self.done:
            self._stream._close()
        else:
            self._stream.reset(ErrorCode.CANCELLED)


class BaseDurableSender(ABC):
    """Bytes that are kept until the peer's application has consumed them, whatever becomes of sessions meanwhile.

    :param log: where they are kept: a :class:`~stt_core.durable.MemoryLog`, or a
        :class:`~stt_backends.durable_log.FileLog` to outlive this process, too.
    :param name: what tells it from others to the same peer.
    :raises ConfigurationError: if the name is too long, or none.
    """

    def __init__(self, log: DurableLog, name: str) -> None:
        if not 0 < len(name.encode()) <= MAX_NAME:
            raise ConfigurationError(f"name is {name!r}, expected 1 to {MAX_NAME} bytes")
        self.log = log
        self.name = name
        self._news: ParkingLot | None = None
        self._carrying: Carrying | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {self.log!r}>"

    @abstractmethod
    def _make_parking_lot(self) -> ParkingLot:
        """A new one, of the kind that parks best on the running event loop."""

    @property
    def _room(self) -> ParkingLot:
        """Where to wait for room in the log."""
        if self._news is None:
            self._news = self._make_parking_lot()
        return self._news

    def _append(self, data: memoryview) -> memoryview:
        """Keep of ``data`` what there is room for; what is left then."""
        if self.log.finished:
            raise StateError(f"the durable stream {self.name!r} was finished: nothing can follow")
        size = max(0, min(len(data), SLICE, self.log.room))
        if size:
            self.log.append(bytes(data[:size]))
            self._tell()
        return data[size:]

    def finish(self) -> None:
        """Nothing follows; what was sent still arrives."""
        self.log.finish()
        self._tell()

    def _tell(self) -> None:
        if self._carrying is not None:
            self._carrying.news.wake_all()

    def _begin(self, session: BaseSession[Any, Any]) -> Carrying:
        """Open what carries it; :meth:`_end` must follow."""
        if self._carrying is not None:
            raise StateError(f"another session carries the durable stream {self.name!r} already")
        stream = session.open_byte_stream(purpose=PURPOSE + self.name)
        self._carrying = Carrying(self.log, stream)
        return self._carrying

    def _turn(self, carrying: Carrying) -> Turn:
        before = self.log.base
        turn = carrying.turn()
        if self.log.base != before:
            self._room.wake_all()
        return turn

    def _end(self, carrying: Carrying) -> None:
        self._carrying = None
        carrying.close()


class BaseDurableReceiver(Generic[ByteT]):
    """What a peer sends durably, over one session.

    :param stream: one that was accepted and carries it, see :func:`durable_name`.
    :param position: bytes of the whole that were consumed in earlier sessions, as the application has kept it.
    :raises ConfigurationError: if the stream carries none.
    """

    def __init__(self, stream: ByteT, position: int = 0) -> None:
        if stream.mode is not StreamMode.BYTES or durable_name(stream) is None:
            raise ConfigurationError(f"{stream!r} carries no durable stream")
        self.stream = stream
        self._sink = DurableSink(position)
        self._greeted = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.position} of {self.stream!r}>"

    @property
    def position(self) -> int:
        """Bytes of the whole that have come so far."""
        return self._sink.received

    def _greeting(self) -> bytes | None:
        """What to send before anything can come, once."""
        if self._greeted:
            return None
        self._greeted = True
        return self._sink.hello()

    def _came(self, data: bytes) -> bytes:
        self._sink.received += len(data)
        return data

    def _consume(self, position: int | None) -> bytes | None:
        """What to tell the sender, None where it knows."""
        before = self._sink.consumed
        said = self._sink.consume(position)
        return said if self._sink.consumed != before else None
