"""Repeatable entropy: a finding must happen again when its bytes are played again."""

from __future__ import annotations

import hashlib
from itertools import count

from stt_core.types import Entropy


def entropy_of(name: str) -> Entropy:
    """A stream of bytes that depends on ``name`` alone."""
    serial = count()

    def draw(size: int) -> bytes:
        return hashlib.shake_256(f"{name}:{next(serial)}".encode()).digest(size)

    return draw
