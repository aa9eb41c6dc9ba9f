"""From whom to fetch which part of a content: several providers at once, the rarest piece first.

Rule: no byte leaves here that its hash didn't vouch for. A provider that sends a wrong one is dropped, with all it was
asked for; one that falls silent is asked for less, and dropped at the third time. Near the end the last blocks are
asked for twice, so that one slow provider can't hold up the rest (BitTorrent calls it the end game).

The verbs are the endpoint's: tell what happened (``add_provider``, ``receive_*``, ``handle_timer``), then take
:meth:`Planner.next_event` and :meth:`Planner.next_question` until both give None, and wait until :meth:`next_timer`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final, TypeAlias

from stt_core.content.manifest import Manifest
from stt_core.content.progress import ActivePiece
from stt_core.content.supplier import BLOCK, Supplier
from stt_core.content.tree import LEAF, PIECE, PIECE_LEAVES, leaf_count
from stt_core.content.wire import BLOCK_LEAVES, AskBlock, AskLeaves, Cancel, Leaves, Question, Run
from stt_core.errors import Violation, protocol_violation
from stt_core.types import Entropy

SAMPLE: Final = 512
"""Pieces looked at in search of the rarest: a content may have 2^17, and this is asked for each."""
MOST_ACTIVE: Final = 64
"""Pieces fetched at the same time, 8 KiB of leaf hashes each."""
MOST_PROVIDERS: Final = 64
COPIES: Final = 2
"""From how many providers a block may be awaited at the end."""


class Order(Enum):
    """Which piece to fetch next."""

    RAREST = "rarest"
    """The one that fewest providers have: so that all are served best."""
    SEQUENTIAL = "sequential"
    """The first missing: for a reader who waits for it."""


@dataclass(frozen=True, slots=True)
class Verified:
    """``data`` is what the content holds at ``offset``."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PieceDone:
    """All of a piece was handed out as :class:`Verified`."""

    piece: int


@dataclass(frozen=True, slots=True)
class ProviderDropped:
    """``key`` is not to be asked again for this content; ``lied`` where what it sent was wrong."""

    key: Hashable
    reason: str
    lied: bool


PlannerEvent: TypeAlias = Verified | PieceDone | ProviderDropped

_MISSING, _ACTIVE, _DONE = range(3)


