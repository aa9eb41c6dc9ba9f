"""Sets of integers kept as ranges: stream bytes to send, bytes acknowledged, packet numbers received.

Rule: what a set costs depends on how many holes it has, never on how much it holds, and a peer that makes holes on
purpose meets a bound.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

MAX_RECEIVED_RANGES = 256
"""Ranges of received packet numbers that are remembered; older numbers count as seen."""
MAX_ACK_RANGES = 32
"""Ranges one ACK frame carries at most."""


class RangeSet:
    """A set of integers as half-open ranges ``[start, stop)``, disjoint, never touching, ascending.

    All edges stand in one flat ascending list: start, stop, start, stop … So a number is inside exactly when an odd
    number of edges is at or below it, and adding or subtracting replaces one slice.
    """

    __slots__ = ("_edges",)

    def __init__(self, *ranges: tuple[int, int]) -> None:
        self._edges: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Put in ``start`` to ``stop - 1``; nothing where ``stop <= start``."""
        if stop <= start:
            return
        edges = self._edges
        if edges:
            last = edges[-1]
            if start == last:  # in order: by far the most common
                edges[-1] = stop
                return
            if start < last:
                left, right = bisect_left(edges, start), bisect_right(edges, stop)
                # An even index lies outside of every range: there the new range needs an edge of its own.
                edges[left:right] = ([] if left & 1 else [start]) + ([] if right & 1 else [stop])
                return
        edges += (start, stop)

    def subtract(self, start: int, stop: int) -> None:
        """Take out ``start`` to ``stop - 1``, as far as they are there."""
        edges = self._edges
        if stop <= start or not edges or start >= edges[-1] or stop <= edges[0]:
            return
        left, right = bisect_left(edges, start), bisect_right(edges, stop)
        edges[left:right] = ([start] if left & 1 else []) + ([stop] if right & 1 else [])

    def clear(self) -> None:
        """Take out everything."""
        self._edges.clear()

    def pop_front(self, max_length: int) -> tuple[int, int] | None:
        """Take out and return the lowest range, cut to ``max_length`` numbers; None when empty."""
        edges = self._edges
        if not edges:
            return None
        start, stop = edges[0], edges[1]
        if stop - start > max_length:
            stop = edges[0] = start + max_length
        else:
            del edges[:2]
        return start, stop

    def covered_prefix(self, start: int) -> int:
        """Where the unbroken run from ``start`` on ends: the first number at or above ``start`` that isn't inside."""
        edges = self._edges
        after = bisect_right(edges, start)
        return edges[after] if after & 1 else start

    def covers(self, start: int, stop: int) -> bool:
        """Whether every number from ``start`` to ``stop - 1`` is inside (true of an empty range)."""
        return stop <= start or self.covered_prefix(start) >= stop

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of ``[start, stop)`` that are not inside, ascending."""
        edges = self._edges
        found = []
        position = start
        after = bisect_right(edges, start)
        if after & 1:
            position = edges[after]
            after += 1
        while position < stop:
            following = edges[after] if after < len(edges) else stop
            found.append((position, min(following, stop)))
            if following >= stop:
                break
            position = edges[after + 1]
            after += 2
        return found

    @property
    def first(self) -> int | None:
        """The lowest number inside; None when empty."""
        return self._edges[0] if self._edges else None

    @property
    def end(self) -> int | None:
        """One above the highest number inside; None when empty."""
        return self._edges[-1] if self._edges else None

    def __contains__(self, number: int) -> bool:
        return bisect_right(self._edges, number) & 1 == 1

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges as pairs ``(start, stop)``, ascending."""
        edges = self._edges
        return zip(edges[::2], edges[1::2], strict=True)

    def __len__(self) -> int:
        """How many ranges (not how many numbers)."""
        return len(self._edges) >> 1

    def __bool__(self) -> bool:
        return bool(self._edges)

    def __eq__(self, other: object) -> bool:
        return self._edges == other._edges if isinstance(other, RangeSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"RangeSet({', '.join(str(pair) for pair in self)})"


class ReceivedPackets:
    """Which packet numbers have been opened: the replay check and the ACK state in one.

    Numbers below ``floor`` count as seen, so at most :data:`MAX_RECEIVED_RANGES` ranges need remembering (RFC 9000
    section 13.2.3). Only numbers of packets that opened may be put in, or a forger could move the window.
    """

    __slots__ = ("_edges", "floor", "gap")

    def __init__(self) -> None:
        self._edges: list[int] = []
        """Start, stop, start, stop … half-open and ascending, as in :class:`RangeSet`."""
        self.floor = 0
        """Every number below counts as seen."""
        self.gap = False
        """Whether the last :meth:`add` met a hole, or filled one: then an ACK is due at once (RFC 9000 13.2.1)."""

    @property
    def largest(self) -> int:
        """The highest number put in; -1 before the first."""
        return self._edges[-1] - 1 if self._edges else -1

    @property
    def count(self) -> int:
        """How many ranges are remembered."""
        return len(self._edges) >> 1

    def add_next(self, number: int) -> bool:
        """Put in ``number`` if it follows the largest, which is what a single packet nearly always does."""
        edges = self._edges
        if not edges or edges[-1] != number:
            return False
        edges[-1] = number + 1
        self.gap = False
        return True

    def add(self, numbers: Sequence[int]) -> list[int] | None:
        """Put in a batch of packet numbers, in order of arrival.

        Returns None where all of them were new, else the indices of those that were; the others are replays or
        network duplicates, also of one another.
        """
        self.gap = False
        if not numbers:
            return None
        edges = self._edges
        expected = edges[-1] if edges else self.floor
        last = numbers[-1]
        # The cheap test first: a jump in the numbers must not build a range as long as the jump.
        if last - expected == len(numbers) - 1 and (
            len(numbers) == 1 or numbers == list(range(expected, last + 1)) or numbers == range(expected, last + 1)
        ):
            if edges:
                edges[-1] = last + 1
            else:
                edges += (expected, last + 1)
            return None
        if type(numbers) is range and numbers.start > expected:  # all together behind a gap
            edges += (numbers.start, numbers.stop)
            self.gap = True
            self._bound()
            return None
        fresh = []
        for index, number in enumerate(numbers):
            if edges and number == edges[-1]:  # most are, around the one hole that led here
                edges[-1] = number + 1
                fresh.append(index)
            elif self._add_one(number):
                fresh.append(index)
        return None if len(fresh) == len(numbers) else fresh

    def _add_one(self, number: int) -> bool:
        """Put in a number that does not follow the largest; whether it was new."""
        edges = self._edges
        if number < self.floor:
            return False
        if not edges or number > edges[-1]:
            self.gap = self.gap or number > (edges[-1] if edges else self.floor)
            edges += (number, number + 1)
        else:
            left = bisect_left(edges, number)
            right = bisect_right(edges, number + 1, lo=left)
            if bisect_right(edges, number, lo=left, hi=right) & 1:
                return False
            edges[left:right] = ([] if left & 1 else [number]) + ([] if right & 1 else [number + 1])
            self.gap = True
        self._bound()
        return True

    def _bound(self) -> None:
        """Forget the oldest range where there are too many."""
        edges = self._edges
        if len(edges) > 2 * MAX_RECEIVED_RANGES:
            self.floor = edges[1]
            del edges[:2]

    def raise_floor(self, number: int) -> None:
        """Let every number below ``number`` count as seen and leave the ACKs (never above ``largest``).

        For when the peer is known to have got an ACK that told of them (RFC 9000 section 13.2.4).
        """
        edges = self._edges
        number = min(number, self.largest)
        if number <= self.floor:
            return
        self.floor = number
        left = bisect_right(edges, number)
        edges[:left] = [number] if left & 1 else []

    def only(self) -> tuple[int, int] | None:
        """The one range there is, as ``(first, last)``, both inclusive; None where there are several, or none."""
        edges = self._edges
        return (edges[0], edges[1] - 1) if len(edges) == 2 else None

    def newest(self, limit: int = MAX_ACK_RANGES) -> list[tuple[int, int]]:
        """The newest ``limit`` ranges as ``(first, last)``, both inclusive, newest first: the body of an ACK."""
        edges = self._edges[-2 * limit :]
        return [(edges[i], edges[i + 1] - 1) for i in range(len(edges) - 2, -1, -2)]

    def __contains__(self, number: int) -> bool:
        return number < self.floor or bisect_right(self._edges, number) & 1 == 1

    def __repr__(self) -> str:
        return f"ReceivedPackets(largest={self.largest}, floor={self.floor}, ranges={len(self._edges) >> 1})"
