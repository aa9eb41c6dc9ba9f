"""What arrives and what doesn't tells of a path's size, and of marks on it, and neither is taken for congestion."""

from __future__ import annotations

from stt_core.recovery.ecn import EcnState
from stt_core.recovery.mtu import BASE, MAX_PROBES, SUSPICIOUS_PTOS, MtuSearch
from stt_core.rtt import RttEstimator
from tests.core.sender import LARGE, RTT, SIZE, Ledger, Sender, run

# Probes of the path's size.


def test_a_probe_that_arrives_makes_datagrams_larger() -> None:
    sender = Sender()
    assert sender.recovery.mtu_probe_fits()
    number = sender.probe(now=1.0)
    assert sender.recovery.bytes_in_flight == LARGE
    assert not sender.recovery.mtu_probe_fits(), "one at a time"
    sender.ack((number, number), now=1.1)
    assert sender.recovery.mtu.size == LARGE
    assert ("size", LARGE) in sender.ledger.told
    assert sender.recovery.bytes_in_flight == 0
    assert sender.recovery.mtu_probe_fits(), "and the next at once"


def test_a_lost_probe_is_no_congestion_and_nobodys_to_send_again() -> None:
    sender = Sender()
    sender.grow(now=1.0)
    for _ in range(MAX_PROBES):
        assert sender.recovery.mtu.wanted == 8800
        number = sender.probe(now=1.1)
        sender.run(3, now=1.1)
        assert sender.recovery.oldest_unacked(2) == [run(number + 1, 1), run(number + 2, 1)]
        outcome = sender.ack((number + 1, number + 3), now=1.2)
        assert (outcome.lost, outcome.lost_packets) == ([], 0)
        assert sender.recovery.bytes_in_flight == 0
    assert [told[0] for told in sender.ledger.told if told[0] not in ("restart", "acked")] == []
    assert (sender.recovery.packets_lost, sender.recovery.mtu.wanted) == (0, 0)


def test_lost_probes_make_no_persistent_congestion() -> None:
    sender = Sender()
    for _ in range(100):
        sender.recovery.rtt.update(RTT, 0.0, now=0.0)
    span = 3 * sender.recovery.pto
    first = sender.probe(now=1.0)
    sender.run(1, now=1.0 + span)
    sender.run(3, now=1.0 + span + 0.1)
    outcome = sender.ack((first + 4, first + 4), now=1.0 + span + 0.1 + RTT)
    assert [count for count, _ in outcome.lost] == [1]
    assert not outcome.persistent_congestion


def test_a_probe_must_fit_the_window_or_be_alone() -> None:
    sender = Sender()
    sender.grow(now=1.0)
    sender.ledger.cwnd = 8800 + SIZE
    assert sender.recovery.mtu_probe_fits()
    sender.run(1, now=1.1)
    assert sender.recovery.mtu_probe_fits()
    sender.run(1, now=1.1)
    assert not sender.recovery.mtu_probe_fits()
    sender.ledger.cwnd = 2 * SIZE
    last = sender.recovery.largest_sent
    sender.ack((last - 1, last), now=1.2)
    assert sender.recovery.mtu_probe_fits(), "a window of two small datagrams would never let it go"


def test_a_probe_that_the_system_refuses_leaves_flight_at_once() -> None:
    sender = Sender()
    sender.grow(now=1.0)
    sender.run(2, now=1.1)
    sender.probe(now=1.1)
    outcome = sender.recovery.on_too_big(8800, now=1.1)
    assert outcome.lost == []
    assert sender.recovery.bytes_in_flight == 2 * SIZE
    assert (sender.recovery.mtu.size, sender.recovery.mtu.wanted) == (LARGE, 0)


def test_data_that_the_system_refuses_is_given_back_and_no_congestion() -> None:
    sender = Sender()
    sender.grow(now=1.0)
    sender.run(2, now=1.1)
    first = sender.recovery.largest_sent + 1
    sender.run(3, now=1.1, size=LARGE)
    outcome = sender.recovery.on_too_big(LARGE, now=1.1)
    assert outcome.lost == [run(first, 3)]
    assert sender.recovery.bytes_in_flight == 2 * SIZE
    assert sender.recovery.mtu.size == BASE
    assert sender.ledger.told == [("restart", 1.1), ("size", BASE)]
    assert sender.recovery.on_too_big(BASE, now=1.2).lost == [], "what every path carries is not taken back"


def test_large_packets_that_vanish_among_small_ones_make_a_black_hole() -> None:
    sender = Sender()
    sender.grow(now=1.0)
    for number in range(3):
        assert sender.recovery.mtu.size == LARGE
        now = 1.1 + number
        sender.run(5, now=now, size=LARGE)
        sender.run(3, now=now)
        last = sender.recovery.largest_sent
        assert sender.ack((last - 2, last), now=now + RTT).largest_lost == LARGE
    assert sender.recovery.mtu.size == BASE
    assert sender.ledger.told[-1] == ("size", BASE)


def test_large_packets_that_a_timer_finds_lost_count_as_well() -> None:
    sender = Sender()
    sender.grow(now=1.0)
    for number in range(3):
        assert sender.recovery.mtu.size == LARGE
        now = 1.1 + number
        sender.run(1, now=now, size=LARGE)
        sender.run(1, now=now)
        last = sender.recovery.largest_sent
        assert not sender.ack((last, last), now=now + RTT).lost
        due = sender.recovery.deadline()
        assert due is not None
        assert sender.recovery.handle_timer(due).largest_lost == LARGE
    assert sender.recovery.mtu.size == BASE


