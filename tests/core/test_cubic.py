"""CUBIC against the numbers and formulas of RFC 9438."""

from __future__ import annotations

from collections.abc import Callable
from math import cbrt, inf, sqrt

import pytest

from stt_core.recovery.congestion import CongestionController
from stt_core.recovery.cubic import ALPHA, BETA, C, Cubic
from stt_core.recovery.newreno import NewReno

SIZE = 1200
RTT = 0.1


def after_loss(datagrams: int, *, size: int = SIZE, rtt: float = RTT, now: float = 0.0) -> Cubic:
    """A controller whose window was ``datagrams`` datagrams when it met its first loss, at ``now``."""
    cubic = Cubic(size)
    cubic.on_rtt(rtt, rtt, now - rtt, now)
    cubic.on_acked(datagrams * size - cubic.cwnd, now, app_limited=False)
    assert cubic.cwnd == datagrams * size
    assert cubic.on_congestion(now - rtt / 2, now)
    return cubic


def round_trip(cubic: CongestionController, now: float, rtt: float = RTT, acks: int = 20) -> float:
    """A full window arrives in ``acks`` ACKs, evenly over one round trip; returns when it is over."""
    share = cubic.cwnd // acks
    for number in range(1, acks + 1):
        cubic.on_acked(share, now + number * rtt / acks, app_limited=False)
    return now + rtt


def curve(elapsed: float, plateau: float, start: float) -> float:
    """Equations 1 and 2 in datagrams: the window ``elapsed`` seconds after it was ``start``."""
    return C * (elapsed - cbrt((plateau - start) / C)) ** 3 + plateau


def test_a_loss_leaves_seven_tenths() -> None:
    cubic = after_loss(100)
    assert cubic.cwnd == cubic.ssthresh == 84_000
    assert not cubic.on_congestion(0.0, 0.1), "sent before: the same trouble"
    assert cubic.cwnd == 84_000
    assert cubic.on_congestion(0.01, 0.2)
    assert cubic.cwnd == 58_800


@pytest.mark.parametrize("size", [1200, 8900])
@pytest.mark.parametrize("acks", [2, 20, 300])
def test_after_a_loss_the_window_follows_the_curve(size: int, acks: int) -> None:
    """Looked ahead by a round trip and reached within one, it is never further from the curve than that."""
    cubic = after_loss(1000, size=size)
    now = round_trip(cubic, 0.1, acks=acks)
    # The first ACK begins the stage.
    begun = 0.1 + RTT / acks
    while now < 14.0:
        window = cubic.cwnd / size
        assert curve(now - begun - RTT, 1000, 700) - 0.5 <= window <= curve(now - begun + RTT, 1000, 700)
        now = round_trip(cubic, now, acks=acks)


def test_the_old_window_is_reached_again_after_k_seconds() -> None:
    """K = cbrt((1000 - 700) / 0.4) = 9.086 s."""
    cubic = after_loss(1000)
    now = 0.1
    while now < 9.086 - cbrt(1 / 0.4) - 0.2:
        now = round_trip(cubic, now)
    assert 998 * SIZE < cubic.cwnd < 999 * SIZE
    while now < 9.086 + cbrt(1 / 0.4):
        now = round_trip(cubic, now)
    assert 1000 * SIZE < cubic.cwnd < 1002 * SIZE, "it lingers there"
    for _ in range(60):
        now = round_trip(cubic, now)
    assert cubic.cwnd > 1100 * SIZE, "and then looks for more"


def test_growth_is_never_faster_than_half_a_window_per_window() -> None:
    cubic = after_loss(100)
    round_trip(cubic, 0.1)
    for late in (100.0, 1e4, 1e9):
        before = cubic.cwnd
        cubic.on_acked(before, late, app_limited=False)
        assert before < cubic.cwnd <= 1.5 * before


def test_fast_convergence_gives_up_more_where_the_plateau_was_not_reached() -> None:
    cubic = after_loss(1000)
    now = round_trip(cubic, 0.1)
    reached = cubic.cwnd
    assert 700 * SIZE < reached < 1000 * SIZE
    cubic.on_congestion(now, now)
    assert cubic.cwnd == int(0.7 * reached)
    # The plateau is now at 0.85 of what was reached: K is the cube root of 0.15 of it over C.
    plateau = 0.85 * reached / SIZE
    begun = now + RTT / 20
    now = round_trip(cubic, now)
    while now < begun + cbrt((plateau - 0.7 * reached / SIZE) / C):
        now = round_trip(cubic, now)
    assert cubic.cwnd / SIZE == pytest.approx(plateau, rel=0.01)


