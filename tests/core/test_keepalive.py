"""Liveness: the mechanism by itself, and two endpoints with nothing to say to each other."""

from __future__ import annotations

import pytest

from stt_core.errors import CloseReason, SessionClosedError
from stt_core.events import SessionClosed
from stt_core.keepalive import KeepAlive
from stt_core.state import SessionState
from tests.core.pair import Pair, dead, straight


class TestMechanism:
    def test_a_question_is_due_after_an_interval_of_silence_and_again_after_each(self) -> None:
        alive = KeepAlive(10.0, 30.0, 100.0)
        assert 109.94 < alive.next_due() <= 110.0
        alive.last_heard = 104.0
        assert 113.94 < alive.next_due() <= 114.0
        alive.take(114.0)
        assert 123.94 < alive.next_due() <= 124.0
        assert alive.dead_at() == 134.0

    def test_sessions_that_fell_silent_at_about_the_same_time_ask_at_the_same(self) -> None:
        moments = {KeepAlive(10.0, 30.0, 100.0 + tick / 1000).next_due() for tick in range(1000)}
        assert len(moments) in (20, 21)

    def test_a_question_that_is_due_is_due_when_its_timer_fires(self) -> None:
        for interval in (0.3, 1.0, 7.7, 10.0):
            alive = KeepAlive(interval, 30.0, 1234.5678)
            for _ in range(100):
                at = alive.next_due()
                assert alive.next_due() <= at
                alive.take(at)
                assert at < alive.next_due() <= at + interval

    def test_who_yields_asks_after_the_other_would_have(self) -> None:
        first, second = KeepAlive(10.0, 30.0, 100.0), KeepAlive(10.0, 30.0, 99.95, yields=True)
        assert first.next_due() + 0.3 < second.next_due() <= 110.5

    def test_asking_is_no_sign_of_life(self) -> None:
        alive = KeepAlive(10.0, 30.0, 100.0)
        alive.take(110.0)
        alive.take(120.0)
        assert alive.dead_at() == 130.0

    def test_only_the_answer_to_the_last_question_counts_as_one(self) -> None:
        alive = KeepAlive(10.0, 30.0, 100.0)
        first, second = alive.take(110.0), alive.take(120.0)
        assert first != second
        assert not alive.on_answer(first)
        assert not alive.on_answer(second + 1)
        assert alive.on_answer(second)
        assert not alive.on_answer(second)
        assert alive.answered == 1


class TestBetweenTwo:
    def test_idle_peers_exchange_one_question_an_interval(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        sent = len(pair.sent)
        asked = ours.statistics().keep_alives_answered + theirs.statistics().keep_alives_answered
        pair.run(300.0)
        answered = ours.statistics().keep_alives_answered + theirs.statistics().keep_alives_answered - asked
        assert 29 <= answered <= 31
        assert len(pair.sent) - sent <= 2 * answered + 2  # a question, and an answer that acknowledges it
        assert theirs.statistics().keep_alives_answered == 0  # who connected asks
        assert ours.state is theirs.state is SessionState.ESTABLISHED

    def test_the_interval_is_the_configured_one(self) -> None:
        pair = Pair(keep_alive_interval=1.0, keep_alive_timeout=5.0)
        pair.connect()
        pair.rest()
        sent = len(pair.sent)
        pair.run(10.0)
        assert 9 * 2 <= len(pair.sent) - sent <= 11 * 3

    def test_a_silent_network_is_noticed_after_the_timeout_by_both(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        pair.run(60.0)
        pair.wire = dead
        heard = [end.endpoint.session(ours.key)._channel.keep_alive.last_heard for end in pair.ends]  # type: ignore[union-attr]
        pair.run_until(lambda: bool(pair.alice.told(SessionClosed) and pair.bob.told(SessionClosed)), 60.0)
        assert pair.now == pytest.approx(max(heard) + 30.0)
        for end, session in ((pair.alice, ours), (pair.bob, theirs)):
            [closed] = end.told(SessionClosed)
            assert closed.reason is CloseReason.TIMEOUT
            assert "keep_alive_timeout is 30 s" in closed.message
            assert session.state is SessionState.CLOSED
            assert end.endpoint.idle
            assert end.endpoint.next_timer() is None
            with pytest.raises(SessionClosedError, match="nothing heard"):
                session.open_stream()

    def test_the_smaller_timeout_of_the_two_counts(self) -> None:
        pair = Pair(alice={"keep_alive_timeout": 12.0})
        pair.connect()
        pair.rest()
        pair.wire = dead
        pair.run(13.0)
        assert pair.alice.told(SessionClosed)
        assert pair.bob.told(SessionClosed)

    def test_an_outage_shorter_than_the_timeout_is_survived(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        pair.wire = dead
        pair.run(28.0)
        pair.wire = straight
        stream = ours.open_stream()
        ours.send_message(stream, b"still here")
        pair.run(60.0)
        assert theirs.read_message(stream) == b"still here"
        assert ours.state is theirs.state is SessionState.ESTABLISHED
