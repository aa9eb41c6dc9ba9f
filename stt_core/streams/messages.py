"""Message boundaries inside a stream: each message is its length in LEB128, then its bytes.

Rule: the length stands before the bytes, so an empty, a tiny and a huge message are all unambiguous, and a reader
knows how much is still to come before it holds it (docs/protocol.md, "Messages").
"""

from __future__ import annotations

from typing import Final

from stt_core.errors import ErrorCode, Violation

MAX_PREFIX: Final = 5
"""Bytes of the longest prefix."""
MAX_LENGTH: Final = (1 << 7 * MAX_PREFIX) - 1
"""The longest message a prefix can announce, in bytes, whatever both sides' ``max_message`` say."""


_SHORT: Final = [bytes((length,)) for length in range(0x80)]


def length_prefix(length: int) -> bytes:
    """LEB128 of ``length``, 0 to :data:`MAX_LENGTH`: 7 bits a byte, the lowest first."""
    if length < 0x80:
        return _SHORT[length]
    prefix = bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix)


def parse_length_untrusted(head: bytes) -> tuple[int, int] | None:
    """``(message length, prefix length)`` from a stream's next bytes; None where more of them are needed.

    Only the shortest form of a length is one, so that a message has one encoding.

    :raises Violation: FRAME_ENCODING, on a longer form or one above :data:`MAX_PREFIX` bytes.
    """
    if head and head[0] < 0x80:  # most messages that are read one by one are short
        return head[0], 1
    if len(head) > 1 and 0 < head[1] < 0x80:
        return head[0] & 0x7F | head[1] << 7, 2
    length = 0
    for position, byte in enumerate(head[:MAX_PREFIX]):
        length |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            if position and not byte:
                raise Violation(ErrorCode.FRAME_ENCODING, "a message's length is not in its shortest form")
            return length, position + 1
    if len(head) >= MAX_PREFIX:
        raise Violation(ErrorCode.FRAME_ENCODING, f"a message's length takes more than {MAX_PREFIX} bytes")
    return None
