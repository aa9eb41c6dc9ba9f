"""Frames that no stream owns: keep-alives, tokens, connection ids; repeated until they are acknowledged.

Rule: what a peer can make us say is bounded; an answer that isn't queued any more is as good as lost.
"""

from __future__ import annotations

from typing import Final

from stt_core.frames import FrameType
from stt_core.packing import Batch, Token

MAX_OUTSTANDING: Final = 256
"""Frames queued; a peer that makes us answer without end is cut off here."""


class Control:
    """One session's queue of such frames, and those in flight that must arrive."""

    __slots__ = ("_serial", "_unacked", "queue")

    def __init__(self) -> None:
        self.queue: list[tuple[bytes, Token | None]] = []  # short: a deque costs 800 bytes even when empty
        self._unacked: dict[int, bytes] = {}
        self._serial = 0

    def __bool__(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self.queue)

    def __len__(self) -> int:
        """How many frames wait to be sent."""
        return len(self.queue)

    @property
    def unacknowledged(self) -> int:
        """Reliable frames the peer has not acknowledged, sent or not."""
        return len(self._unacked)

    def send(self, frame: bytes, kind: FrameType) -> None:
        """Send a frame again and again until it is acknowledged."""
        self._serial += 1
        self._unacked[self._serial] = frame
        self.queue.append((frame, (kind, self._serial)))

    def answer(self, frame: bytes) -> None:
        """Send a frame once; dropped where too many wait."""
        if len(self.queue) < MAX_OUTSTANDING:
            self.queue.append((frame, None))

    def fill(self, batch: Batch) -> None:
        """Put as many as fit into packets."""
        queue = self.queue
        while queue and batch.add(*queue[0]):
            del queue[0]

    def on_acked(self, token: Token) -> None:
        """The peer has it."""
        self._unacked.pop(token[1], None)

    def on_lost(self, token: Token) -> None:
        """Say it again, unless another copy has arrived."""
        frame = self._unacked.get(token[1])
        if frame is not None:
            self.queue.append((frame, token))
