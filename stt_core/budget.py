"""What all sessions to one remote socket share: its receive buffer.

Rule: a sender that fills the other side's socket buffer loses its own packets, and calls it congestion. So bytes in
flight are budgeted per remote socket, in what its kernel charges for them.
"""

from __future__ import annotations

from stt_core.types import Path, SessionKey


class RemoteBudget:
    """Bytes in flight to one remote socket, over all sessions to it, in what its kernel will charge for them.

    A datagram costs its receive buffer more than its size, see :func:`truesize`, and others may send there, too: so
    ``limit`` is half of the buffer the peer told of (docs/protocol.md, "Buffers"). What is on the wire is not in the
    buffer: each session counts the part that can be there at once, see :func:`part_at_once`.
    """

    __slots__ = ("blocked", "limit", "path", "sessions", "used", "wanted", "woken")

    def __init__(self, hint: int, path: Path | None = None) -> None:
        self.path = path
        """Where it is; None where nobody else sends."""
        self.limit = hint // 2
        self.used = 0
        self.sessions: set[SessionKey] = set()
        self.blocked: dict[SessionKey, None] = {}
        """Those that wait for room, the one that has waited longest first."""
        self.woken: set[SessionKey] = set()
        """Those that had waited and were called: they may take what others wait for."""
        self.wanted = 0
        """What the last of them waits for."""

    @property
    def has_news(self) -> bool:
        """Whether it is worth waking one more of those that were blocked: there must be room for it beside those that
        were called and have not sent yet, or all would come, and all but the first go away again."""
        if not self.blocked:
            return False
        called = len(self.woken)
        return self.limit - self.used >= self.wanted * (called + 1) or not (self.used or called)

    def forget(self, key: SessionKey) -> None:
        """That session is over."""
        self.sessions.discard(key)
        self.woken.discard(key)
        self.blocked.pop(key, None)

    def room(self, key: SessionKey, charged: int, cost: int, packets: int) -> int:
        """How many datagrams, ``cost`` bytes each, session ``key`` may send of the ``packets`` it has, at least one.

        It has ``charged`` in flight now. Where others have, too, it gets no scraps: it stands in a queue until enough
        is free for all it would send at once, or a share of the whole. A thousand sessions that each send a packet
        whenever one was acknowledged would pay a poll, a system call and an ACK for each packet.
        """
        called = key in self.woken
        self.woken.discard(key)
        room = (self.limit - self.used) // cost
        least = min(packets, max(1, self.limit // (SHARES * cost)))
        others = bool(self.woken) or len(self.blocked) > (key in self.blocked)
        if self.used == charged and not others:
            return max(room, not charged)
        if least == 1 and room < 1 and not charged:
            return 1  # nobody starves who has little to say: each session may keep one packet in flight
        if room < least or (packets > 1 and others and not called):
            self.blocked[key] = None
            self.wanted = least * cost
            return 0
        return room


SHARES = 16
"""Sessions among which a remote's budget is divided at least; the more of it one may take at once, the less a byte
costs, and the longer the others wait."""
BOOKKEEPING = 1100
"""Bytes a receiving kernel charges for a datagram beside its own: Linux' headers, and what rounding up wastes. One of
1200 bytes costs 2304, unless it came in a segmented batch; a small one costs 768."""


def truesize(size: int, packets: int = 1) -> int:
    """What a receiving kernel charges for ``packets`` datagrams of ``size`` bytes in all, about."""
    return size + packets * BOOKKEEPING


WHOLE = 256
"""What :func:`part_at_once` counts in: all of it."""
AWAY = 0.010
"""Seconds for which a receiver may not look at its socket: half of the buffer holds what arrives meanwhile, and the
other half is for when it takes longer."""
SMALL = 64 * 1024
"""A limit below this many bytes, less than three bursts of ten packets, is taken at its word."""


def part_at_once(rtt: float) -> int:
    """How much of what is in flight, paced over ``rtt`` seconds, arrives while the receiver is away, in 256ths.

    The rest is still on its way by then. A sender that counted it would be held to half a socket buffer a round trip,
    on a long road less than such a buffer can take by far.
    """
    return WHOLE if rtt <= AWAY else max(1, int(WHOLE * AWAY / rtt))
