"""NewReno grows, halves and starts over as RFC 9002 section 7 says."""

from __future__ import annotations

from math import inf

import pytest

from stt_core.recovery.congestion import CongestionController
from stt_core.recovery.newreno import NewReno


def in_avoidance(size: int = 1200, cwnd: int = 24_000) -> NewReno:
    """A controller past slow start: grown to twice ``cwnd``, then halved at time 1."""
    reno = NewReno(size)
    reno.on_acked(2 * cwnd - reno.cwnd, 0.5, app_limited=False)
    reno.on_congestion(0.5, 1.0)
    assert reno.cwnd == reno.ssthresh == cwnd
    return reno


@pytest.mark.parametrize(("size", "window"), [(1200, 12_000), (1452, 14_520), (8900, 17_800), (65_472, 130_944)])
def test_the_initial_window_follows_the_datagram_size(size: int, window: int) -> None:
    reno: CongestionController = NewReno(size)
    assert reno.cwnd == window
    assert reno.ssthresh == inf


def test_slow_start_grows_by_what_arrived() -> None:
    reno = NewReno(1200)
    reno.on_acked(12_000, 0.1, app_limited=False)
    assert reno.cwnd == 24_000


def test_avoidance_grows_by_one_datagram_per_window() -> None:
    reno = in_avoidance()
    for _ in range(20):
        assert reno.cwnd == 24_000
        reno.on_acked(1200, 2.1, app_limited=False)
    assert reno.cwnd == 25_200


def test_a_batch_grows_the_window_as_its_packets_one_by_one_would() -> None:
    whole, single = in_avoidance(), in_avoidance()
    whole.on_acked(60 * 1200, 2.1, app_limited=False)
    for _ in range(60):
        single.on_acked(1200, 2.1, app_limited=False)
    assert whole.cwnd == single.cwnd == 24_000 + 2 * 1200


def test_a_batch_that_crosses_the_threshold_leaves_slow_start_there() -> None:
    reno = in_avoidance()
    reno.on_persistent_congestion(2.0)
    assert reno.cwnd == 2400
    reno.on_acked(24_000, 3.1, app_limited=False)
    assert reno.cwnd == reno.ssthresh == 24_000, "the rest counts towards avoidance, and is less than a window"
    reno.on_acked(24_000, 3.1, app_limited=False)
    assert reno.cwnd == 25_200


def test_app_limited_acks_prove_nothing() -> None:
    for reno in (NewReno(1200), in_avoidance()):
        before = reno.cwnd
        reno.on_acked(10 * before, 2.1, app_limited=True)
        assert reno.cwnd == before


def test_a_halving_for_nothing_is_taken_back() -> None:
    reno = in_avoidance()
    reno.on_acked(12_000, 2.0, app_limited=False)
    assert reno.on_congestion(2.0, 2.1)
    assert reno.cwnd == 12_000
    reno.on_spurious_congestion()
    assert (reno.cwnd, reno.ssthresh, reno.recovery_start) == (24_000, 24_000, 1.0)
    reno.on_acked(12_000, 2.2, app_limited=False)
    assert reno.cwnd == 25_200, "what had arrived of the window before counts, too"


def test_slow_start_ends_where_the_queue_grows() -> None:
    reno = NewReno(1200)
    now = 0.0
    for rtt in (0.1, 0.15, 0.15, 0.15, 0.15, 0.15):
        sent_at, now = now, now + rtt
        for _ in range(8):
            reno.on_rtt(rtt, rtt, sent_at, now)
        reno.on_acked(12_000, now, app_limited=False)
    assert (reno.cwnd, reno.ssthresh) == (12_000 + 12_000 + 5 * 3000, inf)
    reno.on_rtt(0.15, 0.15, now, now + 0.15)
    assert reno.ssthresh == 39_000
    reno.on_acked(39_000, now + 0.15, app_limited=False)
    assert reno.cwnd == 40_200


def test_one_halving_per_recovery_period() -> None:
    reno = NewReno(1200)
    reno.on_acked(36_000, 0.1, app_limited=False)
    reno.on_congestion(0.5, 1.0)
    assert reno.cwnd == 24_000
    reno.on_congestion(0.9, 1.1)
    reno.on_congestion(1.0, 1.2)
    assert reno.cwnd == 24_000, "sent before the halving: the same trouble"
    reno.on_congestion(1.05, 1.3)
    assert reno.cwnd == 12_000


def test_what_was_sent_before_the_halving_is_known_by_its_time() -> None:
    reno = in_avoidance()
    assert reno.recovery_start == 1.0
    reno.on_persistent_congestion(2.0)
    assert reno.recovery_start == -inf, "the recovery period is over, too"


def test_the_window_never_falls_below_two_datagrams() -> None:
    reno = NewReno(1200)
    for step in range(1, 20):
        reno.on_congestion(float(step), step + 0.5)
    assert reno.cwnd == 2400


def test_after_persistent_congestion_slow_start_leads_out() -> None:
    reno = in_avoidance(cwnd=48_000)
    reno.on_persistent_congestion(2.0)
    assert (reno.cwnd, reno.ssthresh) == (2400, 48_000)
    reno.on_acked(1200, 2.0, app_limited=False)
    assert reno.cwnd == 3600


def test_a_larger_datagram_recomputes_only_an_untouched_window() -> None:
    reno = NewReno(1200)
    reno.set_datagram_size(16_368)
    assert reno.cwnd == 32_736
    reno.on_acked(1000, 0.1, app_limited=False)
    reno.set_datagram_size(1200)
    assert reno.cwnd == 33_736
    shrunk = in_avoidance()
    shrunk.on_persistent_congestion(2.0)
    shrunk.set_datagram_size(8900)
    assert shrunk.cwnd == 17_800
