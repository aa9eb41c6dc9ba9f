"""Leave to store something, bound to the address it was given to (BEP 5).

A token shows that whoever asks to store something can read what is sent to its address: so nobody can put another's
address into a record.

Rule: nothing is kept per token, and a token is good for ten minutes at most.
"""

from __future__ import annotations

import hmac
from typing import Final

from stt_core.dht.ids import pack_host
from stt_core.keys import mac
from stt_core.types import Entropy

TOKEN_SIZE: Final = 8
EPOCH: Final = 300.0


class Tokens:
    """Gives tokens and knows its own again, from this epoch and the one before it."""

    __slots__ = ("_current", "_entropy", "_previous", "_until")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._current = entropy(32)
        self._previous = entropy(32)
        self._until: float | None = None

    def give(self, host: str, node_id: bytes, now: float) -> bytes:
        """A token for that node at that host."""
        self._turn(now)
        return _token(self._current, host, node_id)

    def holds(self, token: bytes, host: str, node_id: bytes, now: float) -> bool:
        """Whether this token was given to that node at that host lately."""
        self._turn(now)
        genuine = (_token(key, host, node_id) for key in (self._current, self._previous))
        return any(hmac.compare_digest(token, each) for each in genuine)

    def _turn(self, now: float) -> None:
        if self._until is None:
            self._until = now + EPOCH
        if now >= self._until:
            self._previous = self._current if now < self._until + EPOCH else self._entropy(32)
            self._current = self._entropy(32)
            self._until = now + EPOCH


def _token(key: bytes, host: str, node_id: bytes) -> bytes:
    return mac(key, pack_host(host) + node_id)[:TOKEN_SIZE]
