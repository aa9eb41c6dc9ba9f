"""Packets being built for one poll: the shape in which streams hand work to a session, and a session to recovery.

Rule: plaintexts come out in columns. A run of equal DATA packets of one stream is one record, whatever its length;
everything else shares packets, one record each. All plaintexts but the last have exactly ``room`` bytes, so that the
sealed datagrams can leave in one segmented system call.
"""

from __future__ import annotations

from typing import Final

from stt_core.frames import MAX_FRAMES

MOST: Final = MAX_FRAMES - 1
"""Frames put into a packet: the padding that may follow counts as one more."""

Token = tuple[int, ...]
"""One retransmittable frame inside a mixed packet: frame type first, then what its owner needs to find it again.
DATA is ``(DATA, stream_id, start, stop, fin)``."""

BulkRun = tuple[int, int, int]
"""``(stream_id, start, body)``: packet ``k`` of the run carried stream bytes ``start + k*body`` up to the next."""

Content = BulkRun | list[Token]
"""What a sent record carried. A tuple is a run, a list is one mixed packet; an empty list is not ack-eliciting."""


class Batch:
    """Collects up to ``limit`` plaintexts of ``room`` bytes each.

    ``records`` holds ``(packets, content)`` in the order of ``plains``.
    """

    __slots__ = ("_frames", "_tokens", "free", "limit", "plains", "records", "room")

    def __init__(self, room: int, limit: int) -> None:
        self.room = room
        self.limit = limit
        self.plains: list[bytes] = []
        self.records: list[tuple[int, Content]] = []
        self.free = room
        """Bytes left in the open packet (all of ``room`` when none is open)."""
        self._frames: list[bytes] = []
        self._tokens: list[Token] = []

    @property
    def packets_left(self) -> int:
        """Whole packets that can still be started."""
        return self.limit - len(self.plains) - (1 if self._frames else 0)

    @property
    def open_packet(self) -> bool:
        """Whether a mixed packet has been started and not yet ended."""
        return bool(self._frames)

    @property
    def eliciting(self) -> bool:
        """Whether anything in here asks to be acknowledged."""
        return bool(self._tokens) or any(content for _, content in self.records)

    def fits(self, size: int) -> bool:
        """Whether a frame of ``size`` bytes can be added, in the open packet or a fresh one."""
        if size <= self.free and (0 < len(self._frames) < MOST or (not self._frames and self.packets_left > 0)):
            return True
        return size <= self.room and self.packets_left > 0

    def add(self, frame: bytes, token: Token | None = None) -> bool:
        """Put one frame into the open packet, or pad that and start the next; False where no packet is left.

        A frame with a ``token`` is ack-eliciting and will be reported back as acked or lost by that token.
        """
        size = len(frame)
        if not self.fits(size):
            return False
        if size > self.free or len(self._frames) >= MOST:
            self.end_packet()
        self._frames.append(frame)
        self.free -= size
        if token is not None:
            self._tokens.append(token)
        return True

    def add_run(self, plains: list[bytes], content: BulkRun) -> None:
        """Append full packets of one stream; ends the open packet first."""
        self.end_packet()
        self.plains += plains
        self.records.append((len(plains), content))

    def end_packet(self, *, pad: bool = True) -> None:
        """Finish the open packet, if any. All but the last packet of a batch are padded to ``room``."""
        if not self._frames:
            return
        plain = b"".join(self._frames)
        if pad and self.free:
            plain += bytes(self.free)
        self.plains.append(plain)
        self.records.append((1, self._tokens))
        self._frames = []
        self._tokens = []
        self.free = self.room
