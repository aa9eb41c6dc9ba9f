"""Whoever reconnects waits longer each time, no two alike, and starts over only after a session that lasted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stt_core.backoff import Backoff
from stt_core.errors import ConfigurationError


def lots(share: float) -> Callable[[int], bytes]:
    """Entropy that always draws ``share`` of its range."""
    return lambda count: int(share * (256**count - 1)).to_bytes(count, "big")


def delays(backoff: Backoff, count: int) -> list[float]:
    return [backoff.next_delay(0.0) for _ in range(count)]


def test_delays_double_up_to_the_cap() -> None:
    assert delays(Backoff(lots(0.0)), 8) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_up_to_half_of_a_delay_is_drawn_by_lot() -> None:
    assert delays(Backoff(lots(1.0), first=2, most=8), 4) == pytest.approx([1, 2, 4, 4], abs=1e-6)
    assert delays(Backoff(lots(0.5), first=2, most=8), 2) == pytest.approx([1.5, 3], abs=1e-6)


def test_a_session_that_lasted_longer_than_the_delay_starts_them_over() -> None:
    backoff = Backoff(lots(0.0))
    delays(backoff, 3)
    backoff.succeeded(100.0)
    assert backoff.next_delay(108.0) == 1


def test_a_session_that_is_lost_at_once_counts_as_a_failure() -> None:
    """A server that accepts and crashes must not be called upon as fast as the network allows."""
    backoff = Backoff(lots(0.0))
    delays(backoff, 3)
    backoff.succeeded(100.0)
    assert backoff.next_delay(107.9) == 8
    assert backoff.next_delay(1000.0) == 16, "an old success counts once"


@pytest.mark.parametrize(("first", "most"), [(0, 60), (-1, 60), (61, 60), (1, float("nan")), (1, 1e9), ("1", 60)])
def test_delays_that_make_no_sense_are_refused(first: float, most: float) -> None:
    with pytest.raises(ConfigurationError, match=r"first_delay|max_delay"):
        Backoff(lots(0.0), first, most)
