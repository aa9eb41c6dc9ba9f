"""The hash tree over a content, and the name that follows from it (docs/content.md).

Rule: a content is cut into leaves of 16 KiB, and 256 leaves make a piece. Leaves and inner nodes are BLAKE2b-256 in its
own tree mode (RFC 7693 leaves it to the BLAKE2 paper, section 2.10), so that no leaf can pass for an inner node, nor a
node for one at another place. Where a level has an odd number of nodes, the last is promoted as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

LEAF: Final = 16_384
"""Bytes in a leaf; the last may be shorter. An empty content has one empty leaf."""
PIECE_LEVEL: Final = 8
PIECE_LEAVES: Final = 1 << PIECE_LEVEL
PIECE: Final = LEAF * PIECE_LEAVES
"""Bytes in a piece, 4 MiB: what one list of leaf hashes (8 KiB) vouches for."""
HASH_SIZE: Final = 32
MAX_DEPTH: Final = 64
VERSION: Final = b"\x01"


def leaf_count(size: int) -> int:
    """How many leaves a content of ``size`` bytes has."""
    return max(1, -(-size // LEAF))


def piece_count(size: int) -> int:
    """How many pieces a content of ``size`` bytes has."""
    return max(1, -(-size // PIECE))


def leaves_in(size: int, piece: int) -> int:
    """How many leaves its piece number ``piece`` has."""
    return min(PIECE_LEAVES, leaf_count(size) - piece * PIECE_LEAVES)


def leaf_size(size: int, leaf: int) -> int:
    """How many bytes its leaf number ``leaf`` has."""
    return min(LEAF, size - leaf * LEAF)


def hash_leaf(data: bytes | memoryview, index: int, *, last: bool) -> bytes:
    """32 bytes of leaf number ``index`` of the content; ``last`` where no other follows."""
    return _node(data, 0, index, last)


def combine(nodes: Sequence[bytes], level: int, first: int, width: int) -> list[bytes]:
    """The level above ``nodes``, which stand at ``level`` from position ``first`` (even) on, of ``width`` there."""
    above = -(-width // 2)
    pairs = len(nodes) // 2
    start = first // 2
    joined = [
        _node(nodes[2 * n] + nodes[2 * n + 1], level + 1, start + n, start + n == above - 1) for n in range(pairs)
    ]
    if len(nodes) % 2:
        joined.append(nodes[-1])
    return joined


def hash_piece(leaves: Sequence[bytes], piece: int, size: int) -> bytes:
    """The hash of a piece from the hashes of all its leaves, within a content of ``size`` bytes."""
    return _climb(leaves, 0, piece * PIECE_LEAVES, leaf_count(size), PIECE_LEVEL)


def hash_root(pieces: Sequence[bytes], size: int) -> bytes:
    """The root from the hashes of all pieces."""
    return _climb(pieces, PIECE_LEVEL, 0, piece_count(size), MAX_DEPTH)


def content_id_of(size: int, root: bytes) -> bytes:
    """A content's name, 32 bytes: BLAKE2b-256(0x01 ‖ size u64 ‖ leaf size u32 ‖ root)."""
    head = VERSION + size.to_bytes(8, "big") + LEAF.to_bytes(4, "big")
    return blake2b(head + root, digest_size=HASH_SIZE).digest()


class TreeBuilder:
    """Hashes a content as it streams by; holds 32 bytes for each 4 MiB of it, and a piece's worth of leaf hashes.

    The last leaf is hashed otherwise than the rest, so one leaf waits until more follows or :meth:`finish`.
    """

    __slots__ = ("_buffer", "_done", "_leaves", "_pieces", "size")

    def __init__(self) -> None:
        self.size = 0
        self._buffer = bytearray()
        self._leaves: list[bytes] = []
        self._pieces: list[bytes] = []
        self._done = False

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the content."""
        self.size += len(data)
        view = memoryview(data)
        if self._buffer:
            room = LEAF - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
            if view:
                self._add_leaf(self._buffer, last=False)
                self._buffer.clear()
        start = 0
        while len(view) - start > LEAF:
            self._add_leaf(view[start : start + LEAF], last=False)
            start += LEAF
        self._buffer += view[start:]

    def finish(self) -> tuple[int, list[bytes]]:
        """The content's size in bytes and the hashes of its pieces; nothing can be added any more."""
        if not self._done:
            self._done = True
            self._add_leaf(self._buffer, last=True)
            self._pieces.append(hash_piece(self._leaves, len(self._pieces), self.size))
        return self.size, self._pieces

    def _add_leaf(self, data: bytes | bytearray | memoryview, *, last: bool) -> None:
        index = len(self._pieces) * PIECE_LEAVES + len(self._leaves)
        self._leaves.append(_node(data, 0, index, last))
        if len(self._leaves) == PIECE_LEAVES and not last:
            # More follows, so no node of this piece is the last of its level.
            self._pieces.append(_climb(self._leaves, 0, index + 1 - PIECE_LEAVES, 1 << 60, PIECE_LEVEL))
            self._leaves = []


def _climb(nodes: Sequence[bytes], level: int, first: int, width: int, top: int) -> bytes:
    """Combine ``nodes`` until one is left: it stands at ``top``, or is promoted from there on."""
    row = list(nodes)
    while level < top and len(row) > 1:
        row = combine(row, level, first, width)
        level, first, width = level + 1, first // 2, -(-width // 2)
    return row[0]


def _node(data: bytes | bytearray | memoryview, level: int, index: int, last: bool) -> bytes:
    return blake2b(
        data,
        digest_size=HASH_SIZE,
        fanout=2,
        depth=MAX_DEPTH,
        leaf_size=LEAF,
        node_offset=index,
        node_depth=level,
        inner_size=HASH_SIZE,
        last_node=last,
    ).digest()
