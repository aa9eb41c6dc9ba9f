"""One fetcher that is served: what it asked, and what to answer.

Rule: what reads the disk is a function without arguments that an adapter calls in a thread; nothing else blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stt_backends.adapter.parking import ParkingLot
from stt_core.content.serving import Questions
from stt_core.content.tree import HASH_SIZE, LEAF, PIECE_LEAVES, leaves_in
from stt_core.content.wire import (
    BLOCK_LEAVES,
    RUN_LEAVES,
    AskBlock,
    AskLeaves,
    AskPieces,
    Gained,
    Holding,
    Leaves,
    Pieces,
    Refusal,
    Refused,
    Run,
    pack_bits,
)
from stt_core.errors import StateError, StoreError

if TYPE_CHECKING:
    from stt_backends.adapter.content import BaseContentDistribution
    from stt_backends.content_store import StoredContent

Answers = Callable[[], list[bytes]]
"""The messages that answer one question; may block on the disk."""


class Supply:
    """What goes on on one stream that a fetcher opened."""

    def __init__(self, distribution: BaseContentDistribution[Any], news: ParkingLot, now: float, *, busy: bool) -> None:
        self._distribution = distribution
        self.heard = now
        """When it asked last, or had room for an answer."""
        self.news = news
        """Of questions, and of pieces that were gained."""
        self.sent = 0
        """Bytes sent to this fetcher."""
        self.over = False
        """Whether nothing more will be answered."""
        self._questions = Questions()
        self._gained: deque[int] = deque()
        self._content: StoredContent | None = None
        self._busy = busy

    @property
    def content_id(self) -> bytes | None:
        """What is fetched, once the fetcher said so."""
        return self._questions.content_id

    def receive(self, message: bytes) -> str | None:
        """Take a message; where that breaks the rules, how: reset the stream."""
        self.heard = self._distribution.clock()
        known = self.content_id
        wrong = self._questions.receive_message(message)
        if self.content_id != known:
            self._distribution.introduced(self, self._questions.content_id or b"")
        self.news.wake_all()
        return wrong

    def gained(self, piece: int) -> None:
        """There is one more piece of the content, for those who were told before what there is."""
        self._gained.append(piece)
        self.news.wake_all()

    def next_answers(self) -> Answers | None:
        """What to do next; None until there is news."""
        if self._content is None:
            return None if self.content_id is None or self.over else self._introduce
        if self._gained:
            return self._tell
        question = self._questions.next()
        return None if question is None else lambda: self._answer(question)

    def _introduce(self) -> list[bytes]:
        content_id = self.content_id
        assert content_id is not None
        if self._busy:
            return self._refuse(Refusal.BUSY)
        found = self._distribution.store.find(content_id)
        if found is None:
            return self._refuse(Refusal.UNKNOWN)
        self._content = found
        return [Holding(found.manifest.size, pack_bits(found.have)).encode()]

    def _refuse(self, refusal: Refusal) -> list[bytes]:
        self.over = True
        return [Refused(refusal).encode()]

    def _tell(self) -> list[bytes]:
        messages = []
        while self._gained:
            messages.append(Gained(self._gained.popleft()).encode())
        return messages

    def _answer(self, question: AskPieces | AskLeaves | AskBlock) -> list[bytes]:
        """What the question asks for.

        :raises StateError: where it makes no sense.
        """
        content = self._content
        assert content is not None
        manifest = content.manifest
        if isinstance(question, AskPieces):
            hashes = b"".join(manifest.pieces[question.first : question.first + question.count])
            if len(hashes) != question.count * HASH_SIZE:
                raise StateError("it asks for hashes of pieces that aren't there")
            return [Pieces(question.first, hashes).encode()]
        if question.piece >= len(manifest.pieces):
            raise StateError(f"it asks for piece {question.piece} of {len(manifest.pieces)}")
        store = self._distribution.store
        try:
            leaves = store.leaves(manifest.content_id, question.piece)
            if isinstance(question, AskLeaves):
                return [Leaves(question.piece, leaves).encode()]
            start = question.piece * PIECE_LEAVES + question.block * BLOCK_LEAVES
            stop = min(start + BLOCK_LEAVES, question.piece * PIECE_LEAVES + leaves_in(manifest.size, question.piece))
            if stop <= start:
                raise StateError(f"it asks for block {question.block} of piece {question.piece}")
            data = store.read(manifest.content_id, start * LEAF, min(stop * LEAF, manifest.size) - start * LEAF)
        except StoreError:
            return self._refuse(Refusal.GONE)
        size = RUN_LEAVES * LEAF
        runs = range(0, max(len(data), 1), size)
        return [Run(start + at // LEAF, data[at : at + size]).encode() for at in runs]
