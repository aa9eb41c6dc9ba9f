"""What a fetcher and a provider of a content say to each other, on a stream in message mode (docs/content.md).

Rule: the fetcher names the content first; then questions and answers cross freely, and those to one question come in
order. Nothing here is believed: lengths and ranges are checked, hashes are the planner's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from struct import error as struct_error
from typing import Any, Final, TypeAlias, TypeVar

from stt_core.content.tree import HASH_SIZE, LEAF, PIECE_LEAVES
from stt_core.errors import protocol_violation

BLOCK_LEAVES: Final = 16
"""Leaves of a block, what is asked for at once: 256 KiB."""
RUN_LEAVES: Final = 4
"""Leaves of a run, what one message brings: 64 KiB at most."""
BLOCKS_IN_PIECE: Final = PIECE_LEAVES // BLOCK_LEAVES
MOST_HASHES: Final = 4096
"""Hashes of pieces that one answer may bring."""


class Kind(IntEnum):
    """The first byte of each message."""

    WANT = 0x01
    ASK_PIECES = 0x02
    ASK_LEAVES = 0x03
    ASK_BLOCK = 0x04
    CANCEL = 0x05
    HOLDING = 0x81
    PIECES = 0x82
    LEAVES = 0x83
    RUN = 0x84
    GAINED = 0x85
    REFUSED = 0x86


class Refusal(IntEnum):
    """Why a provider will not serve."""

    UNKNOWN = 1
    BUSY = 2
    GONE = 3


_WANT: Final = Struct(f">B{HASH_SIZE}s")
_ASK_PIECES: Final = Struct(">BIH")
_PIECE: Final = Struct(">BI")
_BLOCK: Final = Struct(">BIB")
_HOLDING: Final = Struct(">BQ")
_REFUSED: Final = Struct(">BB")


@dataclass(frozen=True, slots=True)
class Want:
    """The fetcher's first message: which content the stream is about, 32 bytes."""

    content_id: bytes

    def encode(self) -> bytes:
        """The message."""
        return _WANT.pack(Kind.WANT, self.content_id)


@dataclass(frozen=True, slots=True)
class AskPieces:
    """For the hashes of ``count`` pieces from number ``first`` on."""

    first: int
    count: int

    def encode(self) -> bytes:
        """The message."""
        return _ASK_PIECES.pack(Kind.ASK_PIECES, self.first, self.count)


@dataclass(frozen=True, slots=True)
class AskLeaves:
    """For the hashes of a piece's leaves."""

    piece: int

    def encode(self) -> bytes:
        """The message."""
        return _PIECE.pack(Kind.ASK_LEAVES, self.piece)


@dataclass(frozen=True, slots=True)
class AskBlock:
    """For block number ``block`` of a piece, 0 to 15."""

    piece: int
    block: int

    def encode(self) -> bytes:
        """The message."""
        return _BLOCK.pack(Kind.ASK_BLOCK, self.piece, self.block)


@dataclass(frozen=True, slots=True)
class Cancel:
    """A block is needed no more; what is under way may come still."""

    piece: int
    block: int

    def encode(self) -> bytes:
        """The message."""
        return _BLOCK.pack(Kind.CANCEL, self.piece, self.block)


@dataclass(frozen=True, slots=True)
class Holding:
    """The answer to :class:`Want`: the content's size in bytes, and a bit for each piece, the first one highest."""

    size: int
    pieces: bytes

    def encode(self) -> bytes:
        """The message."""
        return _HOLDING.pack(Kind.HOLDING, self.size) + self.pieces


@dataclass(frozen=True, slots=True)
class Pieces:
    """Hashes of pieces from number ``first`` on, back to back."""

    first: int
    hashes: bytes

    def encode(self) -> bytes:
        """The message."""
        return _PIECE.pack(Kind.PIECES, self.first) + self.hashes


@dataclass(frozen=True, slots=True)
class Leaves:
    """The hashes of a piece's leaves."""

    piece: int
    hashes: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The message."""
        return _PIECE.pack(Kind.LEAVES, self.piece) + b"".join(self.hashes)


@dataclass(frozen=True, slots=True)
class Run:
    """Up to four leaves of the content, from number ``leaf`` on."""

    leaf: int
    data: bytes

    def encode(self) -> bytes:
        """The message."""
        return _PIECE.pack(Kind.RUN, self.leaf) + self.data


@dataclass(frozen=True, slots=True)
class Gained:
    """The provider has one more piece now."""

    piece: int

    def encode(self) -> bytes:
        """The message."""
        return _PIECE.pack(Kind.GAINED, self.piece)


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider will not serve this content."""

    refusal: Refusal

    def encode(self) -> bytes:
        """The message."""
        return _REFUSED.pack(Kind.REFUSED, self.refusal)


_T = TypeVar("_T")
Question: TypeAlias = Want | AskPieces | AskLeaves | AskBlock | Cancel
Answer: TypeAlias = Holding | Pieces | Leaves | Run | Gained | Refused


