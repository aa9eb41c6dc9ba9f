"""What all sessions to one remote socket share: its receive buffer.

Rule: a sender that fills the other side's socket buffer loses its own packets, and calls it congestion. So bytes in
flight are budgeted per remote socket, in what its kernel charges for them.
"""

from __future__ import annotations

from stt_core.types import SessionKey


class RemoteBudget:
    """Bytes in flight to one remote socket, over all sessions to it, in what its kernel will charge for them.

    A datagram costs its receive buffer about the next power of two above its size, so ``limit`` is half of the
    buffer the peer told of (docs/protocol.md, "Buffers").
    """

    __slots__ = ("blocked", "limit", "sessions", "used", "wanted")

    def __init__(self, hint: int) -> None:
        self.limit = hint // 2
        self.used = 0
        self.sessions = 0
        self.blocked: set[SessionKey] = set()
        self.wanted = 0
        """What the last of them waits for."""

    @property
    def has_news(self) -> bool:
        """Whether it is worth waking those that were blocked."""
        return bool(self.blocked) and self.limit - self.used >= self.wanted


def truesize(size: int) -> int:
    """What a receiving kernel charges for a datagram of ``size`` bytes, about."""
    return 1 << (size + 15).bit_length()
