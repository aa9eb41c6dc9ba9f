"""Marks are believed only while the counts that come back add up (RFC 9000 section 13.4 and appendix A.4)."""

from __future__ import annotations

import pytest

from stt_core.recovery.ecn import CE, ECT_0, ECT_1, NOT_ECT, TEST_PACKETS, EcnCounter, EcnCounts, EcnState, EcnValidator


def state(ecn: EcnValidator) -> EcnState:
    return ecn.state


def probed(*, numbers: int = TEST_PACKETS) -> EcnValidator:
    """A path whose test has left as packets 0 to ``numbers`` - 1."""
    ecn = EcnValidator()
    assert ecn.mark(0, numbers)
    return ecn


def capable() -> EcnValidator:
    """A path that passed: ten packets arrived as they left, another ten left with marks."""
    ecn = probed()
    assert not ecn.on_ack([(0, 9)], (10, 0, 0))
    assert ecn.mark(10, 10)
    return ecn


def test_the_first_packets_are_marked_and_then_none_until_marks_came_through() -> None:
    ecn = EcnValidator()
    assert ecn.mark(0, 4)
    assert ecn.mark(4, 5)
    assert state(ecn) is EcnState.TESTING
    assert ecn.mark(9, 3), "a batch is not split"
    assert state(ecn) is EcnState.UNKNOWN
    assert not ecn.mark(12, 1)
    assert not ecn.on_ack([(0, 11)], (12, 0, 0))
    assert state(ecn) is EcnState.CAPABLE
    assert ecn.mark(13, 50)


def test_nothing_is_proved_by_packets_without_a_mark() -> None:
    ecn = probed()
    ecn.on_ack([(10, 20)], (0, 0, 0))
    assert state(ecn) is EcnState.UNKNOWN
    ecn.on_ack([(9, 9)], (1, 0, 0))
    assert state(ecn) is EcnState.CAPABLE


def test_what_arrived_during_the_test_proves_it_even_where_its_last_packet_never_left() -> None:
    ecn = EcnValidator()
    ecn.mark(0, 9)
    ecn.on_ack([(0, 8)], (9, 0, 0))
    assert state(ecn) is EcnState.TESTING
    ecn.mark(9, 1)  # a probe of the path's size, which the interface refused
    assert state(ecn) is EcnState.CAPABLE
    ecn.restart()
    ecn.mark(10, 10)
    assert state(ecn) is EcnState.UNKNOWN, "of another path it proves nothing"


@pytest.mark.parametrize(
    ("counts", "what"),
    [
        (None, "not reported"),
        ((0, 0, 0), "erased"),
        ((9, 0, 0), "one erased"),
        ((10, 1, 0), "ECT(1) was never sent"),
        ((0, 10, 0), "changed into ECT(1)"),
        ((21, 0, 0), "more than were sent"),
        ((10, 0, 11), "more than were sent, with CE"),
    ],
)
def test_counts_that_do_not_add_up_end_it_for_the_path(counts: EcnCounts | None, what: str) -> None:
    ecn = probed(numbers=20)
    assert not ecn.on_ack([(0, 9)], counts)
    assert state(ecn) is EcnState.FAILED, what
    assert not ecn.mark(20, 1)
    assert not ecn.on_ack([(10, 19)], (20, 0, 5)), "and nothing that comes is believed"


@pytest.mark.parametrize("counts", [(12, 0, 2), (12, 0, 8), (16, 0, 1)])
def test_counts_that_fall_end_it_even_where_nothing_is_acknowledged(counts: EcnCounts) -> None:
    ecn = capable()
    assert ecn.on_ack([(10, 14)], (13, 0, 2))
    assert not ecn.on_ack([], counts)
    assert state(ecn) is EcnState.FAILED


@pytest.mark.parametrize("counts", [(17, 0, 2), (13, 0, 2), None])
def test_counts_that_fall_behind_or_stop_end_it_later_too(counts: EcnCounts | None) -> None:
    ecn = capable()
    assert ecn.on_ack([(10, 14)], (13, 0, 2))
    assert not ecn.on_ack([(15, 19)], counts)
    assert state(ecn) is EcnState.FAILED


def test_a_packet_marked_ce_on_its_way_is_congestion_once() -> None:
    ecn = capable()
    assert ecn.on_ack([(10, 12)], (12, 0, 1))
    assert not ecn.on_ack([(13, 14)], (14, 0, 1))
    assert ecn.on_ack([(15, 19)], (14, 0, 6))
    assert state(ecn) is EcnState.CAPABLE


def test_a_ce_mark_during_the_test_counts() -> None:
    assert probed().on_ack([(0, 9)], (9, 0, 1))


def test_the_counts_may_run_ahead_of_what_is_acknowledged() -> None:
    """ACKs get lost, and what is no packet in flight (an ACK of ours) is marked as well."""
    ecn = capable()
    assert not ecn.on_ack([(19, 19)], (20, 0, 0))
    assert state(ecn) is EcnState.CAPABLE


def test_an_ack_without_counts_is_no_failure_where_it_acknowledges_nothing_marked() -> None:
    ecn = probed()
    assert not ecn.on_ack([(10, 11)], None)
    assert not ecn.on_ack([], None)
    assert state(ecn) is EcnState.UNKNOWN


def test_a_probe_timeout_ends_the_test_so_that_packets_go_without_marks() -> None:
    ecn = EcnValidator()
    ecn.mark(0, 2)
    ecn.on_pto()
    assert not ecn.mark(2, 2)
    ecn.on_ack([(2, 3)], None)
    assert state(ecn) is EcnState.UNKNOWN, "the marked ones may only be late"
    ecn.on_ack([(0, 1)], (2, 0, 0))
    assert state(ecn) is EcnState.CAPABLE
    ecn.on_pto()
    assert ecn.mark(4, 1), "what is known to work is kept"


def test_another_path_is_tested_anew_while_the_counts_go_on() -> None:
    ecn = capable()
    ecn.restart()
    assert state(ecn) is EcnState.TESTING
    assert ecn.mark(20, 10)
    assert not ecn.on_ack([(15, 24)], (15, 0, 0)), "five of the old path, without their marks, and five of the new"
    assert state(ecn) is EcnState.CAPABLE
    failed = probed()
    failed.on_ack([(0, 0)], None)
    failed.restart()
    assert failed.mark(10, 1)


def test_received_marks_are_counted_and_reported_once_there_are_any() -> None:
    counter = EcnCounter()
    counter.count(NOT_ECT, 100)
    assert counter.counts is None
    counter.count(ECT_0, 7)
    counter.count(CE, 2)
    counter.count(ECT_1, 1)
    counter.count(ECT_0, 3)
    assert counter.counts == (10, 1, 2)
