"""What all sessions to one remote socket share: its receive buffer.

Rule: a sender that fills the other side's socket buffer loses its own packets, and calls it congestion. So bytes in
flight are budgeted per remote socket, in what its kernel charges for them.
"""

from __future__ import annotations

from stt_core.rtt import GRANULARITY
from stt_core.types import SessionKey


class RemoteBudget:
    """Bytes in flight to one remote socket, over all sessions to it, in what its kernel will charge for them.

    A datagram costs its receive buffer more than its size, see :func:`truesize`, and others may send there, too: so
    ``limit`` is half of the buffer the peer told of (docs/protocol.md, "Buffers"). What is on the wire is not in the
    buffer: each session counts the part that waits, see :func:`waiting`.
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

    def share_left(self, key: SessionKey, held: int, cost: int) -> int:
        """How many packets of ``cost`` the session ``key``, which holds ``held``, may add while others wait: up to an
        equal part for each of them and itself, the last packet rounded up.

        A session's own ACKs make its room, so who fills the buffer once would have it for ever, and leave all others a
        packet a round trip. And as long as there is room, one of those that wait has not got its part.
        """
        others = len(self.blocked) - (key in self.blocked)
        return (self.limit // (others + 1) - held + cost - 1) // cost


BOOKKEEPING = 1100
"""Bytes a receiving kernel charges for a datagram beside its own: Linux' headers, and what rounding up wastes. One of
1200 bytes costs 2304, unless it came in a segmented batch; a small one costs 768."""


def truesize(size: int, packets: int = 1) -> int:
    """What a receiving kernel charges for ``packets`` datagrams of ``size`` bytes in all, about."""
    return size + packets * BOOKKEEPING


WHOLE = 256
"""What :func:`waiting` counts in: all of it."""
LEAST_WAITING = WHOLE // 8
"""The part that counts at least, for what arrives while the receiver does something else."""

SMALL = 64 * 1024
"""A limit below this many bytes, less than three bursts of ten packets, is taken at its word."""


def waiting(minimum: float, smoothed: float) -> int:
    """How much of what is in flight waits in some queue, perhaps the last one, in 256ths: by how much a round trip of
    ``smoothed`` seconds is longer than the least one.

    The rest fills the path. On a long one that is nearly everything, and a sender that counted it would be held to half
    a socket buffer a round trip. Round trips of less than a millisecond tell little of queues, and excuse less.
    """
    return max(LEAST_WAITING, WHOLE - int(WHOLE * minimum / max(smoothed, GRANULARITY)))
