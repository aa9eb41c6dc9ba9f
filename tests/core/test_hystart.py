"""HyStart++ sees a queue grow, tells it from jitter, and ends slow start in time (RFC 9406 section 4.2)."""

from __future__ import annotations

import pytest

from stt_core.recovery.hystart import CSS_GROWTH_DIVISOR, CSS_ROUNDS, HyStart

SIZE = 1200


class Rounds:
    """A sender whose packets all leave at the beginning of a round; ``samples`` ACKs come back in each."""

    def __init__(self) -> None:
        self.hystart = HyStart()
        self.now = 10.0

    def slow(self) -> bool:
        return self.hystart.conservative

    def round(self, rtt: float, samples: int = 8) -> list[bool]:
        """What each ACK of one round says."""
        sent_at = self.now
        self.now += rtt
        return [self.hystart.on_rtt(rtt, sent_at, self.now + number * 1e-5) for number in range(samples)]


@pytest.mark.parametrize(
    ("before", "now", "grows"),
    [
        (0.010, 0.0139, False),  # less than 4 ms
        (0.010, 0.0141, True),
        (0.080, 0.0899, False),  # an eighth of 80 ms is 10 ms
        (0.080, 0.0901, True),
        (0.400, 0.4159, False),  # never more than 16 ms
        (0.400, 0.4161, True),
    ],
)
def test_a_round_trip_that_grew_by_an_eighth_between_4_and_16_ms_slows_the_growth(
    before: float, now: float, grows: bool
) -> None:
    rounds = Rounds()
    rounds.round(before)
    assert not any(rounds.round(now))
    assert rounds.slow() is grows
    assert rounds.hystart.growth(9600) == (2400 if grows else 9600)


def test_fewer_than_eight_samples_in_a_round_show_nothing() -> None:
    rounds = Rounds()
    rounds.round(0.1)
    rounds.round(0.2, samples=7)
    assert not rounds.slow()


def test_the_first_round_has_nothing_to_compare_with() -> None:
    rounds = Rounds()
    rounds.round(5.0)
    assert not rounds.slow()


def test_one_quick_packet_of_a_round_is_enough_to_go_on() -> None:
    rounds = Rounds()
    rounds.round(0.1)
    sent_at, rounds.now = rounds.now, rounds.now + 0.15
    for rtt in (0.15, 0.15, 0.101, *(0.15,) * 20):
        rounds.hystart.on_rtt(rtt, sent_at, rounds.now)
    assert not rounds.slow()


def test_five_rounds_at_a_quarter_of_the_pace_end_slow_start() -> None:
    rounds = Rounds()
    rounds.round(0.1)
    rounds.round(0.15)
    assert rounds.slow()
    over = [any(rounds.round(0.15)) for _ in range(CSS_ROUNDS)]
    assert over == [False] * (CSS_ROUNDS - 1) + [True], "the round in which it was found is the first of the five"


def test_a_round_trip_that_falls_again_was_jitter() -> None:
    rounds = Rounds()
    rounds.round(0.1)
    rounds.round(0.15)
    rounds.round(0.15)
    rounds.round(0.149)
    assert not rounds.slow()
    assert rounds.hystart.growth(9600) == 9600
    rounds.round(0.2)
    assert rounds.slow()
    over = [any(rounds.round(0.2)) for _ in range(CSS_ROUNDS)]
    assert over.index(True) == CSS_ROUNDS - 1, "the count begins anew"


def test_a_round_ends_with_the_first_packet_sent_in_it() -> None:
    hystart = HyStart()
    hystart.on_rtt(0.1, 1.0, 1.1)
    for number in range(7):
        hystart.on_rtt(0.3, 1.09, 1.1 + number * 0.01)  # sent before: the same round
    hystart.on_rtt(0.3, 1.1, 1.4)
    for _ in range(6):
        hystart.on_rtt(0.3, 1.12, 1.42)
    assert not hystart.conservative, "seven samples in the second round"
    hystart.on_rtt(0.3, 1.12, 1.42)
    assert hystart.conservative


def test_an_ack_of_a_whole_batch_grows_the_window_by_all_of_it() -> None:
    rounds = Rounds()
    assert rounds.hystart.growth(54 * SIZE) == 54 * SIZE
    rounds.round(0.1)
    rounds.round(0.15)
    assert rounds.hystart.growth(54 * SIZE) == 54 * SIZE // CSS_GROWTH_DIVISOR
