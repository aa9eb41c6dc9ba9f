"""Streams that outlive sessions and processes: bytes are kept until the peer's application has consumed them.

Rule: an acknowledgement says that bytes are in the peer's memory, and that may end with its process. What frees bytes
of a durable stream is a word of its application alone: how many it has consumed and will not ask for again, whatever
happens (docs/resumption.md, "Durable streams").

On the wire it is an ordinary stream of bytes in each session. The receiver says first, and then as often as it likes,
how many bytes of the whole it has consumed, 8 bytes big-endian each; the sender sends from the first of these on.
"""

from __future__ import annotations

from typing import Final, Protocol

from stt_core.errors import ErrorCode, StateError, Violation, protocol_violation

PURPOSE: Final = "durable:"
"""What the purpose of the stream that carries one begins with; its name follows."""
POSITION_SIZE: Final = 8
CHUNK: Final = 65_536
"""Bytes read from a log at once."""


class DurableLog(Protocol):
    """Where the bytes of a durable stream are kept: those from offset ``base`` to ``end`` of the whole."""

    @property
    def base(self) -> int:
        """Bytes that are consumed, and gone here."""
        ...

    @property
    def end(self) -> int:
        """Bytes that were ever appended."""
        ...

    @property
    def finished(self) -> bool:
        """Whether none will follow."""
        ...

    @property
    def room(self) -> int:
        """Bytes that may be appended now."""
        ...

    def append(self, data: bytes) -> None:
        """Keep them; at most ``room``."""
        ...

    def finish(self) -> None:
        """None will follow."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset`` on, which is not below ``base``; ``b""`` at the end."""
        ...

    def release(self, offset: int) -> None:
        """All below ``offset`` may be let go of."""
        ...


class MemoryLog:
    """A log that ends with its process: for streams that outlive sessions, and the peer's restarts, but not ours.

    :param limit: bytes that may wait to be consumed.
    """

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._limit = limit
        self._data = bytearray()
        self.base = 0
        self.finished = False

    def __repr__(self) -> str:
        return f"<MemoryLog {self.base} to {self.end}>"

    @property
    def end(self) -> int:
        """See :class:`DurableLog`."""
        return self.base + len(self._data)

    @property
    def room(self) -> int:
        """See :class:`DurableLog`."""
        return self._limit - len(self._data)

    def append(self, data: bytes) -> None:
        """See :class:`DurableLog`."""
        check_append(self, len(data))
        self._data += data

    def finish(self) -> None:
        """See :class:`DurableLog`."""
        self.finished = True

    def read(self, offset: int, size: int) -> bytes:
        """See :class:`DurableLog`."""
        start = offset - self.base
        return bytes(memoryview(self._data)[start : start + size])

    def release(self, offset: int) -> None:
        """See :class:`DurableLog`."""
        del self._data[: offset - self.base]
        self.base = offset


def check_append(log: DurableLog, size: int) -> None:
    """Whether ``size`` bytes may be appended to ``log``.

    :raises StateError: if it is finished, or has no room for them.
    """
    if log.finished:
        raise StateError("this durable stream was finished: nothing can follow")
    if size > log.room:
        raise StateError(f"{size} bytes don't fit: of this durable stream there is room for {log.room}")


class DurableSource:
    """The sending half in one session: what to send of ``log``, and what the peer says of it."""

    __slots__ = ("_heard", "_log", "_partial", "_sent")

    def __init__(self, log: DurableLog) -> None:
        self._log = log
        self._partial = b""
        self._heard = False
        self._sent = 0

    @property
    def complete(self) -> bool:
        """Whether the peer's application has consumed all there will ever be."""
        return self._heard and self._log.finished and self._log.base == self._log.end

    @property
    def exhausted(self) -> bool:
        """Whether all there will ever be was sent in this session."""
        return self._heard and self._log.finished and self._sent == self._log.end

    def next_chunk(self) -> bytes | None:
        """Up to :data:`CHUNK` bytes to send now; None where there are none yet."""
        if not self._heard:
            return None
        data = self._log.read(self._sent, CHUNK)
        self._sent += len(data)
        return data or None

    def receive_untrusted(self, data: bytes) -> None:
        """The peer's positions, in any pieces.

        :raises Violation: where they go back, or beyond what was sent; with code RESUME_GAP where it lacks bytes that
            are gone here.
        """
        data = self._partial + data
        whole = len(data) - len(data) % POSITION_SIZE
        self._partial = data[whole:]
        for at in range(0, whole, POSITION_SIZE):
            self._take(int.from_bytes(data[at : at + POSITION_SIZE], "big"))

    def _take(self, position: int) -> None:
        log = self._log
        if position > (self._sent if self._heard else log.end):
            raise protocol_violation(f"it has consumed {position} bytes of a durable stream, which never were sent")
        if position < log.base:
            if self._heard:
                raise protocol_violation("what it has consumed of a durable stream becomes less")
            raise Violation(
                ErrorCode.RESUME_GAP,
                f"the peer has consumed {position} bytes of a durable stream, and those before {log.base} are gone",
            )
        if not self._heard:
            self._heard = True
            self._sent = position
        log.release(position)


class DurableSink:
    """The receiving half in one session. ``position`` is what the application had consumed in earlier ones."""

    __slots__ = ("consumed", "received")

    def __init__(self, position: int = 0) -> None:
        if position < 0:
            raise StateError(f"position is {position}, expected the bytes consumed so far")
        self.received = self.consumed = position

    def hello(self) -> bytes:
        """What to send first."""
        return self.consumed.to_bytes(POSITION_SIZE, "big")

    def consume(self, position: int | None = None) -> bytes:
        """What to send once the application has consumed all up to ``position``, by default all that came.

        :raises StateError: if it is less than before, or more than has come.
        """
        position = self.received if position is None else position
        if not self.consumed <= position <= self.received:
            raise StateError(f"position is {position}, expected {self.consumed} to {self.received}")
        self.consumed = position
        return position.to_bytes(POSITION_SIZE, "big")
