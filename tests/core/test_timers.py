"""One table of named timers, and one minimum."""

from __future__ import annotations

import pytest

from stt_core.timers import Timer, Timers


def test_an_empty_table_waits_for_nothing() -> None:
    timers = Timers()
    assert timers.next() is None
    assert timers.expired(1e12) == []
    assert timers.get(Timer.ACK) is None
    assert Timer.ACK not in timers
    with pytest.raises(KeyError):
        timers[Timer.ACK]


def test_next_is_the_earliest() -> None:
    timers = Timers()
    timers.set(Timer.IDLE, 30.0)
    timers.set(Timer.ACK, 1.0)
    assert timers.next() == 1.0
    timers.cancel(Timer.ACK)
    assert timers.next() == 30.0


def test_setting_again_moves_a_timer_either_way() -> None:
    timers = Timers()
    timers.set(Timer.LOSS, 5.0)
    timers.set(Timer.LOSS, 9.0)
    assert timers[Timer.LOSS] == timers.next() == 9.0
    timers.set(Timer.LOSS, 2.0)
    assert timers.next() == 2.0


def test_expired_timers_are_unset_and_come_in_the_order_they_fell_due() -> None:
    timers = Timers()
    for timer, at in ((Timer.KEYS, 3.0), (Timer.ACK, 2.0), (Timer.HANDSHAKE, 2.0), (Timer.CLOSE, 1.0), (Timer.IDLE, 9)):
        timers.set(timer, at)
    assert timers.expired(0.5) == []
    assert timers.expired(3.0) == [Timer.CLOSE, Timer.HANDSHAKE, Timer.ACK, Timer.KEYS]
    assert timers.expired(3.0) == []
    assert timers.next() == 9.0


def test_clear_unsets_all() -> None:
    timers = Timers()
    for timer in Timer:
        timers.set(timer, 1.0)
    timers.clear()
    assert timers.next() is None
