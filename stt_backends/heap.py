"""Memory for large packets, kept rather than fetched from the system and given back for each batch.

glibc returns the top of its heap to the system whenever more than 128 KiB of it are free, and takes it again, and has
it zeroed page by page, for the next block: with packets of 64 KiB that costs more than to seal them. Both its
thresholds follow the largest block it mapped and saw freed (``mallopt(3)``, M_MMAP_THRESHOLD), so one such block is
enough to teach it. Elsewhere this does nothing that would be noticed.
"""

from __future__ import annotations

from functools import cache
from typing import Final

WORKING_SET: Final = 1024 * 1024
"""Bytes that a batch of large packets has in use at once: as plaintexts, ciphertexts and datagrams."""


@cache
def keep_heap() -> None:
    """From now on the heap keeps up to twice :data:`WORKING_SET` that are free; the first call of a process counts."""
    bytearray(WORKING_SET)
