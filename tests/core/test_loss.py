"""Loss detection: what an ACK or a timer makes of the packets in flight (RFC 9002 section 6 and appendix A)."""

from __future__ import annotations

import pytest

from stt_core.errors import ErrorCode, Violation
from stt_core.recovery.loss import MAX_PTO, MAX_SKIPPED, MAX_SUSPECTS, Outcome, Recovery
from stt_core.recovery.mtu import BASE, MtuSearch
from stt_core.recovery.newreno import NewReno
from stt_core.rtt import RttEstimator
from tests.core.sender import BODY, MAX_ACK_DELAY, RTT, SIZE, Ledger, Sender, run


def test_an_ack_of_whole_runs_empties_the_flight() -> None:
    sender = Sender()
    sender.run(50, now=1.0)
    sender.run(14, now=1.01)
    assert sender.recovery.bytes_in_flight == 64 * SIZE
    outcome = sender.ack((0, 63), now=1.1)
    assert outcome.acked == [run(0, 50), run(50, 14)]
    assert outcome.acked_bytes == 64 * SIZE
    assert sender.recovery.bytes_in_flight == 0
    assert sender.recovery.deadline() is None


def test_ack_ranges_split_runs_wherever_they_end() -> None:
    sender = Sender()
    sender.run(20, now=1.0)
    outcome = sender.ack((17, 17), (14, 15), (3, 9), now=1.1)
    assert outcome.acked == [run(3, 7), run(14, 2), run(17, 1)]
    assert outcome.lost == [run(0, 3), run(10, 4)]
    assert sender.recovery.bytes_in_flight == 3 * SIZE, "16 may be reordered, 18 and 19 have no later ACK"
    assert sender.ack((16, 19), now=1.11).acked == [run(16, 1), run(18, 2)]


def test_mixed_packets_come_back_as_the_tokens_they_carried() -> None:
    sender = Sender()
    sender.frame(0, now=1.0)
    sender.run(3, now=1.0)
    sender.frame(4, now=1.0)
    outcome = sender.ack((0, 4), now=1.1)
    assert outcome.acked == [(1, [(0x24, 0)]), run(1, 3), (1, [(0x24, 4)])]
    assert outcome.acked_bytes == 3 * SIZE + 200


def test_a_repeated_or_older_ack_changes_nothing() -> None:
    sender = Sender()
    sender.run(10, now=1.0)
    sender.ack((4, 5), (0, 2), now=1.1)
    told, deadline = list(sender.ledger.told), sender.recovery.deadline()
    for ranges in (((4, 5), (0, 2)), ((0, 1),)):
        outcome = sender.ack(*ranges, now=1.15)
        assert (outcome.acked, outcome.lost, outcome.acked_bytes) == ([], [], 0)
    assert sender.ledger.told == told
    assert sender.recovery.deadline() == deadline
    assert sender.recovery.rtt.latest == pytest.approx(0.1)


def test_packets_that_elicit_no_ack_are_never_in_flight_nor_lost() -> None:
    sender = Sender()
    sender.recovery.on_sent(0, 1, 60, [], 1.0)
    assert sender.recovery.bytes_in_flight == 0
    assert sender.recovery.deadline() is None
    sender.run(5, now=1.0, start=0)
    outcome = sender.ack((5, 5), now=1.1)
    assert [count for count, _ in outcome.lost] == [2], "numbers 1 and 2; number 0 is nobody's loss"
    assert sender.ledger.told[0] == ("restart", 1.0)
    assert sender.ledger.told[1] == ("congestion", 1.0)


def test_three_later_packets_make_a_loss_and_two_do_not() -> None:
    sender = Sender()
    sender.run(4, now=1.0)
    assert sender.ack((1, 2), now=1.05).lost == []
    assert sender.ack((1, 3), now=1.05).lost == [run(0, 1)]
    assert sender.recovery.packets_lost == 1


def test_nine_eighths_of_a_round_trip_make_a_loss() -> None:
    sender = Sender()
    sender.run(1, now=1.0)
    sender.run(1, now=1.0)
    assert sender.ack((1, 1), now=1.1).lost == []
    due = sender.recovery.deadline()
    assert due is not None
    assert due == pytest.approx(1.0 + 9 / 8 * RTT)
    assert sender.recovery.handle_timer(due - 1e-6).lost == []
    outcome = sender.recovery.handle_timer(due)
    assert outcome.lost == [run(0, 1)]
    assert outcome.probes == 0
    assert sender.recovery.deadline() is None