class Planner:
    """Plans the fetch of pieces ``first`` to ``stop`` of one content.

    ``have`` holds a byte for each piece of the content, not zero for those that are here and verified already.
    Providers are known by any hashable ``key``.
    """

    __slots__ = (
        "_active", "_cursor", "_events", "_have", "_holders", "_manifest", "_order", "_queue", "_remaining",
        "_suppliers",
    )  # fmt: skip

    def __init__(
        self,
        manifest: Manifest,
        entropy: Entropy,
        *,
        have: bytes | bytearray = b"",
        first: int = 0,
        stop: int | None = None,
        order: Order = Order.RAREST,
    ) -> None:
        count = len(manifest.pieces)
        self._manifest = manifest
        self._have = bytearray(_DONE if piece < len(have) and have[piece] else _MISSING for piece in range(count))
        wanted = [n for n in range(first, count if stop is None else min(stop, count)) if self._have[n] == _MISSING]
        self._remaining = len(wanted)
        self._order = order
        self._queue = wanted if order is Order.SEQUENTIAL else _shuffled(wanted, entropy)
        self._cursor = 0
        self._holders = [0] * count
        self._active: dict[int, ActivePiece] = {}
        self._suppliers: dict[Hashable, Supplier] = {}
        self._events: deque[PlannerEvent] = deque()

    @property
    def manifest(self) -> Manifest:
        """What is fetched."""
        return self._manifest

    @property
    def complete(self) -> bool:
        """Whether everything wanted is here."""
        return not self._remaining

    @property
    def providers(self) -> dict[Hashable, float]:
        """Bytes a second that each provider brought lately."""
        return {key: supplier.rate for key, supplier in self._suppliers.items()}

    # --- providers

    def add_provider(self, key: Hashable, holding: bytes | bytearray, now: float) -> bool:
        """``key`` can be asked for the pieces whose byte in ``holding`` isn't zero; False where there are enough."""
        if key in self._suppliers or len(self._suppliers) >= MOST_PROVIDERS:
            return False
        supplier = self._suppliers[key] = Supplier(bytearray(holding.ljust(len(self._have), b"\0")), now)
        for piece, held in enumerate(supplier.holding):
            self._holders[piece] += bool(held)
        return True

    def gained(self, key: Hashable, piece: int) -> None:
        """``key`` has one more piece now."""
        supplier = self._suppliers.get(key)
        if supplier is None:
            return
        if piece >= len(self._have):
            self._drop(key, f"it claims piece {piece} of {len(self._have)}", lied=True)
        elif not supplier.holding[piece]:
            supplier.holding[piece] = 1
            self._holders[piece] += 1

    def remove_provider(self, key: Hashable) -> None:
        """``key`` went away: what it was asked for is asked elsewhere."""
        supplier = self._suppliers.pop(key, None)
        if supplier is None:
            return
        for piece, held in enumerate(supplier.holding):
            self._holders[piece] -= bool(held)
        for active in self._active.values():
            active.forget(key)

    # --- what came

    def receive_leaves(self, key: Hashable, answer: Leaves, now: float) -> None:
        """The hashes of a piece's leaves."""
        supplier = self._suppliers.get(key)
        active = self._active.get(answer.piece)
        if supplier is None or active is None or active.leaves is not None:
            return
        try:
            self._manifest.check_leaves_untrusted(answer.piece, answer.hashes)
        except Violation as wrong:
            self._drop(key, wrong.reason, lied=True)
            return
        active.leaves = answer.hashes
        supplier.progressed(now)

    def receive_run(self, key: Hashable, answer: Run, now: float) -> None:
        """A run of leaves: what is right and new comes out as :class:`Verified`."""
        supplier = self._suppliers.get(key)
        if supplier is None:
            return
        try:
            supplier.brought(len(answer.data), now)
            self._take_run(key, supplier, answer, now)
        except Violation as wrong:
            self._drop(key, wrong.reason, lied=True)

    def _take_run(self, key: Hashable, supplier: Supplier, answer: Run, now: float) -> None:
        count = max(1, -(-len(answer.data) // LEAF))
        piece, first = divmod(answer.leaf, PIECE_LEAVES)
        if answer.leaf + count > leaf_count(self._manifest.size) or first + count > PIECE_LEAVES:
            raise protocol_violation(f"leaves {answer.leaf} to {answer.leaf + count} aren't there")
        active = self._active.get(piece)
        if active is None or not active.misses(first, count):  # another was faster
            if len(answer.data) >= LEAF and (piece, first // BLOCK_LEAVES) in supplier.awaited:
                supplier.progressed(now)  # as many as it was asked for, and so no end of them
            return
        if active.leaves is None:
            raise protocol_violation(f"leaves of piece {piece} came before their hashes")
        self._manifest.check_run_untrusted(answer.leaf, answer.data, active.leaves[first : first + count])
        supplier.progressed(now)
        self._events.append(Verified(answer.leaf * LEAF, answer.data))
        for block in active.store(first, count):
            for other in active.awaited_from(block):
                loser = self._suppliers[other]
                loser.awaited.discard((piece, block))
                if other != key:
                    loser.outbox.append(Cancel(piece, block))
            active.settle(block)
        if active.complete:
            del self._active[piece]
            self._have[piece] = _DONE
            self._remaining -= 1
            self._events.append(PieceDone(piece))

    # --- time

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`, monotonic seconds; None for never."""
        at = min((supplier.stalls_at for supplier in self._suppliers.values()), default=inf)
        return None if at == inf else at

    def handle_timer(self, now: float) -> None:
        """See who has been silent for too long; harmless where nobody has."""
        for key, supplier in list(self._suppliers.items()):
            if supplier.stalls_at > now:
                continue
            for active in self._active.values():
                active.forget(key)
            if not supplier.stall(now):
                self._drop(key, "it fell silent three times", lied=False)

    def excuse(self, now: float) -> None:
        """Nobody listened until ``now``: silence before that is held against no provider."""
        for supplier in self._suppliers.values():
            supplier.excuse(now)

    # --- what to do

    def next_event(self) -> PlannerEvent | None:
        """The oldest event not yet taken, or None."""
        return self._events.popleft() if self._events else None

    def next_question(self, now: float) -> tuple[Hashable, Question] | None:
        """Whom to ask what next; None where all have enough to do."""
        for key, supplier in self._suppliers.items():
            if supplier.outbox:
                return key, supplier.outbox.popleft()
            if supplier.has_room and self._remaining:
                found = self._choose(key, supplier)
                if found is not None:
                    piece, block = found
                    self._active[piece].ask(block, key)
                    supplier.ask(found, self._block_size(piece, block), now)
                    return key, AskBlock(piece, block)
                if supplier.outbox:
                    return key, supplier.outbox.popleft()
        return None

    def _choose(self, key: Hashable, supplier: Supplier) -> tuple[int, int] | None:
        """A block to ask ``supplier`` for, where it has any that is worth it."""
        for piece, active in self._active.items():
            if supplier.holding[piece] and active.can_be_asked_of(key):
                block = active.next_block()
                if block is not None:
                    return self._asked_leaves(piece, active, key, supplier, block)
        chosen = self._next_piece(supplier)
        if chosen is not None:
            active = self._active[chosen] = ActivePiece(self._manifest.size, chosen)
            self._have[chosen] = _ACTIVE
            return self._asked_leaves(chosen, active, key, supplier, 0)
        return self._second_copy(key, supplier)

    def _asked_leaves(
        self, piece: int, active: ActivePiece, key: Hashable, supplier: Supplier, block: int
    ) -> tuple[int, int] | None:
        """The block, once its piece's leaf hashes are known or on their way from the same provider."""
        if active.leaves is not None or active.leaves_from == key:
            return piece, block
        active.leaves_from = key
        supplier.outbox.append(AskLeaves(piece))
        return None

    def _next_piece(self, supplier: Supplier) -> int | None:
        """A missing piece to begin with."""
        if len(self._active) >= MOST_ACTIVE:
            return None
        queue, have, holding = self._queue, self._have, supplier.holding
        while self._cursor < len(queue) and have[queue[self._cursor]] != _MISSING:
            self._cursor += 1
        candidates = (piece for piece in queue[self._cursor :] if have[piece] == _MISSING and holding[piece])
        if self._order is Order.SEQUENTIAL:
            return next(candidates, None)
        sample = [piece for piece, _ in zip(candidates, range(SAMPLE), strict=False)]
        return min(sample, key=self._holders.__getitem__, default=None)

    def _second_copy(self, key: Hashable, supplier: Supplier) -> tuple[int, int] | None:
        """Nothing is left that nobody was asked for: help with what others are asked for."""
        for piece, active in self._active.items():
            if supplier.holding[piece] and active.leaves is not None:
                block = active.shared_block(key, COPIES)
                if block is not None:
                    return piece, block
        return None

    def _block_size(self, piece: int, block: int) -> int:
        return min(BLOCK, self._manifest.size - piece * PIECE - block * BLOCK)

    def _drop(self, key: Hashable, reason: str, *, lied: bool) -> None:
        self.remove_provider(key)
        self._events.append(ProviderDropped(key, reason, lied))


def _shuffled(pieces: list[int], entropy: Entropy) -> list[int]:
    """In an order of its own for each fetcher: where all begin with the same piece, there is nothing to share."""
    lots = entropy(8 * len(pieces))
    return [piece for _, piece in sorted((lots[8 * n : 8 * n + 8], piece) for n, piece in enumerate(pieces))]
