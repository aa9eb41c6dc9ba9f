"""A provider's side of one stream: which questions wait, and what is no longer wanted.

Rule: a fetcher may ask ahead by so much and no more; what it cancels in time is not read from disk. What all fetchers
together get is kept to a rate.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from stt_core.content.supplier import MOST_BLOCKS
from stt_core.content.wire import AskBlock, AskLeaves, AskPieces, Cancel, Question, Want, parse_question_untrusted
from stt_core.errors import Violation, protocol_violation

MOST_QUESTIONS: Final = 2 * MOST_BLOCKS + 64
"""Questions that may wait: the blocks and leaf hashes a fetcher of ours asks for ahead, and some room."""


class Questions:
    """The questions of one fetcher, in order."""

    __slots__ = ("_waiting", "content_id")

    def __init__(self) -> None:
        self.content_id: bytes | None = None
        """What the fetcher wants; None until it said so."""
        self._waiting: deque[AskPieces | AskLeaves | AskBlock] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def receive_untrusted(self, message: bytes) -> None:
        """Take a fetcher's message.

        :raises Violation: where it is malformed, out of order, or one too many.
        """
        question = parse_question_untrusted(message)
        if isinstance(question, Want):
            if self.content_id is not None:
                raise protocol_violation("it wants a second content on one stream")
            self.content_id = question.content_id
            return
        if self.content_id is None:
            raise protocol_violation("it asks before it says for which content")
        if isinstance(question, Cancel):
            self._cancel(question)
            return
        if len(self._waiting) >= MOST_QUESTIONS:
            raise protocol_violation(f"more than {MOST_QUESTIONS} questions wait")
        self._waiting.append(question)

    def receive_message(self, message: bytes) -> str | None:
        """:meth:`receive_untrusted`; where the fetcher breaks the rules, how."""
        try:
            self.receive_untrusted(message)
        except Violation as wrong:
            return wrong.reason
        return None

    def next(self) -> AskPieces | AskLeaves | AskBlock | None:
        """The next question to answer, or None."""
        return self._waiting.popleft() if self._waiting else None

    def _cancel(self, cancel: Cancel) -> None:
        unwanted: Question = AskBlock(cancel.piece, cancel.block)
        if unwanted in self._waiting:
            self._waiting = deque(question for question in self._waiting if question != unwanted)


class UploadBudget:
    """Keeps what is sent to a rate, bytes a second; None for no limit."""

    __slots__ = ("_free_at", "rate")

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._free_at = 0.0

    def reserve(self, size: int, now: float) -> float:
        """Seconds to wait before ``size`` bytes may be sent: they are accounted for already."""
        if self.rate is None:
            return 0.0
        start = max(self._free_at, now)
        self._free_at = start + size / self.rate
        return start - now