@pytest.mark.parametrize("start", [0.0, 0.1, 12345.678, 1e7 + 1 / 3])
def test_the_loss_timer_always_finds_its_loss(start: float) -> None:
    """A timer set to a moment must not find, at that very moment, a rounding error left to wait for."""
    for step in range(50):
        sender = Sender()
        sender.run(2, now=start + step / 7)
        sender.ack((1, 1), now=start + step / 7 + 0.0917)
        due = sender.recovery.deadline()
        assert due is not None
        assert sender.recovery.handle_timer(due).lost == [run(0, 1)]


def test_the_timer_is_for_the_oldest_of_the_undecided() -> None:
    sender = Sender()
    sender.run(1, now=1.0)
    sender.run(1, now=1.02)
    sender.run(1, now=1.04)
    sender.ack((2, 2), now=1.05)
    assert sender.recovery.deadline() == pytest.approx(1.0 + 9 / 8 * sender.recovery.rtt.smoothed)
    assert sender.recovery.handle_timer(1.0 + 9 / 8 * RTT).lost == [run(0, 1)]
    assert sender.recovery.deadline() == pytest.approx(1.02 + 9 / 8 * sender.recovery.rtt.smoothed)


def test_a_lost_packet_acknowledged_late_is_not_counted_twice() -> None:
    sender = Sender()
    sender.run(10, now=1.0)
    sender.ack((5, 9), now=1.1)
    assert sender.recovery.bytes_in_flight == 0
    outcome = sender.ack((0, 9), now=1.2)
    assert outcome.acked == []
    assert sender.recovery.bytes_in_flight == 0


def test_only_a_newly_acknowledged_largest_packet_gives_an_rtt_sample() -> None:
    sender = Sender()
    sender.run(1, now=1.0)
    sender.run(1, now=1.0)
    sender.ack((1, 1), now=1.2)
    assert sender.recovery.rtt.latest == pytest.approx(0.2)
    sender.ack((0, 1), now=1.21)
    assert sender.recovery.rtt.latest == pytest.approx(0.2), "0 is new, but the largest is not"


def test_the_ack_delay_counts_up_to_what_the_peer_announced() -> None:
    sender = Sender()
    sender.run(1, now=1.0)
    sender.ack((0, 0), now=1.3, delay=0.2)
    assert sender.recovery.rtt.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * (0.3 - MAX_ACK_DELAY))


def test_losses_are_told_before_arrivals_which_then_grow_nothing() -> None:
    sender = Sender()
    sender.run(10, now=1.0)
    sender.ledger.told.clear()
    sender.ack((1, 9), now=1.1)
    assert sender.ledger.told == [("congestion", 1.0)]
    assert sender.recovery.bytes_in_flight == 0


def test_arrivals_are_told_once_per_ack_and_only_those_sent_after_the_last_reduction() -> None:
    sender = Sender()
    sender.run(10, now=1.0)
    sender.frame(10, now=1.0)
    sender.run(5, now=1.05)
    sender.ledger.recovery_start = 1.0
    sender.ledger.told.clear()
    outcome = sender.ack((0, 15), now=1.1, app_limited=True)
    assert sender.ledger.told == [("acked", 5 * SIZE, 1.1, True)]
    assert outcome.acked_bytes == 15 * SIZE + 100


def test_a_full_window_was_used_whatever_the_application_could_have_added() -> None:
    for cwnd, limited in ((10 * SIZE, False), (11 * SIZE - 1, False), (11 * SIZE, True)):
        sender = Sender()
        sender.ledger.cwnd = cwnd
        sender.run(10, now=1.0)
        sender.ack((0, 9), now=1.1, app_limited=True)
        assert sender.ledger.told[-1] == ("acked", 10 * SIZE, 1.1, limited)


def test_the_congestion_controller_hears_of_each_sample_and_of_sending_after_a_pause() -> None:
    sender = Sender()
    sender.run(2, now=1.0)
    sender.run(2, now=1.01)
    sender.ack((0, 1), now=1.1)
    sender.run(1, now=1.11)
    sender.ack((0, 4), now=1.2)
    sender.run(1, now=9.0)
    assert sender.ledger.samples == [(1.1 - 1.0, 1.0, 1.1), (1.2 - 1.11, 1.11, 1.2)]
    assert [told for told in sender.ledger.told if told[0] == "restart"] == [("restart", 1.0), ("restart", 9.0)]


