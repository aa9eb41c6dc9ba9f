"""What all sessions to one remote socket share: its receive buffer.

Rule: a sender that fills the other side's socket buffer loses its own packets, and calls it congestion. So bytes in
flight are budgeted per remote socket, in what its kernel charges for them.
"""

from __future__ import annotations

from stt_core.types import SessionKey


class RemoteBudget:
    """Bytes in flight to one remote socket, over all sessions to it, in what its kernel will charge for them.

    A datagram costs its receive buffer more than its size, see :func:`truesize`, and others may send there, too: so
    ``limit`` is half of the buffer the peer told of (docs/protocol.md, "Buffers").
    """

    __slots__ = ("blocked", "limit", "sessions", "used", "wanted")

    def __init__(self, hint: int) -> None:
        self.limit = hint // 2
        self.used = 0
        self.sessions: set[SessionKey] = set()
        self.blocked: dict[SessionKey, None] = {}
        """Those that wait for room, the one that has waited longest first."""
        self.wanted = 0
        """What the last of them waits for."""

    @property
    def has_news(self) -> bool:
        """Whether it is worth waking those that were blocked."""
        return bool(self.blocked) and self.limit - self.used >= self.wanted


BOOKKEEPING = 1100
"""Bytes a receiving kernel charges for a datagram beside its own: Linux' headers, and what rounding up wastes. One of
1200 bytes costs 2304, unless it came in a segmented batch; a small one costs 768."""


def truesize(size: int, packets: int = 1) -> int:
    """What a receiving kernel charges for ``packets`` datagrams of ``size`` bytes in all, about."""
    return size + packets * BOOKKEEPING
