"""Range sets against plain sets of integers."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from stt_core.ranges import RangeSet, ReceivedPackets

SPACE = 48
BOUND = 4
"""Ranges remembered here: few, so that forgetting happens all the time."""

numbers = st.integers(0, SPACE)
changes = st.lists(st.tuples(st.sampled_from(["add", "subtract", "pop"]), numbers, numbers), max_size=30)
batches = st.lists(
    st.one_of(
        st.tuples(numbers, st.integers(0, 6)).map(lambda pair: list(range(pair[0], pair[0] + pair[1]))),
        st.lists(numbers, max_size=6),
    ),
    max_size=20,
)


def spans(inside: set[int]) -> list[tuple[int, int]]:
    """The half-open ranges a set of integers consists of, found one by one."""
    found: list[tuple[int, int]] = []
    for number in sorted(inside):
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


@settings(max_examples=300)
@given(changes, numbers, numbers)
def test_a_range_set_holds_what_a_set_would(operations: list[tuple[str, int, int]], start: int, stop: int) -> None:
    ranges, model = RangeSet(), set[int]()
    for kind, a, b in operations:
        if kind == "add":
            ranges.add(a, b)
            model.update(range(a, b))
        elif kind == "subtract":
            ranges.subtract(a, b)
            model.difference_update(range(a, b))
        else:
            expected = spans(model)[0] if model else None
            if expected is not None:
                expected = (expected[0], min(expected[1], expected[0] + a + 1))
                model.difference_update(range(*expected))
            assert ranges.pop_front(a + 1) == expected
        assert list(ranges) == spans(model)
    assert [number in ranges for number in range(SPACE)] == [number in model for number in range(SPACE)]
    assert ranges.gaps(start, stop) == spans(set(range(start, stop)) - model)
    assert ranges.covers(start, stop) == model.issuperset(range(start, stop))
    assert ranges.covered_prefix(start) == next(n for n in range(start, SPACE + 2) if n not in model)
    assert (ranges.first, ranges.end) == ((min(model), max(model) + 1) if model else (None, None))


class NaiveReceived:
    """One number at a time, in a set."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.floor = 0

    def add(self, batch: list[int]) -> tuple[list[int], bool]:
        """The indices of the new ones, and whether any of them met or filled a hole."""
        fresh, gap = [], False
        for index, number in enumerate(batch):
            if number < self.floor or number in self.seen:
                continue
            gap = gap or number != (max(self.seen) + 1 if self.seen else self.floor)
            self.seen.add(number)
            fresh.append(index)
            if len(spans(self.seen)) > BOUND:
                self.floor = spans(self.seen)[0][1]
                self.seen = {other for other in self.seen if other >= self.floor}
        return fresh, gap

    def raise_floor(self, number: int) -> None:
        if self.seen and min(number, max(self.seen)) > self.floor:
            self.floor = min(number, max(self.seen))
            self.seen = {other for other in self.seen if other >= self.floor}


@settings(max_examples=300)
@given(batches, numbers)
def test_no_packet_is_new_twice_and_the_acks_tell_what_came(received_batches: list[list[int]], floor: int) -> None:
    received, model = ReceivedPackets(), NaiveReceived()
    with patch("stt_core.ranges.MAX_RECEIVED_RANGES", BOUND):
        for turn, batch in enumerate(received_batches):
            fresh, gap = model.add(batch)
            assert received.add(batch) == (None if len(fresh) == len(batch) else fresh)
            assert received.gap == gap
            if turn == len(received_batches) // 2:
                received.raise_floor(floor)
                model.raise_floor(floor)
            assert received.floor == model.floor
            assert received.newest(BOUND) == [(start, stop - 1) for start, stop in reversed(spans(model.seen))]
            assert received.largest == max(model.seen, default=-1)
            for number in range(SPACE):
                assert (number in received) == (number < model.floor or number in model.seen)