def test_several_losses_of_one_ack_are_one_congestion_event_at_the_newest() -> None:
    sender = Sender()
    sender.run(3, now=1.0)
    sender.run(3, now=1.01)
    sender.run(4, now=1.02)
    sender.ledger.told.clear()
    outcome = sender.ack((9, 9), now=1.03)
    assert outcome.lost == [run(0, 3), run(3, 3), run(6, 1)]
    assert sender.ledger.told[0] == ("congestion", 1.02)
    assert [name for name, *_ in sender.ledger.told].count("congestion") == 1


def test_the_probe_timer_runs_from_the_last_packet_that_elicits_an_ack() -> None:
    sender = Sender()
    sender.run(5, now=1.0)
    sender.run(5, now=1.04)
    sender.recovery.on_sent(10, 1, 60, [], 1.06)
    assert sender.recovery.pto == pytest.approx(RTT + 4 * RTT / 2 + MAX_ACK_DELAY)
    assert sender.recovery.deadline() == pytest.approx(1.04 + sender.recovery.pto)


def test_a_probe_timeout_asks_for_two_probes_and_loses_nothing() -> None:
    sender = Sender()
    sender.run(5, now=1.0)
    due = sender.recovery.deadline()
    assert due is not None
    assert sender.recovery.handle_timer(due - 1e-6).probes == 0
    outcome = sender.recovery.handle_timer(due)
    assert (outcome.probes, outcome.lost) == (2, [])
    assert sender.recovery.pto_count == 1
    assert sender.recovery.bytes_in_flight == 5 * SIZE
    assert sender.recovery.deadline() == pytest.approx(due + 2 * sender.recovery.pto)


def test_the_backoff_doubles_up_to_its_cap_and_ends_with_progress() -> None:
    sender = Sender()
    sender.run(2, now=0.0)
    waits = []
    now = 0.0
    for _ in range(40):
        due = sender.recovery.deadline()
        assert due is not None
        waits.append(due - now)
        now = due
        assert sender.recovery.handle_timer(now).probes == 2
    assert waits[:4] == pytest.approx([sender.recovery.pto * factor for factor in (1, 2, 4, 8)])
    assert waits[-1] == MAX_PTO
    sender.ack((0, 0), now=now)
    assert sender.recovery.pto_count == 0


@pytest.mark.parametrize(("most", "longest"), [(2.5, 2.5), (0.1, 0.325)])
def test_a_lower_cap_on_the_backoff_never_goes_below_one_timeout(most: float, longest: float) -> None:
    sender = Sender()
    sender.recovery.max_pto = most
    sender.run(2, now=0.0)
    now = 0.0
    for _ in range(10):
        due = sender.recovery.deadline()
        assert due is not None
        wait, now = due - now, due
        sender.recovery.handle_timer(now)
    assert sender.recovery.pto == pytest.approx(0.325)
    assert wait == pytest.approx(longest)


def test_a_very_late_timer_fires_once_even_if_no_probe_can_be_sent() -> None:
    sender = Sender()
    sender.run(2, now=1.0)
    assert sender.recovery.handle_timer(1e6).probes == 2
    assert sender.recovery.handle_timer(1e6).probes == 0


def test_the_oldest_unacked_are_offered_packet_by_packet_and_stay_in_flight() -> None:
    sender = Sender()
    sender.frame(0, now=1.0)
    sender.run(4, now=1.0)
    sender.frame(5, now=1.0)
    assert sender.recovery.oldest_unacked(0) == []
    assert sender.recovery.oldest_unacked(3) == [(1, [(0x24, 0)]), run(1, 1), run(2, 1)]
    assert len(sender.recovery.oldest_unacked(100)) == 6
    sender.ack((0, 2), now=1.1)
    assert sender.recovery.oldest_unacked(1) == [run(3, 1)]
    assert sender.recovery.bytes_in_flight == 2 * SIZE + 100


def test_everything_lost_over_three_ptos_is_persistent_congestion() -> None:
    sender = Sender()
    span = 3 * sender.recovery.pto
    sender.run(1, now=1.0)
    sender.run(1, now=1.0 + span / 2)
    sender.run(1, now=1.0 + span + 0.01)
    sender.run(3, now=1.0 + span + 0.02)
    outcome = sender.ack((5, 5), now=1.0 + span + 0.02 + RTT)
    assert [count for count, _ in outcome.lost[:3]] == [1, 1, 1]
    assert outcome.persistent_congestion
    assert ("persistent",) in sender.ledger.told
    assert sender.recovery.rtt.minimum == sender.recovery.rtt.latest