def parse_question_untrusted(message: bytes) -> Question:
    """What a fetcher says.

    :raises Violation: on anything else.
    """
    return _parse(message, _QUESTIONS)


def parse_answer_untrusted(message: bytes) -> Answer:
    """What a provider says.

    :raises Violation: on anything else.
    """
    return _parse(message, _ANSWERS)


def pack_bits(flags: bytes | bytearray) -> bytes:
    """A bit for each byte of ``flags``, set where that isn't zero, the first one highest."""
    size = -(-len(flags) // 8)
    bits = bytes(flags).translate(_DIGITS).ljust(8 * size, b"0")
    return int(bits, 2).to_bytes(size, "big") if size else b""


def unpack_bits_untrusted(bits: bytes, count: int) -> bytearray:
    """The inverse: ``count`` bytes, each 0 or 1.

    :raises Violation: where there are more or fewer bits, or a padding bit is set.
    """
    size = -(-count // 8)
    if len(bits) != size:
        raise protocol_violation(f"{len(bits)} bytes of bits, expected {size}")
    digits = f"{int.from_bytes(bits, 'big'):0{8 * size}b}".encode() if size else b""
    if b"1" in digits[count:]:
        raise protocol_violation("a bit is set for a piece that isn't there")
    return bytearray(digits[:count].translate(_FLAGS))


_DIGITS: Final = bytes([ord("0")] + [ord("1")] * 255)
_FLAGS: Final = bytes(1 if byte == ord("1") else 0 for byte in range(256))


def _want(message: bytes) -> Want:
    return Want(_exactly(_WANT, message)[1])


def _ask_pieces(message: bytes) -> AskPieces:
    _, first, count = _exactly(_ASK_PIECES, message)
    if not 1 <= count <= MOST_HASHES:
        raise protocol_violation(f"asked for {count} hashes, expected 1 to {MOST_HASHES}")
    return AskPieces(first, count)


def _ask_leaves(message: bytes) -> AskLeaves:
    return AskLeaves(_exactly(_PIECE, message)[1])


def _ask_block(message: bytes) -> AskBlock:
    return AskBlock(*_block(message))


def _cancel(message: bytes) -> Cancel:
    return Cancel(*_block(message))


def _block(message: bytes) -> tuple[int, int]:
    _, piece, block = _exactly(_BLOCK, message)
    if block >= BLOCKS_IN_PIECE:
        raise protocol_violation(f"block {block}, expected 0 to {BLOCKS_IN_PIECE - 1}")
    return piece, block


def _holding(message: bytes) -> Holding:
    return Holding(_HOLDING.unpack_from(message)[1], message[_HOLDING.size :])


def _pieces(message: bytes) -> Pieces:
    hashes = message[_PIECE.size :]
    if not hashes or len(hashes) % HASH_SIZE or len(hashes) > MOST_HASHES * HASH_SIZE:
        raise protocol_violation(f"{len(hashes)} bytes of piece hashes")
    return Pieces(_PIECE.unpack_from(message)[1], hashes)


def _leaves(message: bytes) -> Leaves:
    hashes = message[_PIECE.size :]
    if not hashes or len(hashes) % HASH_SIZE or len(hashes) > PIECE_LEAVES * HASH_SIZE:
        raise protocol_violation(f"{len(hashes)} bytes of leaf hashes")
    each = tuple(hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE))
    return Leaves(_PIECE.unpack_from(message)[1], each)


def _run(message: bytes) -> Run:
    data = message[_PIECE.size :]
    if len(data) > RUN_LEAVES * LEAF:
        raise protocol_violation(f"a run of {len(data)} bytes, expected at most {RUN_LEAVES * LEAF}")
    return Run(_PIECE.unpack_from(message)[1], data)


def _gained(message: bytes) -> Gained:
    return Gained(_exactly(_PIECE, message)[1])


def _refused(message: bytes) -> Refused:
    return Refused(Refusal(_exactly(_REFUSED, message)[1]))


_QUESTIONS: Final[dict[int, Callable[[bytes], Question]]] = {
    Kind.WANT: _want,
    Kind.ASK_PIECES: _ask_pieces,
    Kind.ASK_LEAVES: _ask_leaves,
    Kind.ASK_BLOCK: _ask_block,
    Kind.CANCEL: _cancel,
}
_ANSWERS: Final[dict[int, Callable[[bytes], Answer]]] = {
    Kind.HOLDING: _holding,
    Kind.PIECES: _pieces,
    Kind.LEAVES: _leaves,
    Kind.RUN: _run,
    Kind.GAINED: _gained,
    Kind.REFUSED: _refused,
}


def _parse(message: bytes, parsers: dict[int, Callable[[bytes], _T]]) -> _T:
    parser = parsers.get(message[0]) if message else None
    if parser is None:
        raise protocol_violation(f"a message of an unknown kind: {message[:1].hex() or 'empty'}")
    try:
        return parser(message)
    except (struct_error, ValueError) as error:
        raise protocol_violation(f"a malformed message: {error}") from None


def _exactly(shape: Struct, message: bytes) -> tuple[Any, ...]:
    return shape.unpack(message)
