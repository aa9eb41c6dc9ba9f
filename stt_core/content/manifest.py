"""What a content consists of: its size and the hashes of its pieces, held to be true by the content's name.

Rule: a manifest comes from anybody; it exists as an object only once it gave the name that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stt_core.content.tree import (
    HASH_SIZE,
    PIECE,
    TreeBuilder,
    content_id_of,
    hash_leaf,
    hash_piece,
    hash_root,
    leaf_count,
    leaf_size,
    leaves_in,
    piece_count,
)
from stt_core.errors import protocol_violation

MAX_PIECES: Final = 1 << 17
"""The most pieces a content may have: half a tebibyte, and a manifest of 4 MiB."""
MAX_SIZE: Final = MAX_PIECES * PIECE


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parts of one content; ``content_id`` (32 bytes) is its name, ``pieces`` their hashes in order."""

    content_id: bytes
    size: int
    pieces: tuple[bytes, ...]

    @classmethod
    def from_builder(cls, builder: TreeBuilder) -> Manifest:
        """Of a content that was hashed from its first byte to its last."""
        size, pieces = builder.finish()
        return cls(content_id_of(size, hash_root(pieces, size)), size, tuple(pieces))

    @classmethod
    def parse_untrusted(cls, content_id: bytes, size: int, hashes: bytes) -> Manifest:
        """What a provider says the content named ``content_id`` is: ``hashes`` of its pieces, back to back.

        :raises Violation: unless it is so.
        """
        check_size_untrusted(size)
        if len(hashes) != HASH_SIZE * piece_count(size):
            raise protocol_violation(f"{len(hashes)} bytes of piece hashes, expected {HASH_SIZE * piece_count(size)}")
        pieces = [hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)]
        if content_id_of(size, hash_root(pieces, size)) != content_id:
            raise protocol_violation("these pieces are of another content")
        return cls(content_id, size, tuple(pieces))

    @property
    def hashes(self) -> bytes:
        """The pieces' hashes back to back, as :meth:`parse_untrusted` takes them."""
        return b"".join(self.pieces)

    def check_leaves_untrusted(self, piece: int, leaves: tuple[bytes, ...]) -> None:
        """Hold ``leaves`` to be the leaf hashes of that piece.

        :raises Violation: where they aren't.
        """
        if len(leaves) != leaves_in(self.size, piece) or hash_piece(leaves, piece, self.size) != self.pieces[piece]:
            raise protocol_violation(f"the leaf hashes of piece {piece} are wrong")

    def check_run_untrusted(self, first: int, data: bytes | memoryview, hashes: tuple[bytes, ...]) -> None:
        """Hold ``data`` to be the leaves from number ``first`` on that have these ``hashes``.

        :raises Violation: where they aren't, or are more or fewer.
        """
        at = 0
        last = leaf_count(self.size) - 1
        view = memoryview(data)
        for index, expected in enumerate(hashes, first):
            length = leaf_size(self.size, index)
            leaf = view[at : at + length]
            if len(leaf) != length or hash_leaf(leaf, index, last=index == last) != expected:
                raise protocol_violation(f"leaf {index} is not what its hash says")
            at += length
        if at != len(view):
            raise protocol_violation(f"{len(view) - at} bytes more than asked for")


def check_size_untrusted(size: int) -> None:
    """Hold a provider's word for a content's size to be possible.

    :raises Violation: where it isn't.
    """
    if size > MAX_SIZE:
        raise protocol_violation(f"a content of {size} bytes, expected at most {MAX_SIZE}")
