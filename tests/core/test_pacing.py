"""Pacing spreads a window over its round trip, keeps batches whole, and never stalls on a rounding error."""

from __future__ import annotations

from math import log

import pytest

from stt_core.recovery.pacing import UNLIMITED, Pacer


def paced(cwnd: int = 120_000, srtt: float = 0.1, now: float = 0.0) -> Pacer:
    pacer = Pacer()
    pacer.set_rate(cwnd, srtt, 1200, now)
    return pacer


def test_a_pacer_without_a_rate_holds_nothing_back() -> None:
    pacer = Pacer()
    pacer.on_sent(10**9, 1.0)
    assert pacer.budget(1.0) == UNLIMITED
    assert pacer.next_time(10**9, 1.0) is None


def test_disabling_lifts_the_limit() -> None:
    pacer = paced()
    pacer.on_sent(100_000, 0.0)
    assert pacer.budget(0.0) == 0
    pacer.disable()
    assert pacer.next_time(1200, 0.0) is None


def test_the_rate_is_a_quarter_above_one_window_per_round_trip() -> None:
    assert paced().rate == pytest.approx(1_500_000)


def test_slow_start_is_paced_fast_enough_to_double_in_a_round_trip() -> None:
    """Where the window doubles steadily, 2 ln 2 = 1.386 of what it is now must leave in the coming round trip."""
    pacer = Pacer()
    pacer.set_rate(120_000, 0.1, 1200, 0.0, slow_start=True)
    assert pacer.rate == pytest.approx(1_800_000)
    assert pacer.rate is not None
    assert pacer.rate > 2 * log(2) * 120_000 / 0.1


@pytest.mark.parametrize(("cwnd", "srtt", "burst"), [(120_000, 0.1, 12_000), (12_000_000, 0.01, 3_000_000)])
def test_a_burst_is_ten_packets_or_two_milliseconds(cwnd: int, srtt: float, burst: int) -> None:
    pacer = paced(cwnd, srtt)
    assert pacer.burst == pytest.approx(burst)
    pacer.on_sent(pacer.budget(0.0), 0.0)
    assert pacer.budget(100.0) == pytest.approx(burst, rel=0.01), "a pause fills one burst, no more"


def test_over_a_round_trip_the_rate_is_kept() -> None:
    pacer, now, sent = paced(), 0.0, 0
    while now < 1.0:
        at = pacer.next_time(1200, now)
        if at is None:
            pacer.on_sent(1200, now)
            sent += 1200
        else:
            assert at > now
            now = at
    assert sent == pytest.approx(1_500_000 + 12_000, rel=0.01)


@pytest.mark.parametrize("start", [0.0, 1e4, 1e7])
@pytest.mark.parametrize("cwnd", [2400, 120_000, 16 * 2**20])
def test_at_the_time_it_named_the_bytes_may_leave(start: float, cwnd: int) -> None:
    pacer, now = paced(cwnd, 0.0371, start), start
    for size in (1200, 1199, 7, 12_000, 3601) * 20:
        at = pacer.next_time(size, now)
        now = now if at is None else at
        assert pacer.budget(now) >= size
        pacer.on_sent(size, now)


def test_more_than_a_burst_waits_for_a_burst_only() -> None:
    pacer = paced()
    pacer.on_sent(12_000, 0.0)
    at = pacer.next_time(10**9, 0.0)
    assert at == pytest.approx(12_000 / 1_500_000)


def test_what_leaves_beyond_the_budget_is_paid_back() -> None:
    pacer = paced()
    pacer.on_sent(12_000 + 15_000, 0.0)
    assert pacer.budget(0.005) == 0
    assert pacer.next_time(1200, 0.0) == pytest.approx((15_000 + 1200) / 1_500_000)


def test_a_new_rate_keeps_what_was_earned_at_the_old_one() -> None:
    pacer = paced()
    pacer.on_sent(12_000, 0.0)
    pacer.set_rate(1_200_000, 0.1, 1200, 0.004)
    assert pacer.budget(0.004) == pytest.approx(6000, abs=20)
    assert pacer.rate == pytest.approx(15_000_000)
