"""A piece on its way: which leaves are here, which blocks are awaited from whom."""

from __future__ import annotations

from collections.abc import Hashable

from stt_core.content.tree import leaves_in
from stt_core.content.wire import BLOCK_LEAVES


class ActivePiece:
    """One piece that is being fetched."""

    __slots__ = ("_awaited", "_blocks", "_here", "leaves", "leaves_from")

    def __init__(self, size: int, piece: int) -> None:
        count = leaves_in(size, piece)
        self.leaves: tuple[bytes, ...] | None = None
        """The verified hashes of its leaves, once they are here."""
        self.leaves_from: Hashable | None = None
        """Whom they were asked of; until they are here, nobody else can be asked for a block."""
        self._here = bytearray(count)
        self._blocks = set(range(-(-count // BLOCK_LEAVES)))
        self._awaited: dict[int, list[Hashable]] = {}

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return not self._blocks

    def can_be_asked_of(self, key: Hashable) -> bool:
        """Whether ``key`` may be asked for a block now."""
        return self.leaves is not None or self.leaves_from in (None, key)

    def next_block(self) -> int | None:
        """A block that nobody was asked for."""
        return next((block for block in sorted(self._blocks) if block not in self._awaited), None)

    def shared_block(self, key: Hashable, copies: int) -> int | None:
        """A block that others were asked for, fewer than ``copies`` of them; of these the one with the fewest."""
        shared = ((len(keys), block) for block, keys in self._awaited.items() if key not in keys and len(keys) < copies)
        return min(shared, default=(0, None))[1]

    def ask(self, block: int, key: Hashable) -> None:
        """``key`` was asked for ``block``."""
        self._awaited.setdefault(block, []).append(key)

    def awaited_from(self, block: int) -> list[Hashable]:
        """Who was asked for ``block``."""
        return self._awaited.get(block, [])

    def forget(self, key: Hashable) -> None:
        """``key`` will bring nothing."""
        for block in [block for block, keys in self._awaited.items() if key in keys]:
            self._awaited[block].remove(key)
            if not self._awaited[block]:
                del self._awaited[block]
        if self.leaves is None and self.leaves_from == key:
            self.leaves_from = None

    def misses(self, first: int, count: int) -> bool:
        """Whether any of these leaves isn't here."""
        return 0 in self._here[first : first + count]

    def store(self, first: int, count: int) -> list[int]:
        """These leaves are here now; the blocks that this completed."""
        self._here[first : first + count] = b"\1" * count
        touched = range(first // BLOCK_LEAVES, (first + count - 1) // BLOCK_LEAVES + 1)
        return [block for block in touched if block in self._blocks and self._is_whole(block)]

    def settle(self, block: int) -> None:
        """A block is complete and awaited no more."""
        self._blocks.discard(block)
        self._awaited.pop(block, None)

    def _is_whole(self, block: int) -> bool:
        return 0 not in self._here[block * BLOCK_LEAVES : (block + 1) * BLOCK_LEAVES]
