"""The receiving side's bookkeeping: which packets were seen, and when to tell (RFC 9000 section 13.2).

Rule: an ACK is due at the end of an input run that leaves two ack-eliciting packets unacknowledged, at once on a gap,
else after an eighth of a round trip, within limits. The receiver can't know the sender's window, so nothing rarer is
safe. On a reliable path no window waits for an ACK, and nothing is lost: an ACK only lets the sender forget.
"""

from __future__ import annotations

from math import inf
from typing import Final

from stt_core.frames import ACK_HEADER, FrameType, KeepAlive, encode_ack
from stt_core.packing import Batch, Content
from stt_core.ranges import ReceivedPackets
from stt_core.recovery.ecn import EcnCounter
from stt_core.recovery.loss import Recovery
from stt_core.timers import Timer, Timers

RANGES_WORTH_PRUNING: Final = 8
"""With more ACK ranges than this, an ACK asks to be acknowledged, so that old ranges can be forgotten."""

PROMPT: Final = 1 / 8
"""How much of a round trip a packet without another waits for its ACK. ``max_ack_delay`` allows more (RFC 9000 section
13.2.1), but then a small window, in which every packet counts, has a round trip that is longer by half."""
LEAST_DELAY: Final = 0.005
"""… but at least so many seconds, in which an application may answer and take the ACK along."""

RELIABLE_BYTES: Final = 256 * 1024
"""Bytes on a reliable path that make an ACK due."""

_M32: Final = 0xFFFF_FFFF
_ACK: Final = int(FrameType.ACK)
_ASKING: Final = KeepAlive(0).encode()


class Acknowledgements:
    """What one session has received and not yet acknowledged.

    ``due`` tells whether an ACK should leave now; any packet that leaves for another reason takes ``pending`` along,
    on a reliable path one in each :data:`LEAST_DELAY`.
    """

    __slots__ = (
        "_asked", "_delay", "_marks", "_recovery", "_timers", "_waiting", "due", "largest_at", "packets", "pending",
        "rests_until",
    )  # fmt: skip

    def __init__(self, timers: Timers, recovery: Recovery, max_ack_delay: float, now: float) -> None:
        self.packets = ReceivedPackets()
        self.pending = 0
        """Ack-eliciting packets since the last ACK."""
        self.due = False
        self._timers = timers
        self._delay = max_ack_delay
        self._recovery = recovery
        self.largest_at = now
        """When the largest number came in: from then counts the delay that an ACK reports."""
        self.rests_until = -inf
        """Until when an ACK that isn't due need not go along with what leaves: on a reliable path each would cost both
        sides a fifth of a small packet's work, and only tell a sender to forget a little sooner."""
        self._marks: EcnCounter | None = None  # most sessions never see a mark
        self._asked = False  # an ACK of ours that asks to be acknowledged is under way
        self._waiting = 0  # bytes since the last ACK, on a reliable path

    def on_marked(self, codepoint: int, count: int) -> None:
        """A run of ``count`` packets not seen before bore an ECN codepoint that isn't 0."""
        if self._marks is None:
            self._marks = EcnCounter()
        self._marks.count(codepoint, count)

    def on_eliciting(self, count: int, size: int, now: float) -> None:
        """A run with ``count`` ack-eliciting packets, at least one, came in; ``size`` bytes in all."""
        self.pending += count
        if self._recovery.reliable:
            self._waiting += size
            if self._waiting >= RELIABLE_BYTES:
                self.due = True
            elif Timer.ACK not in self._timers:
                self._timers.set(Timer.ACK, now + self._delay)
        elif self.pending >= 2 or self.packets.gap:
            self.due = True
        elif self._timers.at[Timer.ACK] == inf:
            prompt = max(PROMPT * self._recovery.rtt.smoothed, LEAST_DELAY)
            self._timers.at[Timer.ACK] = now + min(prompt, self._delay)

    def on_timer(self) -> None:
        """The ACK timer fired."""
        self.due = self.pending > 0

    def frame(self, now: float) -> bytes:
        """The ACK that leaves now."""
        if self._recovery.reliable:
            self.rests_until = now + LEAST_DELAY
        delay = int((now - self.largest_at) * 1e6)
        only = self.packets.only()
        if only is None or self._marks is not None or delay > _M32 or only[1] - only[0] > _M32:
            return encode_ack(self.packets.newest(), delay, self._marks.counts if self._marks is not None else None)
        first, last = only
        return ACK_HEADER.pack(_ACK, last, delay, 0, last - first)

    def add_to(self, batch: Batch, now: float) -> None:
        """Put an ACK into ``batch``, if it fits."""
        if not batch.add(self.frame(now)):
            return
        if self.packets.count > RANGES_WORTH_PRUNING and not self._asked:
            self._asked = batch.add(_ASKING, (_ACK, self.packets.largest))
        self.pending = 0

    def on_sent(self, content: Content) -> None:
        """An ACK leaves, in a packet that holds ``content`` beside it.

        If that is going to be acknowledged for another reason, older ranges can be forgotten then (RFC 9000 section
        13.2.4). A number that was skipped on purpose leaves a gap, and an ACK with a gap is not cheap.
        """
        self.pending = self._waiting = 0
        self.due = False
        self._timers.at[Timer.ACK] = inf
        if self.packets.count > 1 and isinstance(content, list) and content:
            content.append((_ACK, self.packets.largest))

    def on_acked(self, largest: int) -> None:
        """The peer has seen an ACK of everything up to ``largest``, so nothing below needs telling again."""
        self.packets.raise_floor(largest)
        self._asked = False

    def on_lost(self) -> None:
        """An ACK that asked is lost: the next may ask again."""
        self._asked = False
