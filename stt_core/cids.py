"""Connection ids that show their age to those who made them.

Rule: an endpoint must not hand out the reset token of a connection id that may yet become a session. A responder
keeps nothing before an AUTH_PROOF, so it can't look its young ids up: they carry a mark of the time instead. Whoever
lacks the key sees eight random bytes.
"""

from __future__ import annotations

import hmac
from typing import Final

from stt_core.types import Entropy

EPOCH: Final = 30.0
"""Seconds an id is young at least; a handshake's cookie and its pending session live 20 together."""
RANDOM: Final = 6
MARK: Final = 2


class CidMint:
    """Makes 8-byte connection ids and tells young ones; one id in 2^15 is taken for young wrongly, and harmlessly."""

    __slots__ = ("_began", "_current", "_entropy", "_previous")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._current = entropy(16)
        self._previous = b""
        self._began: float | None = None

    def mint(self, now: float) -> bytes:
        """A fresh id."""
        self._turn(now)
        noise = self._entropy(RANDOM)
        return noise + _mark(self._current, noise)

    def is_young(self, cid: bytes, now: float) -> bool:
        """Whether ``cid`` was made here less than one to two epochs ago."""
        self._turn(now)
        noise, mark = cid[:RANDOM], cid[RANDOM:]
        keys = [key for key in (self._current, self._previous) if key]
        return any(hmac.compare_digest(mark, _mark(key, noise)) for key in keys)

    def _turn(self, now: float) -> None:
        if self._began is None:
            self._began = now
        elif now - self._began >= EPOCH:
            self._previous = self._current if now - self._began < 2 * EPOCH else b""
            self._current = self._entropy(16)
            self._began = now


def _mark(key: bytes, noise: bytes) -> bytes:
    return hmac.digest(key, noise, "sha256")[:MARK]
