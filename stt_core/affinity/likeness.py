"""A hash whose first four bytes are alike where the content is alike.

A cryptographic hash puts two versions of one file nowhere near each other, by design. So the leading bytes come from a
SimHash (Charikar, "Similarity estimation techniques from rounding algorithms", 2002) instead: each distinct run of
eight bytes votes on each of 32 bits, and a bit is what most vote for. Content that shares most of its runs shares most
of the votes. The other 28 bytes are a BLAKE2b digest, and tell contents apart.

Rule: nothing is secret here and nothing is proved: whoever writes the content chooses where it lands.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from struct import pack, unpack_from
from typing import Final

from stt_core.config import check_bytes

PREFIX_SIZE: Final = 4
"""Bytes that say where content lands; the rest tells contents apart that land in one place."""
HASH_SIZE: Final = 32
SHINGLE: Final = 8
"""Bytes in a shingle: a word or two of text, so that what all texts share is few of them."""
WINDOWS: Final = 64
WINDOW: Final = 4096
"""Of content longer than WINDOWS * WINDOW bytes so many windows are read, evenly spread: to read ten gigabytes would
take an hour. What is inserted before a window moves it by less than itself, so most of it stays in sight."""
_MIX: Final = 0x9E3779B97F4A7C15
_MASK: Final = 2**64 - 1


def affinity_hash(data: bytes, group: str | bytes | None = None) -> bytes:
    """32 bytes for ``ContentAffinityPool``: alike in the first four where ``data`` is alike, distinct in the rest.

    ``group`` names what the content belongs to (a project, a film, a customer) where the caller knows better than the
    bytes can tell: then the first four bytes are the name's alone. Two versions of a text differ in a few of the 32
    bits, two unrelated ones in about 16: it wants the ``"hamming"`` metric, but with ``group`` any.
    """
    if group is None:
        prefix = _simhash(data)
    else:
        name = group.encode() if isinstance(group, str) else group
        check_bytes("group", name, 0, 2**16)
        prefix = blake2b(name, digest_size=PREFIX_SIZE, person=b"STT1 group").digest()
    return prefix + blake2b(data, digest_size=HASH_SIZE - PREFIX_SIZE, person=b"STT1 affinity").digest()


def _simhash(data: bytes) -> bytes:
    """Four bytes: the votes of all distinct shingles, by majority."""
    shingles = _shingles(data)
    if not shingles:
        return blake2b(data, digest_size=PREFIX_SIZE, person=b"STT1 short").digest()
    hashes = [(shingle * _MIX & _MASK) >> 32 for shingle in shingles]
    packed = pack(f">{len(hashes)}I", *hashes)
    prefix = bytearray(PREFIX_SIZE)
    for at in range(PREFIX_SIZE):
        counts = Counter(packed[at::PREFIX_SIZE])
        for bit in range(8):
            votes = sum(count for value, count in counts.items() if value >> bit & 1)
            if 2 * votes > len(hashes):
                prefix[at] |= 1 << bit
    return bytes(prefix)


def _shingles(data: bytes) -> set[int]:
    """Every run of eight bytes, once: what is repeated, as blanks are, would outvote the rest."""
    if len(data) <= WINDOWS * WINDOW:
        return _runs(data)
    step = (len(data) - WINDOW) / (WINDOWS - 1)
    starts = [round(step * index) for index in range(WINDOWS)]
    return set().union(*(_runs(data[start : start + WINDOW]) for start in starts))


def _runs(data: bytes) -> set[int]:
    found: set[int] = set()
    for offset in range(min(SHINGLE, max(0, len(data) - SHINGLE + 1))):
        found.update(unpack_from(f"<{(len(data) - offset) // SHINGLE}Q", data, offset))
    return found