def deterministic_average(make: Callable[[int], CongestionController], loss: float, rtt: float) -> float:
    """The average window in datagrams where each 1/``loss``-th packet is lost: the model behind the RFC's tables."""
    controller = make(SIZE)
    controller.on_rtt(rtt, rtt, 0.0, rtt)
    controller.on_congestion(0.0, rtt)
    now, cycle, acks = rtt, 0, 20
    sent = area = duration = 0.0
    while cycle < 24:
        share = max(1, controller.cwnd // acks)
        step = rtt * share / controller.cwnd
        now += step
        sent += share / SIZE
        if cycle >= 12:  # the first cycles forget where it began
            area += controller.cwnd / SIZE * step
            duration += step
        if sent < 1 / loss:
            controller.on_acked(share, now, app_limited=False)
        else:
            sent -= 1 / loss
            cycle += 1
            controller.on_congestion(now, now)
    return area / duration


@pytest.mark.parametrize(
    ("loss", "rtt", "window"),
    [
        *[(1e-2, 0.1, 12), (1e-3, 0.1, 38), (1e-4, 0.1, 187), (1e-5, 0.1, 1054), (1e-6, 0.1, 5926)],
        *[(1e-2, 0.01, 12), (1e-3, 0.01, 38), (1e-4, 0.01, 120), (1e-5, 0.01, 379), (1e-6, 0.01, 1200)],
    ],
)
def test_average_windows_are_those_of_tables_1_and_2(loss: float, rtt: float, window: int) -> None:
    assert deterministic_average(Cubic, loss, rtt) == pytest.approx(window, rel=0.05)


@pytest.mark.parametrize("loss", [1e-2, 3e-3, 1e-3, 3e-4])
def test_where_reno_does_well_cubic_does_the_same(loss: float) -> None:
    reno = deterministic_average(NewReno, loss, 0.01)
    assert reno == pytest.approx(sqrt(1.5 / loss), rel=0.05)
    assert deterministic_average(Cubic, loss, 0.01) == pytest.approx(reno, rel=0.05)


def test_in_the_reno_region_the_window_grows_by_alpha_and_by_one_once_it_is_won_back() -> None:
    rtt = 0.001  # so short that the curve stands still
    cubic = after_loss(100, rtt=rtt)
    now = 0.001
    trips = 0
    while cubic.cwnd < 99 * SIZE:
        now = round_trip(cubic, now, rtt, acks=70)
        trips += 1
    assert trips == pytest.approx(29 / ALPHA, abs=2)
    assert pytest.approx(9 / 17) == ALPHA
    while cubic.cwnd < 101 * SIZE:
        now = round_trip(cubic, now, rtt, acks=70)
    before = cubic.cwnd
    for _ in range(10):
        now = round_trip(cubic, now, rtt, acks=70)
    assert (cubic.cwnd - before) / SIZE == pytest.approx(10, rel=0.03)


@pytest.mark.parametrize("region", ["cubic", "reno"])
def test_one_ack_of_many_packets_grows_the_window_no_more_than_one_by_one(region: str) -> None:
    rtt = 0.1 if region == "cubic" else 0.001
    for datagrams in (4, 70, 1000):
        for share in (0.05, 0.3, 1.0):
            whole, single = after_loss(datagrams, rtt=rtt), after_loss(datagrams, rtt=rtt)
            now, packets = 3 * rtt, max(1, int(share * datagrams * BETA))
            for controller in (whole, single):
                controller.on_acked(SIZE, 2 * rtt, app_limited=False)
            before = whole.cwnd
            whole.on_acked(packets * SIZE, now, app_limited=False)
            for _ in range(packets):
                single.on_acked(SIZE, now, app_limited=False)
            assert before < whole.cwnd <= single.cwnd + 1
            assert whole.cwnd - before >= 0.6 * (single.cwnd - before), "nor much less"


def test_time_without_use_of_the_window_is_no_time() -> None:
    """Section 5.8: idle, or with too little to send, for however long, the window goes on where it was."""
    busy, idle, slow = after_loss(1000), after_loss(1000), after_loss(1000)
    now = 0.1
    for controller in (busy, idle, slow):
        for trip in range(20):
            round_trip(controller, now + trip * RTT)
    now += 20 * RTT
    pause = 1000.0
    idle.on_restart(now + pause)
    for second in range(1, 1001):
        slow.on_acked(SIZE, now + second, app_limited=True)
    assert idle.cwnd == slow.cwnd == busy.cwnd
    round_trip(busy, now)
    round_trip(idle, now + pause)
    round_trip(slow, now + pause)
    assert idle.cwnd == slow.cwnd == pytest.approx(busy.cwnd, abs=2)


def test_sending_again_at_once_after_all_has_arrived_takes_no_time_off() -> None:
    """A small window is often empty for an instant."""
    full, empty = after_loss(1000), after_loss(1000)
    now = 0.1
    for _ in range(50):
        round_trip(full, now, acks=1)
        now = round_trip(empty, now, acks=1)
        empty.on_restart(now)
    assert empty.cwnd == full.cwnd > 800 * SIZE


def test_slow_start_that_ends_without_a_loss_goes_on_from_its_own_plateau() -> None:
    cubic = Cubic(SIZE)
    now = 0.0
    for rtt in (0.1, 0.1, 0.15, *[0.15] * 6):
        sent_at, now = now, now + rtt
        for _ in range(8):
            cubic.on_rtt(rtt, rtt, sent_at, now)
        if cubic.ssthresh == inf:
            cubic.on_acked(100 * SIZE, now, app_limited=False)
    left = cubic.cwnd
    assert cubic.ssthresh == left == 12_000 + (2 * 100 + 5 * 25) * SIZE
    begun = now + 0.15 / 20
    for _ in range(40):
        now = round_trip(cubic, now, 0.15)
    expected = left / SIZE + C * (now - begun) ** 3
    ahead = left / SIZE + C * (now - begun + 0.15) ** 3
    assert expected * 0.99 <= cubic.cwnd / SIZE <= ahead


def test_after_persistent_congestion_slow_start_leads_to_a_curve_from_there() -> None:
    cubic = after_loss(1000)
    cubic.on_persistent_congestion(0.5)
    assert (cubic.cwnd, cubic.ssthresh, cubic.recovery_start) == (2400, 700 * SIZE, -inf)
    cubic.on_acked(697 * SIZE, 1.0, app_limited=False)
    assert cubic.cwnd == 699 * SIZE
    cubic.on_acked(2 * SIZE, 1.0, app_limited=False)
    assert 700 * SIZE <= cubic.cwnd < 701 * SIZE
    now = 1.0
    for _ in range(80):
        now = round_trip(cubic, now)
    assert 700 + C * 8.0**3 <= cubic.cwnd / SIZE <= 700 + C * 8.1**3, "no plateau above, K is 0"


def test_a_loss_that_was_none_is_taken_back_whole() -> None:
    cubic = after_loss(1000)
    now = 0.1
    for _ in range(20):
        now = round_trip(cubic, now)
    twin = after_loss(1000)
    at = 0.1
    for _ in range(20):
        at = round_trip(twin, at)
    assert cubic.on_congestion(now, now)
    cubic.on_spurious_congestion()
    assert (cubic.cwnd, cubic.ssthresh, cubic.recovery_start) == (twin.cwnd, twin.ssthresh, twin.recovery_start)
    for _ in range(20):
        now, at = round_trip(cubic, now), round_trip(twin, at)
    assert cubic.cwnd == twin.cwnd


def test_slow_start_goes_on_where_its_first_loss_was_none() -> None:
    cubic = after_loss(100)
    cubic.on_spurious_congestion()
    assert (cubic.cwnd, cubic.ssthresh) == (100 * SIZE, inf)
    cubic.on_acked(10 * SIZE, 0.2, app_limited=False)
    assert cubic.cwnd == 110 * SIZE


def test_what_was_measured_in_other_datagrams_is_not_brought_back() -> None:
    cubic = after_loss(100)
    cubic.set_datagram_size(8900)
    cubic.on_spurious_congestion()
    assert cubic.cwnd == 70 * SIZE


def test_only_the_first_slow_start_listens_to_the_queue() -> None:
    cubic = after_loss(100)
    cubic.on_persistent_congestion(1.0)
    now = 1.0
    for rtt in (0.1, *[0.3] * 8):
        sent_at, now = now, now + rtt
        for _ in range(8):
            cubic.on_rtt(rtt, rtt, sent_at, now)
    assert cubic.ssthresh == 70 * SIZE
    cubic.on_acked(10 * SIZE, now, app_limited=False)
    assert cubic.cwnd == 12 * SIZE


def test_what_was_marked_is_not_taken_back() -> None:
    cubic = after_loss(100)
    assert not cubic.on_congestion(-0.01, 0.01, marked=True), "the same trouble, but a mark is no mistake"
    cubic.on_spurious_congestion()
    assert cubic.cwnd == 70 * SIZE
    assert cubic.on_congestion(0.5, 0.6, marked=True)
    cubic.on_spurious_congestion()
    assert cubic.cwnd == 49 * SIZE


def test_a_window_that_has_grown_beyond_is_not_set_back() -> None:
    cubic = after_loss(10)
    now = 0.1
    while cubic.cwnd <= 10 * SIZE:
        now = round_trip(cubic, now)
    reached = cubic.cwnd
    cubic.on_spurious_congestion()
    assert cubic.cwnd == reached


def test_the_window_never_falls_below_two_datagrams() -> None:
    cubic = Cubic(SIZE)
    for step in range(1, 20):
        cubic.on_congestion(float(step), step + 0.5)
    assert cubic.cwnd == cubic.ssthresh == 2 * SIZE
    cubic.set_datagram_size(8900)
    assert cubic.cwnd == 2 * 8900


def test_larger_datagrams_change_the_pace_and_not_the_window() -> None:
    cubic = after_loss(1000)
    now = 0.1
    for _ in range(20):
        now = round_trip(cubic, now)
    before = cubic.cwnd
    cubic.set_datagram_size(8900)
    assert cubic.cwnd == before
    now = round_trip(cubic, now)
    assert before <= cubic.cwnd < 1.02 * before
