"""How large a datagram may be: packetization layer path MTU discovery, RFC 8899, as QUIC does it (RFC 9000 section 14).

Rule: a size is used only once a probe of that size arrived. Probes are packets of nothing but padding; that one is lost
tells nothing of congestion. All sizes are of UDP payloads, in bytes, all times are monotonic seconds.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf

BASE = 1200
"""What every path carries (RFC 9000 section 14)."""
LADDER = (BASE, 1452, 8800, 8900, 16_368, 65_472)
"""Sizes worth having: Ethernet with IPv6, jumbo frames of clouds (8896) and of others (9000), a quarter of what one
system call takes, and all of it."""
FINEST = 64
"""Below the second step the search goes on by halves, as tunnels take off an odd number of bytes, until this little is
left to win. Above it steps lie far apart, and there is rarely anything between them."""
MAX_PROBES = 3
"""Probes of one size that must be lost for it to be too large (RFC 8899 section 5.1.2)."""
RAISE_AFTER = 600.0
"""Seconds until a search that ended below its limit is taken up again (PMTU_RAISE_TIMER)."""
FIRST_COOLDOWN = 1.0
"""Seconds from a black hole to the next search; doubled each time, up to :data:`RAISE_AFTER`. Short at first because
an outage looks the same, and large datagrams are worth a lot where they work."""
SUSPICIOUS_LOSSES = 3
"""Times in a row that large packets were lost while only small ones arrived, to make a black hole."""
SUSPICIOUS_PTOS = 3
"""Probe timeouts in a row with a large packet in flight, to make a black hole."""


def size_limit(ours: int, peers: int, receive_buffer_hint: int) -> int:
    """The largest datagram to look for: what both sides take, and an eighth of the peer's receive buffer, which must
    hold several.
    """
    return max(BASE, min(ours, peers, receive_buffer_hint // 8))


@lru_cache(maxsize=16)
def _steps(limit: int) -> tuple[int, ...]:
    """The sizes to look for up to ``limit``: the same for most sessions of an endpoint."""
    return tuple(step for step in LADDER[1:] if step <= limit) or (limit,)


class MtuSearch:
    """The search on one path, from :data:`BASE` up to ``limit``.

    ``size`` is what datagrams may have now. ``wanted`` is the size of a probe to send as soon as possible, or 0; it is
    0 while a probe is underway, and when the search rests. From ``resume_at`` on :meth:`resume` is due, though there is
    no hurry and no timer: a session that sends nothing needs no larger datagrams.
    """

    __slots__ = (
        "_ceiling", "_cooldown", "_losses", "_probing", "_steps", "_tries", "limit", "resume_at", "size", "wanted",
    )  # fmt: skip

    def __init__(self, limit: int) -> None:
        self.limit = max(limit, BASE)
        self._steps = _steps(self.limit)
        self.restart()

    def restart(self) -> None:
        """Begin at :data:`BASE`, on a path of which nothing is known."""
        self.size = BASE
        self.wanted = 0
        self._ceiling = self.limit + 1
        """The least size known not to work."""
        self._probing = 0
        """Size of the probe underway, or that is wanted again after it was lost."""
        self._tries = 0
        self._losses = 0
        self._cooldown = FIRST_COOLDOWN
        self._aim(-inf)

    @property
    def suspicious(self) -> bool:
        """Whether large packets were lost and none has arrived since: whoever knows of one should say so."""
        return self._losses > 0

    # Probes.

    def on_probe_sent(self) -> None:
        """The wanted probe has left."""
        self._probing = self.wanted
        self.wanted = 0

    def on_probe_acked(self, now: float) -> bool:
        """The probe underway arrived; True where datagrams may be larger now."""
        if not self._probing:
            return False  # given up on before
        self.size = self._probing
        self._losses = 0
        self._aim(now)
        return True

    def on_probe_lost(self, now: float) -> None:
        """The probe underway was lost."""
        if not self._probing:
            return
        self._tries += 1
        if self._tries < MAX_PROBES:
            self.wanted = self._probing
        else:
            self._ceiling = self._probing
            self._aim(now)

    def on_too_big(self, size: int, now: float) -> bool:
        """The system refused to send ``size`` bytes (EMSGSIZE); True where datagrams must be smaller now."""
        if size <= BASE:
            return False
        self._ceiling = min(self._ceiling, size)
        too_large = size <= self.size
        if too_large:
            self.size = BASE
        if too_large or size <= max(self._probing, self.wanted):
            self._aim(now)
        return too_large

    # Black holes (RFC 8899 section 4.3).

    def on_large_acked(self) -> None:
        """A packet larger than :data:`BASE` arrived."""
        self._losses = 0

    def on_large_lost(self, now: float) -> bool:
        """An ACK or a timer showed packets larger than :data:`BASE` to be lost, and none to have arrived; True where
        that makes a black hole, and datagrams must be smaller now.
        """
        self._losses += 1
        return self._losses >= SUSPICIOUS_LOSSES and self._fall(now)

    def on_silence(self, ptos: int, now: float) -> bool:
        """The ``ptos``-th probe timeout in a row, with packets larger than :data:`BASE` in flight; True as above."""
        return ptos >= SUSPICIOUS_PTOS and self._fall(now)

    def _fall(self, now: float) -> bool:
        if self.size == BASE:
            return False
        cooldown = self._cooldown
        self.restart()
        self.wanted = 0
        self.resume_at = now + cooldown
        self._cooldown = min(2 * cooldown, RAISE_AFTER)
        return True

    # Aiming.

    def resume(self, now: float) -> None:
        """Take the search up again: the path may carry more than it did."""
        self._ceiling = self.limit + 1
        self._aim(now)

    def _aim(self, now: float) -> None:
        """Choose what to probe next; without anything, rest."""
        self._tries = 0
        self._probing = 0
        self.resume_at = inf
        self.wanted = next((step for step in self._steps if self.size < step < self._ceiling), 0)
        if not self.wanted and self.size < self._steps[0] and self._ceiling - self.size > FINEST:
            self.wanted = (self.size + self._ceiling) // 2
        if not self.wanted and self._ceiling <= self.limit:
            self.resume_at = now + RAISE_AFTER

    def __repr__(self) -> str:
        return f"MtuSearch(size={self.size}, wanted={self.wanted}, limit={self.limit})"