def losses_around(arrived: int, *, sampled: bool = True, stretch: float = 1.0) -> Outcome:
    """Packets 0 to 4 over a little more than three PTOs (times ``stretch``), ``arrived`` got through, 5 to 8 follow."""
    sender = Sender(sampled=sampled)
    for _ in range(100 if sampled else 0):
        sender.recovery.rtt.update(RTT, 0.0, now=0.0)  # settled: the sample that comes with the ACK moves no PTO
    step = stretch * 3.01 * sender.recovery.pto / 4
    for number in range(5):
        sender.run(1, now=1.0 + number * step)
    sender.run(4, now=1.0 + 4 * step)
    return sender.ack((8, 8), (arrived, arrived), now=1.0 + 4 * step + RTT)


def test_one_arrival_in_between_is_no_persistent_congestion() -> None:
    assert not losses_around(2).persistent_congestion
    assert losses_around(7).persistent_congestion, "an arrival after all of it changes nothing"


def test_a_shorter_time_is_no_persistent_congestion() -> None:
    assert not losses_around(7, stretch=0.99).persistent_congestion


def test_before_the_first_rtt_sample_there_is_no_persistent_congestion() -> None:
    assert not losses_around(7, sampled=False, stretch=1.5).persistent_congestion


def test_an_arrival_told_by_an_earlier_ack_breaks_persistent_congestion() -> None:
    sender = Sender()
    span = 3 * sender.recovery.pto
    sender.run(1, now=1.0)
    sender.run(1, now=1.01)
    assert sender.ack((1, 1), now=1.02).lost == []
    sender.run(1, now=1.0 + span + 0.1)
    sender.run(3, now=1.0 + span + 0.2)
    outcome = sender.ack((5, 5), now=1.0 + span + 0.3)
    assert [count for count, _ in outcome.lost] == [1, 1]
    assert not outcome.persistent_congestion


@pytest.mark.parametrize("ranges", [((12, 12),), ((10, 11), (0, 3)), ((3, 9),), ((9, 9), (4, 6)), ((5, 5),)])
def test_acknowledging_what_was_never_sent_is_a_violation_and_changes_nothing(
    ranges: tuple[tuple[int, int], ...],
) -> None:
    sender = Sender()
    sender.run(5, now=1.0)
    sender.recovery.skip(5)
    sender.recovery.on_sent(6, 4, SIZE, (4, 5 * BODY, BODY), 1.0)
    told = list(sender.ledger.told)
    with pytest.raises(Violation) as raised:
        sender.ack(*ranges, now=1.1)
    assert raised.value.code is ErrorCode.OPTIMISTIC_ACK
    assert (sender.recovery.bytes_in_flight, sender.recovery.largest_acked) == (9 * SIZE, -1)
    assert sender.ledger.told == told


def test_an_honest_ack_leaves_the_skipped_number_out() -> None:
    sender = Sender()
    sender.run(5, now=1.0)
    sender.recovery.skip(5)
    sender.recovery.on_sent(6, 4, SIZE, (4, 5 * BODY, BODY), 1.0)
    outcome = sender.ack((6, 9), (0, 4), now=1.1)
    assert outcome.acked == [run(0, 5), run(5, 4)]


def test_a_number_skipped_at_the_head_of_what_is_to_come_is_never_sent_either() -> None:
    sender = Sender()
    sender.run(5, now=1.0)
    sender.recovery.skip(5)
    with pytest.raises(Violation):
        sender.ack((0, 5), now=1.1)


def test_the_memory_of_skipped_numbers_is_bounded_and_keeps_the_newest() -> None:
    sender = Sender()
    for number in range(0, 4 * MAX_SKIPPED, 2):
        sender.recovery.skip(number)
        sender.frame(number + 1, now=1.0)
    newest = 4 * MAX_SKIPPED - 2
    with pytest.raises(Violation):
        sender.ack((newest, newest + 1), now=1.1)
    with pytest.raises(Violation):
        sender.ack((2 * MAX_SKIPPED, 2 * MAX_SKIPPED), now=1.1)
    assert sender.ack((1, 1), now=1.1).acked == [(1, [(0x24, 1)])]


def test_packets_of_an_earlier_path_tell_nothing_about_the_new_one() -> None:
    sender = Sender()
    sender.run(10, now=1.0)
    fresh, rtt = Ledger(), RttEstimator()
    sender.recovery.reset_for_new_path(fresh, rtt, MtuSearch(BASE), 1.05)
    assert sender.recovery.bytes_in_flight == 0
    outcome = sender.ack((4, 9), (0, 0), now=1.1)
    assert (outcome.acked, outcome.lost) == ([run(0, 1), run(4, 6)], [run(1, 3)]), "but they arrive and are lost"
    assert fresh.told == []
    assert not rtt.has_sample
    sender.run(1, now=1.2)
    sender.ack((10, 10), now=1.3)
    assert fresh.told == [("restart", 1.2), ("acked", SIZE, 1.3, False)]
    assert rtt.latest == pytest.approx(0.1)


