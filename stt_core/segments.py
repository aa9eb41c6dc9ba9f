"""A batch of equal datagrams, cut into columns.

Rule: nothing is called once per datagram. Small ones are copied out by ``struct``, in one pass; large ones are read
where they lie, since to copy one costs more than to look at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

from stt_core.packet import LARGE, SHORT_HEADER

_WIRE = 4
_NAME = SHORT_HEADER - _WIRE


@lru_cache(maxsize=64)
def _cuts(segment: int) -> tuple[Struct, Struct]:
    rest = segment - SHORT_HEADER
    return Struct(f">{_NAME}sI{rest}x"), Struct(f">{SHORT_HEADER}s{rest}s")


def columns(
    buffer: memoryview, segment: int
) -> tuple[tuple[bytes, ...], tuple[int, ...], Sequence[bytes], Sequence[bytes | memoryview]]:
    """Cut protected packets of ``segment`` bytes each, back to back and at least one, into
    ``(first byte and cid, number on the wire, header, ciphertext)``.

    Large ciphertexts are views of ``buffer``.
    """
    by_head, by_body = _cuts(segment)
    names, wires = zip(*by_head.iter_unpack(buffer), strict=True)
    if segment <= LARGE:
        heads, ciphertexts = zip(*by_body.iter_unpack(buffer), strict=True)
        return names, wires, heads, ciphertexts
    starts = range(0, len(buffer), segment)
    views = [buffer[start + SHORT_HEADER : start + segment] for start in starts]
    return names, wires, [bytes(buffer[start : start + SHORT_HEADER]) for start in starts], views
