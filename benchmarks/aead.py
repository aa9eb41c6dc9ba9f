"""The time of one AEAD call, the measure beside every figure: the speed of one machine drifts by half and more."""

from __future__ import annotations

from time import perf_counter

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CALLS = 20_000
PLAIN = bytes(1171)
"""What a full data packet of 1200 bytes seals: 13 bytes of header and a tag of 16 are around it."""


def aead_time() -> float:
    """Microseconds that one AES-256-GCM call on a packet of 1200 bytes takes now."""
    encrypt = AESGCM(bytes(32)).encrypt
    begun = perf_counter()
    for _ in range(CALLS):
        encrypt(b"twelve bytes", PLAIN, b"thirteen more")
    return 1e6 * (perf_counter() - begun) / CALLS