def test_one_large_packet_that_arrives_clears_the_path() -> None:
    sender = Sender()
    sender.grow(now=1.0)
    for number in range(6):
        now = 1.1 + number
        sender.run(4, now=now, size=LARGE)
        sender.run(3, now=now)
        last = sender.recovery.largest_sent
        sender.ack((last - 2, last), now=now + RTT)
        sender.run(1, now=now + RTT, size=LARGE)
        sender.ack((last + 1, last + 1), (last - 2, last), now=now + 2 * RTT)
    assert sender.recovery.mtu.size == LARGE


def test_large_packets_met_by_silence_make_a_black_hole_and_small_ones_do_not() -> None:
    for size, falls in ((LARGE, True), (SIZE, False)):
        sender = Sender()
        sender.grow(now=1.0)
        sender.run(5, now=1.1, size=size)
        for _ in range(SUSPICIOUS_PTOS):
            assert sender.recovery.mtu.size == LARGE
            due = sender.recovery.deadline()
            assert due is not None
            sender.recovery.handle_timer(due)
        assert (sender.recovery.mtu.size == BASE) is falls


def test_the_search_is_taken_up_again_by_what_arrives_once_it_is_time() -> None:
    sender = Sender()
    sender.grow(now=1.0)
    sender.recovery.on_too_big(8800, now=1.0)
    for late, wanted in ((599.0, 0), (601.0, 8800)):
        sender.run(1, now=late)
        last = sender.recovery.largest_sent
        sender.ack((last, last), now=1.0 + late)
        assert sender.recovery.mtu.wanted == wanted


def test_another_path_is_searched_from_the_beginning() -> None:
    sender = Sender()
    sender.grow(now=1.0)
    number = sender.probe(now=1.1)
    sender.recovery.reset_for_new_path(Ledger(), RttEstimator(), MtuSearch(65_472), 1.2)
    assert (sender.recovery.mtu.size, sender.recovery.mtu.wanted) == (BASE, LARGE)
    sender.ack((number, number), now=1.2)
    assert sender.recovery.mtu.size == BASE, "a probe of the old path says nothing about the new one"


# Marks.


def marked(sender: Sender, count: int, now: float) -> int:
    """Send a run of marked packets; the number of the last."""
    assert sender.recovery.ecn is not None
    sender.run(count, now=now)
    last = sender.recovery.largest_sent
    assert sender.recovery.ecn.mark(last - count + 1, count)
    return last


def test_a_ce_mark_is_congestion_at_the_newest_that_arrived_and_before_growth() -> None:
    sender = Sender()
    last = marked(sender, 10, now=1.0)
    sender.ledger.told.clear()
    sender.recovery.on_ack(((0, last),), 0.0, 1.1, False, (9, 0, 1))
    assert sender.ledger.told == [("marked", 1.0)], "what was sent before the reduction grows nothing"
    assert sender.recovery.ecn is not None
    assert sender.recovery.ecn.state is EcnState.CAPABLE


def test_an_overtaken_ack_does_not_fail_the_marks() -> None:
    sender = Sender()
    marked(sender, 10, now=1.0)
    sender.recovery.on_ack(((9, 9), (0, 6)), 0.0, 1.1, False, (8, 0, 0))
    outcome = sender.recovery.on_ack(((0, 7),), 0.0, 1.1, False, (7, 0, 0))
    assert outcome.acked == [run(7, 1)]
    assert sender.recovery.ecn is not None
    assert sender.recovery.ecn.state is EcnState.CAPABLE


def test_marks_of_an_earlier_path_are_not_held_against_the_new_one() -> None:
    sender = Sender()
    last = marked(sender, 10, now=1.0)
    fresh = Ledger()
    sender.recovery.reset_for_new_path(fresh, RttEstimator(), MtuSearch(65_472), 1.1)
    sender.recovery.on_ack(((0, last),), 0.0, 1.1, False, (5, 0, 5))
    assert fresh.told == []


def test_another_path_is_tested_anew_and_a_probe_timeout_ends_its_test() -> None:
    sender = Sender()
    ecn = sender.recovery.ecn
    assert ecn is not None
    last = marked(sender, 10, now=1.0)
    sender.ack((0, last), now=1.1)
    sender.recovery.reset_for_new_path(Ledger(), RttEstimator(), MtuSearch(65_472), 1.2)
    last = marked(sender, 2, now=1.2)
    due = sender.recovery.deadline()
    assert due is not None
    sender.recovery.handle_timer(due)
    assert not ecn.mark(last + 1, 2)


def test_an_ack_without_counts_ends_the_marking() -> None:
    sender = Sender()
    last = marked(sender, 10, now=1.0)
    sender.ack((0, last), now=1.1)
    assert sender.recovery.ecn is not None
    assert sender.recovery.ecn.state is EcnState.FAILED


def test_a_reduction_for_marks_is_not_taken_back_by_what_arrives_late() -> None:
    sender = Sender()
    last = marked(sender, 10, now=1.0)
    sender.recovery.on_ack(((3, last),), 0.0, 1.1, False, (7, 0, 1))
    assert [told for told in sender.ledger.told if told[0] != "acked"][-2:] == [("marked", 1.0), ("congestion", 1.0)]
    sender.recovery.on_ack(((0, last),), 0.0, 1.11, False, (10, 0, 1))
    assert ("spurious",) not in sender.ledger.told
