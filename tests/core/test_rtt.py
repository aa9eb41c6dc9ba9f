"""RTT estimation follows RFC 9002 section 5."""

from __future__ import annotations

import pytest

from stt_core.rtt import GRANULARITY, INITIAL_RTT, RttEstimator


def test_before_any_sample_the_initial_values_hold() -> None:
    rtt = RttEstimator()
    assert not rtt.has_sample
    assert rtt.smoothed == INITIAL_RTT
    assert rtt.pto_base(0.025) == pytest.approx(3 * INITIAL_RTT + 0.025)


def test_the_first_sample_sets_everything_and_ignores_the_ack_delay() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.025, now=7.0)
    assert (rtt.latest, rtt.minimum, rtt.smoothed, rtt.variance) == (0.1, 0.1, 0.1, 0.05)
    assert rtt.first_sample_at == 7.0


def test_later_samples_are_smoothed() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, now=1.0)
    rtt.update(0.2, 0.0, now=2.0)
    assert rtt.variance == pytest.approx(0.75 * 0.05 + 0.25 * 0.1)
    assert rtt.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.2)
    assert (rtt.latest, rtt.minimum, rtt.first_sample_at) == (0.2, 0.1, 1.0)


def test_the_ack_delay_is_taken_off_but_never_below_the_minimum() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, now=1.0)
    rtt.update(0.15, 0.025, now=2.0)
    assert rtt.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.125)
    plausible = rtt.smoothed
    rtt.update(0.11, 0.025, now=3.0)
    assert rtt.smoothed == pytest.approx(0.875 * plausible + 0.125 * 0.11), "0.085 would be below the minimum"


def test_the_minimum_is_of_raw_samples() -> None:
    rtt = RttEstimator()
    for sample in (0.3, 0.2, 0.25):
        rtt.update(sample, 0.1, now=1.0)
    assert rtt.minimum == 0.2
    rtt.reset_minimum()
    assert rtt.minimum == 0.25


def test_a_steady_fast_path_still_waits_one_granule() -> None:
    rtt = RttEstimator()
    for _ in range(200):
        rtt.update(0.0001, 0.0, now=1.0)
    assert rtt.pto_base(0.0) == pytest.approx(0.0001 + GRANULARITY)
