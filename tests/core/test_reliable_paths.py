"""What loss detection and acknowledging leave to TCP (docs/protocol.md, "Reliable paths")."""

from __future__ import annotations

import pytest

from stt_core.acks import RELIABLE_BYTES, Acknowledgements
from stt_core.recovery.loss import RELIABLE_PTO, WATCH, Recovery
from stt_core.recovery.reliable import BOUNDLESS, FixedSize, NoControl
from stt_core.rtt import RttEstimator
from stt_core.timers import Timer, Timers
from tests.core.sender import BODY, MAX_ACK_DELAY, SIZE, Sender, run

LARGE = 65_472


def recovery() -> Recovery:
    return Recovery(
        congestion=NoControl(),
        rtt=RttEstimator(),
        max_ack_delay=MAX_ACK_DELAY,
        mtu=FixedSize(LARGE),
        reliable=True,
    )


def moved(now: float) -> Sender:
    """A sender with ten packets in flight on an earlier path, and on a reliable one now."""
    sender = Sender()
    sender.run(10, now=1.0)
    sender.recovery.reset_for_new_path(NoControl(), RttEstimator(), FixedSize(LARGE), now, reliable=True)
    return sender


def test_a_gap_is_no_loss() -> None:
    it = recovery()
    it.on_sent(0, 10, SIZE, (4, 0, BODY), 1.0)
    outcome = it.on_ack(((9, 9),), 0.0, 1.1, False)
    assert (outcome.acked, outcome.lost) == ([run(9, 1)], [])
    assert it.bytes_in_flight == 9 * SIZE
    assert it.deadline() is None, "and nothing will ever be probed for"
    assert it.on_ack(((0, 9),), 0.0, 1.2, False).acked == [run(0, 9)]


def test_what_left_before_is_lost_as_ever() -> None:
    sender = moved(now=1.1)
    sender.run(10, now=1.2)
    outcome = sender.ack((19, 19), (2, 4), now=1.3)
    assert outcome.lost == [run(0, 2), run(5, 5)]
    assert outcome.acked == [run(2, 3), run(19, 1)]
    assert sender.recovery.bytes_in_flight == 9 * SIZE


def test_after_a_change_there_are_probes_for_a_while_but_none_in_a_hurry() -> None:
    sender = moved(now=1.1)
    sender.recovery.rtt.update(0.001, 0.0, 1.15)
    sender.run(1, now=1.2)
    due = sender.recovery.deadline()
    assert due is not None
    assert due == pytest.approx(1.2 + RELIABLE_PTO)
    assert sender.recovery.handle_timer(due).probes
    while (due := sender.recovery.deadline()) is not None:
        assert due <= 1.1 + WATCH
        sender.recovery.handle_timer(due)


def test_the_end_of_the_path_loses_everything_and_is_no_congestion() -> None:
    it = recovery()
    it.on_sent(0, 4, LARGE, (4, 0, BODY), 1.0)
    it.on_sent(4, 1, SIZE, [(0x24, 1)], 1.0)
    it.on_ack(((0, 0),), 0.0, 1.1, False)
    outcome = it.on_path_closed(1.2)
    assert outcome.lost == [run(1, 3), (1, [(0x24, 1)])]
    assert (it.bytes_in_flight, it.packets_in_flight) == (0, 0)
    assert it.deadline() is None
    assert it.on_ack(((0, 4),), 0.0, 1.3, False).acked == [], "a late ACK is of no harm"


def test_everything_may_leave_at_once_and_in_large_packets() -> None:
    it = recovery()
    it.on_sent(0, 1000, LARGE, (4, 0, LARGE), 1.0)
    assert it.window_left > BOUNDLESS // 2
    assert (it.mtu.size, it.mtu.wanted) == (LARGE, 0)
    assert not it.on_too_big(LARGE, 1.0).lost_packets or it.mtu.size == LARGE
    it.congestion.on_congestion(1.0, 1.1)
    it.congestion.on_persistent_congestion(1.1)
    assert it.congestion.cwnd == BOUNDLESS


def test_an_ack_waits_for_many_bytes_or_for_the_delay() -> None:
    timers = Timers()
    acks = Acknowledgements(timers, recovery(), MAX_ACK_DELAY, 1.0)
    acks.packets.add(range(3))
    acks.packets.add([5])
    acks.on_eliciting(3, LARGE, 1.0)
    assert not acks.due, "however many packets, and with a gap"
    assert timers[Timer.ACK] == pytest.approx(1.0 + MAX_ACK_DELAY)
    acks.on_eliciting(1, LARGE, 1.01)
    assert timers[Timer.ACK] == pytest.approx(1.0 + MAX_ACK_DELAY), "which counts from the first"
    acks.on_eliciting(1, RELIABLE_BYTES - 2 * LARGE, 1.02)
    assert acks.due


def test_the_count_begins_anew_with_each_ack() -> None:
    acks = Acknowledgements(Timers(), recovery(), MAX_ACK_DELAY, 1.0)
    acks.packets.add(range(1))
    acks.on_eliciting(1, RELIABLE_BYTES - 1, 1.0)
    acks.on_sent([])
    acks.on_eliciting(1, RELIABLE_BYTES - 1, 1.0)
    assert not acks.due
