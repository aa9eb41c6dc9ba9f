"""Points of 64 bits, and the nearest of them by XOR or by Hamming distance, all of them at once.

The points lie on their side: one integer for each bit of a point, and bit ``i`` of that integer is of point ``i``. So
one ``&`` asks a thousand points a question, in 50 ns. By XOR a search is the walk down a binary trie: keep those that
agree in the highest bit if there are any, then in the next. By Hamming distance all distances are counted at once, in
binary digits that lie on their side too, by carry-save adders (Harley and Seal's population count).

Rule: a slot is a small integer that belongs to one point until it is given back.
"""

from __future__ import annotations

from itertools import compress
from typing import Final

PREFIX_BITS: Final = 32
BITS: Final = 64
_PLACES: Final = tuple(1 << place for place in reversed(range(BITS)))
_PREFIX_PLACES: Final = _PLACES[:PREFIX_BITS]


class Columns:
    """Points by slot. A set of slots is an integer with those bits set, as ``everyone`` is."""

    __slots__ = ("_columns", "_free", "everyone")

    def __init__(self) -> None:
        self._columns = [0] * BITS
        self._free: list[int] = []
        self.everyone = 0

    def add(self, point: int) -> int:
        """Take in a point; its slot."""
        slot = self._free.pop() if self._free else self.everyone.bit_length()
        self.everyone |= 1 << slot
        self._flip(slot, point)
        return slot

    def move(self, slot: int, before: int, after: int) -> None:
        """The point in ``slot`` is another now."""
        self._flip(slot, before ^ after)

    def remove(self, slot: int, point: int) -> None:
        """Give the slot back."""
        self._flip(slot, point)
        self.everyone ^= 1 << slot
        self._free.append(slot)
        if not self.everyone:
            self._free.clear()  # so that slots are as few as the points that are there

    def nearest_xor(self, target: int, among: int) -> int:
        """The slot whose point has the least XOR with ``target``, of those in the set ``among``, which isn't empty."""
        if not among & (among - 1):
            return among.bit_length() - 1
        for place, column in zip(_PLACES, self._columns, strict=True):
            near = among & column if target & place else among & ~column
            if near:
                among = near
                if not near & (near - 1):
                    break
        return (among & -among).bit_length() - 1

    def nearest_hamming(self, target: int, among: int) -> int:
        """The slot that differs from ``target`` in the fewest of the first 32 bits; by XOR where several do."""
        everyone = self.everyone
        places = zip(_PREFIX_PLACES, self._columns, strict=False)
        planes = [column ^ everyone if target & place else column for place, column in places]
        for digit in reversed(_count(planes)):
            fewer = among & ~digit
            if fewer:
                among = fewer
        return self.nearest_xor(target, among)

    def _flip(self, slot: int, difference: int) -> None:
        mask = 1 << slot
        for index in compress(range(BITS), map(difference.__and__, _PLACES)):
            self._columns[index] ^= mask


def _count(planes: list[int]) -> list[int]:
    """How many of the 32 ``planes`` have each bit set: the binary digits of all these numbers, lowest digit first.

    Eight planes are added at a time, written out: by a loop for each it takes twice as long.
    """
    ones = twos = fours = eights = sixteens = all_of_them = 0
    for start in range(0, PREFIX_BITS, 8):
        a, b, c, d, e, f, g, h = planes[start : start + 8]
        either, one = ones ^ a, ones & a
        ones, two_1 = either ^ b, one | either & b
        either, one = ones ^ c, ones & c
        ones, two_2 = either ^ d, one | either & d
        either, one = ones ^ e, ones & e
        ones, two_3 = either ^ f, one | either & f
        either, one = ones ^ g, ones & g
        ones, two_4 = either ^ h, one | either & h
        either, two = twos ^ two_1, twos & two_1
        twos, four_1 = either ^ two_2, two | either & two_2
        either, two = twos ^ two_3, twos & two_3
        twos, four_2 = either ^ two_4, two | either & two_4
        either, four = fours ^ four_1, fours & four_1
        fours, eight = either ^ four_2, four | either & four_2
        eights, sixteen = eights ^ eight, eights & eight
        sixteens, carry = sixteens ^ sixteen, sixteens & sixteen
        all_of_them |= carry
    return [ones, twos, fours, eights, sixteens, all_of_them]
