"""Masking, RFC 6455 section 5.3: each byte a client sends, XORed with one of the four of a key that nobody foresees.

Rule: all of it is XOR, and Python has no XOR of bytes. So where the ``websockets`` library is installed (the extra
``speedups``) its function in C does it, at a sixtieth of the time; the one in Python gives the same bytes anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Final

Buffer = bytes | bytearray | memoryview
Mask = Callable[[Buffer, bytes | bytearray], bytes | bytearray]
"""Data under a masking key of 4 bytes; a second time gives it back. The data isn't changed."""

_FEW: Final = 400
"""Bytes up to which one long integer is the quickest to mask."""


@cache
def masker() -> Mask:
    """The quickest there is. Looked for when it is needed first: who speaks UDP alone pays for no import."""
    try:
        from websockets.speedups import apply_mask  # noqa: PLC0415
    except ImportError:
        return masked
    mask: Mask = apply_mask
    return mask


@lru_cache(maxsize=256)
def _translation(key: int) -> bytes:
    """What each byte becomes under one byte of a key."""
    return bytes(byte ^ key for byte in range(256))


def masked(data: Buffer, key: bytes | bytearray) -> bytes | bytearray:
    """A :data:`Mask` in Python."""
    size = len(data)
    if size <= _FEW:
        keys = (key * (size // 4 + 1))[:size]
        return (int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")).to_bytes(size, "little")
    # Each fourth byte has the same byte of the key, so a lane of them is one translation.
    result = bytearray(data)
    for lane in range(4):
        result[lane::4] = result[lane::4].translate(_translation(key[lane]))
    return result
