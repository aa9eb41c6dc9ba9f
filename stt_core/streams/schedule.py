"""Which stream sends next: urgency 0 before 1 and so on, and inside a level one after the other, by bytes.

Rule: a level of a lower urgency gets nothing while a higher one can send; two streams of one level have sent equally
much after each round, whatever the sizes of the batches in between.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from stt_core.streams.stream import Stream

TURN: Final = 32_768
"""Bytes a stream may send before the next of its level has its turn."""


class Schedule:
    """The streams that have something they may send. A session without any holds no queue."""

    __slots__ = ("levels",)

    def __init__(self) -> None:
        self.levels: dict[int, deque[Stream]] = {}

    def __bool__(self) -> bool:
        return bool(self.levels)

    def add(self, stream: Stream) -> None:
        """Queue a stream at the end of its level, unless it stands there already."""
        if stream.queued:
            return
        stream.queued = True
        stream.level = stream.priority
        stream.turn = TURN
        level = self.levels.get(stream.level)
        if level is None:
            level = self.levels[stream.level] = deque()
        level.append(stream)

    def only(self) -> Stream | None:
        """The one stream that has something to send; None where there are several, or none."""
        if len(self.levels) != 1:
            return None
        (level,) = self.levels.values()
        return level[0] if len(level) == 1 else None

    def head(self) -> tuple[Stream, bool]:
        """Whose turn it is, and whether it has no rival; there must be one."""
        level = self.levels[min(self.levels)]
        return level[0], len(level) == 1

    def spend(self, stream: Stream, size: int) -> None:
        """The head has sent ``size`` bytes; when its turn is over it goes to the end of its level."""
        stream.turn -= size
        if stream.turn <= 0:
            stream.turn = max(stream.turn + TURN, 1)
            self.levels[stream.level].rotate(-1)

    def drop(self, stream: Stream) -> None:
        """The head has nothing more to send for now."""
        level = self.levels[stream.level]
        level.popleft()
        stream.queued = False
        if not level:
            del self.levels[stream.level]
