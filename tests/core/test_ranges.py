"""Range sets: what is inside after adding and taking out; what counts as received, and what that costs at most."""

from __future__ import annotations

import pytest

from stt_core.ranges import MAX_ACK_RANGES, MAX_RECEIVED_RANGES, RangeSet, ReceivedPackets


def test_touching_and_overlapping_ranges_become_one() -> None:
    ranges = RangeSet((0, 5), (10, 15))
    ranges.add(5, 10)
    assert list(ranges) == [(0, 15)]
    ranges.add(20, 30)
    ranges.add(12, 22)
    assert list(ranges) == [(0, 30)]


def test_adding_in_the_middle_keeps_order() -> None:
    assert list(RangeSet((20, 30), (0, 5), (10, 12))) == [(0, 5), (10, 12), (20, 30)]


def test_an_empty_or_reversed_range_adds_and_takes_nothing() -> None:
    ranges = RangeSet((0, 10))
    ranges.add(20, 20)
    ranges.add(30, 25)
    ranges.subtract(5, 5)
    ranges.subtract(8, 2)
    assert list(ranges) == [(0, 10)]


def test_subtracting_splits_trims_and_swallows() -> None:
    ranges = RangeSet((0, 10), (20, 30), (40, 50))
    ranges.subtract(3, 5)
    assert list(ranges) == [(0, 3), (5, 10), (20, 30), (40, 50)]
    ranges.subtract(8, 45)
    assert list(ranges) == [(0, 3), (5, 8), (45, 50)]
    ranges.subtract(0, 100)
    assert not ranges


def test_membership_knows_both_edges() -> None:
    ranges = RangeSet((3, 6), (8, 9))
    assert [number for number in range(12) if number in ranges] == [3, 4, 5, 8]


def test_pop_front_takes_the_lowest_and_no_more_than_asked() -> None:
    ranges = RangeSet((0, 10), (20, 22))
    assert ranges.pop_front(4) == (0, 4)
    assert ranges.pop_front(100) == (4, 10)
    assert ranges.pop_front(2) == (20, 22)
    assert ranges.pop_front(2) is None


def test_covered_prefix_is_where_the_unbroken_run_ends() -> None:
    ranges = RangeSet((0, 10), (12, 15))
    assert [ranges.covered_prefix(start) for start in (0, 9, 10, 11, 12, 20)] == [10, 10, 10, 11, 15, 20]


def test_covers_asks_for_every_number() -> None:
    ranges = RangeSet((0, 10), (12, 15))
    assert ranges.covers(2, 10)
    assert not ranges.covers(2, 11)
    assert not ranges.covers(9, 13)
    assert ranges.covers(11, 11)


@pytest.mark.parametrize(
    ("start", "stop", "gaps"),
    [
        (0, 30, [(0, 5), (10, 20), (25, 30)]),
        (6, 9, []),
        (6, 12, [(10, 12)]),
        (12, 22, [(12, 20)]),
        (30, 40, [(30, 40)]),
        (7, 7, []),
    ],
)
def test_gaps_are_what_is_missing_within(start: int, stop: int, gaps: list[tuple[int, int]]) -> None:
    assert RangeSet((5, 10), (20, 25)).gaps(start, stop) == gaps


def test_bounds_length_and_equality() -> None:
    ranges = RangeSet((5, 10), (20, 25))
    assert (ranges.first, ranges.end, len(ranges)) == (5, 25, 2)
    assert ranges == RangeSet((20, 25), (5, 10))
    assert ranges != RangeSet((5, 10))
    ranges.clear()
    assert (ranges.first, ranges.end, len(ranges)) == (None, None, 0)


def test_packets_in_order_are_all_new_and_leave_no_gap() -> None:
    received = ReceivedPackets()
    assert received.largest == -1
    for batch in ([0, 1, 2], range(3, 6), [6]):
        assert received.add(batch) is None
        assert not received.gap
    assert received.newest() == [(0, 6)]


def test_a_replayed_batch_has_nothing_new() -> None:
    received = ReceivedPackets()
    received.add([0, 1, 2])
    assert received.add([0, 1, 2]) == []
    assert received.add([2]) == []
    assert received.largest == 2


def test_duplicates_within_one_batch_count_once() -> None:
    received = ReceivedPackets()
    assert received.add([0, 1, 1, 2]) == [0, 1, 3]
    assert received.add([5, 5]) == [0]


def test_a_hole_asks_for_an_ack_and_so_does_the_packet_that_fills_it() -> None:
    received = ReceivedPackets()
    gaps = []
    for batch in ([0, 1], [3, 4], [5], [2]):
        assert received.add(batch) is None
        gaps.append(received.gap)
    assert gaps == [False, True, False, True], "5 comes after a hole that was reported before"
    assert received.newest() == [(0, 5)]


def test_a_duplicate_is_no_gap() -> None:
    received = ReceivedPackets()
    received.add([0, 1, 2])
    received.add([1])
    assert not received.gap


def test_the_first_packets_may_be_missing() -> None:
    received = ReceivedPackets()
    assert received.add([4, 5]) is None
    assert received.gap
    assert received.newest() == [(4, 5)]
    assert 3 not in received


def test_acks_carry_the_newest_ranges_newest_first() -> None:
    received = ReceivedPackets()
    for number in range(0, 100, 2):
        received.add([number])
    newest = received.newest()
    assert len(newest) == MAX_ACK_RANGES
    assert newest[:2] == [(98, 98), (96, 96)]
    assert received.newest(1) == [(98, 98)]


def test_a_peer_that_leaves_holes_meets_a_bound_and_what_is_forgotten_counts_as_seen() -> None:
    received = ReceivedPackets()
    total = 4 * MAX_RECEIVED_RANGES
    for number in range(0, 2 * total, 2):
        assert received.add([number]) is None
    assert len(received.newest(total)) == MAX_RECEIVED_RANGES
    assert received.floor > 0
    assert received.add([1, received.floor - 1]) == [], "a number from before the floor could be a replay"
    assert 1 in received


def test_a_far_jump_costs_no_memory() -> None:
    received = ReceivedPackets()
    received.add([0])
    assert received.add([2**60]) is None
    assert received.newest() == [(2**60, 2**60), (0, 0)]


def test_raising_the_floor_shortens_acks_and_forgets_no_replay() -> None:
    received = ReceivedPackets()
    received.add([0, 1, 2, 5, 6, 7, 9])
    received.raise_floor(6)
    assert received.newest() == [(9, 9), (6, 7)]
    assert received.add([3, 5, 6, 8]) == [3]
    received.raise_floor(4)
    assert received.floor == 6, "the floor only rises"
    received.raise_floor(1000)
    assert (received.floor, received.largest) == (9, 9), "and never above the largest"
    assert received.add([9, 10]) == [1]
