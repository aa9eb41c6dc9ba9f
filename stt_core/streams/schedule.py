"""Which stream sends next: urgency 0 before 1 and so on, and inside a level one after the other, by bytes.

Rule: a level of a lower urgency gets nothing while a higher one can send; two streams of one level have sent equally
much after each round, whatever the sizes of the batches in between. What one call costs doesn't depend on how many
streams wait.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from stt_core.streams.stream import Stream

TURN: Final = 32_768
"""Bytes a stream may send before the next of its level has its turn."""


class Schedule:
    """Streams that have something to send, each in one schedule at most. Without any it holds no queue."""

    __slots__ = ("levels",)

    def __init__(self) -> None:
        self.levels: dict[int, OrderedDict[int, Stream]] = {}

    def __bool__(self) -> bool:
        return bool(self.levels)

    @property
    def urgency(self) -> int:
        """The level whose turn it is; there must be one."""
        return min(self.levels)

    def add(self, stream: Stream) -> None:
        """Queue a stream that stands in no schedule at the end of its level."""
        stream.queue = self
        stream.level = stream.priority
        stream.turn = TURN
        level = self.levels.get(stream.level)
        if level is None:
            level = self.levels[stream.level] = OrderedDict()
        level[stream.stream_id] = stream

    def only(self) -> Stream | None:
        """The one stream that has something to send; None where there are several, or none."""
        if len(self.levels) != 1:
            return None
        (level,) = self.levels.values()
        if len(level) == 1:
            (stream,) = level.values()
            return stream
        return None

    def head(self) -> tuple[Stream, bool]:
        """Whose turn it is, and whether it has no rival; there must be one."""
        level = self.levels[min(self.levels)]
        for stream in level.values():
            return stream, len(level) == 1
        raise LookupError("nobody has anything to send")

    def spend(self, stream: Stream, size: int) -> None:
        """The head has sent ``size`` bytes; when its turn is over it goes to the end of its level."""
        stream.turn -= size
        if stream.turn <= 0:
            stream.turn = max(stream.turn + TURN, 1)
            self.levels[stream.level].move_to_end(stream.stream_id)

    def drop(self, stream: Stream) -> None:
        """A stream that stands here has nothing to send for now."""
        level = self.levels[stream.level]
        del level[stream.stream_id]
        stream.queue = None
        if not level:
            del self.levels[stream.level]
