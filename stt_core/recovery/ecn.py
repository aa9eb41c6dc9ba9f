"""Explicit congestion notification: is a path fit for it (RFC 9000 section 13.4 and appendix A.4), and the counting.

Rule: marks are believed only while the counts that come back add up. Packets are told apart by number, in runs that
left with a mark, so that neither sending nor a record costs anything for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

TEST_PACKETS = 10
"""Packets marked before it is known whether marks get through (RFC 9000 appendix A.4)."""

NOT_ECT = 0
ECT_1 = 1
ECT_0 = 2
CE = 3
"""The codepoints: the lowest two bits of an IP header's traffic class (RFC 3168 section 5)."""

EcnCounts = tuple[int, int, int]
"""Packets received with ECT(0), ECT(1) and CE, as an ACK_ECN frame carries them."""


class EcnState(Enum):
    """What is known of a path."""

    TESTING = "testing"
    """The first packets are marked."""
    UNKNOWN = "unknown"
    """The test's packets have left, and none of them is known to have arrived; nothing is marked."""
    CAPABLE = "capable"
    """Marks get through, and everything is marked."""
    FAILED = "failed"
    """Marks are erased, changed, or not reported; nothing is marked."""


class EcnValidator:
    """Whether to mark what is sent, and whether to believe what comes back, on one path at a time."""

    __slots__ = ("_counts", "_proved", "_runs", "_sent", "_state", "_tested")

    def __init__(self) -> None:
        self._counts: EcnCounts = (0, 0, 0)
        """From the last ACK that acknowledged a new largest number."""
        self._sent = 0
        """Packets that left with a mark, on all paths: the peer's counts don't start anew with a path."""
        self._runs: list[tuple[int, int]] = []
        """First and last number of what left with marks on this path: the test, and all since it succeeded."""
        self._tested = 0
        self._proved = False  # whether any mark came through
        self._state = EcnState.TESTING

    @property
    def state(self) -> EcnState:
        """What is known of the path."""
        return self._state

    def mark(self, first: int, count: int) -> bool:
        """Whether a batch of ``count`` packets, numbered from ``first`` on, leaves as ECT(0); True also notes that it
        does. A batch is not split, so the test may take more packets than :data:`TEST_PACKETS`.
        """
        last = first + count - 1
        if self._state is EcnState.TESTING:
            self._runs = [(self._runs[0][0] if self._runs else first, last)]
            self._tested += count
            if self._tested >= TEST_PACKETS:
                # What is last to be marked may be a probe of the path's size that never arrives.
                self._state = EcnState.CAPABLE if self._proved else EcnState.UNKNOWN
        elif self._state is EcnState.CAPABLE:
            self._runs[1:] = [(self._runs[1][0] if len(self._runs) > 1 else first, last)]
        else:
            return False
        self._sent += count
        return True

    def on_ack(self, acked: Iterable[tuple[int, int]], counts: EcnCounts | None) -> bool:
        """Check an ACK's ``counts`` (None: it had none) against the runs of packets that it newly acknowledged.

        True where packets were marked CE since the last time: congestion. Leave out an ACK whose largest number is
        not a new one: it may have been overtaken, and prove nothing (RFC 9000 section 13.4.2.1).
        """
        if self._state is EcnState.FAILED:
            return False
        marked = 0
        for first, last in acked:
            for begin, end in self._runs:
                marked += max(0, min(last, end) - max(first, begin) + 1)
        if counts is None:
            if marked:
                self._state = EcnState.FAILED
            return False
        (ect0, ect1, ce), (old_ect0, _, old_ce) = counts, self._counts
        if (
            ect0 < old_ect0
            or ce < old_ce
            or ect1  # never sent
            or ect0 + ce > self._sent
            or (ect0 - old_ect0) + (ce - old_ce) < marked
        ):
            self._state = EcnState.FAILED
            return False
        self._counts = counts
        if marked:
            self._proved = True
            if self._state is EcnState.UNKNOWN:
                self._state = EcnState.CAPABLE
        return ce > old_ce

    def on_pto(self) -> None:
        """A probe timeout: if it was the marks that something on the path disliked, what follows goes without."""
        if self._state is EcnState.TESTING:
            self._state = EcnState.UNKNOWN

    def restart(self) -> None:
        """Test another path. What is underway with marks on the old one still adds to counts, and proves nothing."""
        self._runs = []
        self._tested = 0
        self._proved = False
        self._state = EcnState.TESTING

    def __repr__(self) -> str:
        return f"EcnValidator({self._state.value}, counts={self._counts})"


class EcnCounter:
    """The marks on what arrived, for the counts in our own ACKs."""

    __slots__ = ("ce", "ect0", "ect1")

    def __init__(self) -> None:
        self.ect0 = 0
        self.ect1 = 0
        self.ce = 0

    def count(self, codepoint: int, packets: int) -> None:
        """``packets`` that opened and were not seen before bore ``codepoint``, 0 to 3."""
        if codepoint == ECT_0:
            self.ect0 += packets
        elif codepoint == CE:
            self.ce += packets
        elif codepoint == ECT_1:
            self.ect1 += packets

    @property
    def counts(self) -> EcnCounts | None:
        """What an ACK reports; None, for an ACK without counts, as long as no mark was seen."""
        return (self.ect0, self.ect1, self.ce) if self.ect0 or self.ect1 or self.ce else None