def test_the_window_left_is_what_the_flight_leaves_of_it() -> None:
    recovery = Recovery(congestion=NewReno(SIZE), rtt=RttEstimator(), max_ack_delay=MAX_ACK_DELAY)
    recovery.on_sent(0, 4, SIZE, (4, 0, BODY), 1.0)
    assert recovery.window_left == 6 * SIZE
    recovery.on_sent(4, 8, SIZE, (4, 4 * BODY, BODY), 1.0)
    assert recovery.window_left == 0, "probes may go beyond"


def test_an_ack_costs_by_the_run_and_not_by_the_packet() -> None:
    """A million packets in three records are acknowledged as fast as three."""
    sender = Sender()
    for _ in range(3):
        sender.run(1_000_000, now=1.0)
    outcome = sender.ack((1_500_000, 2_999_999), (0, 1_499_998), now=1.1)
    assert len(outcome.acked) == 4
    assert outcome.lost == [run(1_499_999, 1)]
    assert sender.recovery.packets_acked == 2_999_999


def test_skipped_numbers_of_a_whole_window_are_remembered() -> None:
    """16 MiB in datagrams of 1200 bytes, with a number skipped as often as that is done."""
    sender = Sender()
    first = sender.recovery.largest_sent + 1
    sent = number = 0
    while sent < 16 * 2**20:
        sender.recovery.skip(number)
        sender.recovery.on_sent(number + 1, 64, SIZE, (4, 0, BODY), 1.0)
        number += 65
        sent += 64 * SIZE
    with pytest.raises(Violation):
        sender.ack((first, number - 1), now=1.1)
    with pytest.raises(Violation):
        sender.ack((first, first), now=1.1)


# Losses that were none.


def overtaken(sender: Sender) -> None:
    """Of ten packets the first three are called lost."""
    sender.run(10, now=1.0)
    assert sender.ack((3, 9), now=1.1).lost == [run(0, 3)]


def test_a_reduction_is_taken_back_when_all_that_was_lost_arrives() -> None:
    sender = Sender()
    overtaken(sender)
    assert sender.ack((1, 9), now=1.11).acked == []
    assert ("spurious",) not in sender.ledger.told, "packet 0 is still missing"
    sender.ack((0, 9), now=1.12)
    assert sender.ledger.told[-1] == ("spurious",)
    sender.ack((0, 9), now=1.13)
    assert sender.ledger.told.count(("spurious",)) == 1


def test_more_losses_within_the_same_trouble_must_all_arrive() -> None:
    sender = Sender()
    sender.run(10, now=1.0)
    sender.ack((1, 1), (3, 5), now=1.1)  # 0 and 2 are lost
    sender.ack((9, 9), (3, 5), (1, 1), now=1.1)  # and now 6
    sender.ack((9, 9), (0, 5), now=1.11)
    assert ("spurious",) not in sender.ledger.told
    sender.ack((0, 9), now=1.12)
    assert sender.ledger.told[-1] == ("spurious",)


def test_only_what_was_lost_since_the_last_reduction_counts_for_it() -> None:
    sender = Sender()
    overtaken(sender)
    sender.run(10, now=1.2)
    assert sender.ack((14, 19), (3, 9), now=1.3).lost == [(4, (4, 10 * BODY, BODY))]
    sender.ack((3, 19), now=1.31)
    assert sender.ledger.told[-1] == ("spurious",), "0 to 2 were lost to the reduction before"


def test_after_two_probe_timeouts_a_loss_is_a_loss() -> None:
    for late, taken_back in ((2.0, True), (2.01, False)):
        sender = Sender()
        overtaken(sender)
        sender.ack((0, 9), now=1.1 + late * sender.recovery.pto)
        assert (("spurious",) in sender.ledger.told) is taken_back


def test_scattered_losses_beyond_what_is_remembered_count_as_real() -> None:
    for runs, taken_back in ((MAX_SUSPECTS, True), (MAX_SUSPECTS + 1, False)):
        sender = Sender()
        for _ in range(2 * runs + 3):
            sender.run(1, now=1.0)
        last = 2 * runs + 2
        arrived = [(n, n) for n in range(last - 3, 0, -2)]
        assert sender.ack((last, last), *arrived, now=1.1).lost_packets == runs
        sender.ack((0, last), now=1.2)
        assert (("spurious",) in sender.ledger.told) is taken_back
