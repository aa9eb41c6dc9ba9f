"""How a session ends: the last words by themselves, and between two endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import pytest

from stt_core import frames
from stt_core.closing import MAX_WORDS, Farewell
from stt_core.errors import CloseReason, ErrorCode, SessionClosedError
from stt_core.events import HandshakeFailed, SessionClosed, SessionEstablished, StreamReadable
from stt_core.packing import Batch
from stt_core.state import SessionState
from stt_core.types import StreamMode
from tests.core.pair import End, Flight, Pair, channel_of, dead, straight

CLOSE = frames.SessionClose(7, "done").encode()
ACK = frames.SessionCloseAck().encode()


def nothing_kept(end: End) -> bool:
    """Whether no table of an endpoint still knows of any session."""
    it, register = end.endpoint, end.endpoint._register
    tables = (it._sessions, it._routes, it._links, register.budgets, register.live, register.connecting)
    resuming = it._resuming
    return not any(len(table) for table in (*tables, resuming._records, resuming._own, resuming._attempts))


def spoken(farewell: Farewell, now: float) -> list[bytes]:
    batch = Batch(1000, 1)
    farewell.fill(batch, now)
    batch.end_packet(pad=False)
    return batch.plains


class TestFarewell:
    def test_who_closes_speaks_waits_and_is_done_with_the_answer(self) -> None:
        farewell = Farewell(CLOSE, initiated=True, now=10.0, pto=0.1)
        assert spoken(farewell, 10.0) == [CLOSE]
        assert farewell.next_timer() == pytest.approx(10.1)  # to say it again
        farewell.on_acknowledged(10.05, 0.1)
        assert farewell.done
        assert farewell.next_timer() == pytest.approx(10.35)
        assert not farewell.handle_timer(10.34)
        assert farewell.handle_timer(10.36)

    def test_an_unanswered_close_is_said_again_and_given_up_after_three_ptos(self) -> None:
        farewell = Farewell(CLOSE, initiated=True, now=10.0, pto=0.125)
        said = []
        now = 10.0
        while not farewell.done:
            said += [now - 10.0] * len(spoken(farewell, now))
            now = farewell.next_timer()
            farewell.handle_timer(now)
        assert said == [0.0, 0.125, 0.25]
        assert now == 10.375
        assert farewell.next_timer() == 10.75
        assert farewell.handle_timer(10.75)

    def test_who_is_told_has_nothing_to_wait_for_but_answers_each_time(self) -> None:
        farewell = Farewell(ACK, initiated=False, now=10.0, pto=0.1)
        assert farewell.done
        assert spoken(farewell, 10.0) == [ACK]
        assert spoken(farewell, 10.1) == []
        farewell.on_peer_close(ACK)
        assert spoken(farewell, 10.1) == [ACK]
        assert farewell.handle_timer(10.31)

    def test_who_says_goodbye_without_end_is_answered_so_many_times_and_no_more(self) -> None:
        farewell = Farewell(ACK, initiated=False, now=10.0, pto=2.0)
        answers = 0
        for number in range(10 * MAX_WORDS):
            farewell.on_peer_close(ACK)
            if farewell.wants_to_send:
                answers += len(spoken(farewell, 10.0 + number / 1000))
        assert answers == MAX_WORDS

    def test_a_close_that_crosses_ours_is_answered_and_ends_the_wait(self) -> None:
        farewell = Farewell(CLOSE, initiated=True, now=10.0, pto=0.1)
        spoken(farewell, 10.0)
        farewell.on_peer_close(ACK)
        assert farewell.done
        assert spoken(farewell, 10.05) == [ACK]


class TestBetweenTwo:
    def test_a_close_is_acknowledged_within_one_round_trip(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        before = pair.now
        ours.close(ErrorCode.APPLICATION, "had enough")
        pair.run_until(lambda: bool(pair.alice.told(SessionClosed)))
        assert pair.now - before == pytest.approx(0.02)
        assert pair.alice.told(SessionClosed) == [
            SessionClosed(ours.key, ours.session_id, CloseReason.GRACEFUL, ErrorCode.APPLICATION, "had enough")
        ]
        assert pair.bob.told(SessionClosed) == [
            SessionClosed(theirs.key, ours.session_id, CloseReason.GRACEFUL, ErrorCode.APPLICATION, "had enough")
        ]
        assert ours.state is theirs.state is SessionState.CLOSED

    def test_both_forget_the_session_after_a_quiet_time(self) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        pair.rest()
        ours.close()
        pair.run_until(lambda: pair.alice.endpoint.idle and pair.bob.endpoint.idle)
        assert pair.alice.endpoint.session(ours.key) is ours
        pair.run(3.0)
        for end in (pair.alice, pair.bob):
            with pytest.raises(LookupError):
                end.endpoint.session(ours.key)
            assert nothing_kept(end)
            assert end.endpoint.statistics()["resets_sent"] == 0

    def test_a_close_into_a_dead_network_ends_after_three_ptos(self) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        pair.rest()
        pto = channel_of(ours).pto
        pair.wire = dead
        before = pair.now
        ours.close()
        pair.run_until(lambda: bool(pair.alice.told(SessionClosed)))
        assert pair.now - before == pytest.approx(3 * pto)
        assert pair.alice.told(SessionClosed)[0].reason is CloseReason.GRACEFUL

    def test_a_lost_close_is_said_again(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        losses = iter([True])

        def lossy(flight: Flight) -> Iterable[Flight]:
            return () if next(losses, False) else (flight,)

        pair.wire = lossy
        ours.close(ErrorCode.APPLICATION, "twice")
        pair.run_until(lambda: bool(pair.bob.told(SessionClosed)))
        assert pair.bob.told(SessionClosed)[0].message == "twice"
        pair.run_until(lambda: bool(pair.alice.told(SessionClosed)))
        assert theirs.state is SessionState.CLOSED

    def test_a_lost_answer_is_given_again(self) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        pair.rest()
        losses = iter([True])
        pair.wire = lambda flight: () if flight.sender is pair.bob and next(losses, False) else (flight,)
        before = pair.now
        pto = channel_of(ours).pto
        ours.close()
        pair.run_until(lambda: bool(pair.alice.told(SessionClosed)))
        assert pair.now - before == pytest.approx(pto + 0.02)

    def test_both_may_close_at_once(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        ours.close(ErrorCode.APPLICATION, "from alice")
        theirs.close(ErrorCode.APPLICATION, "from bob")
        pair.run_until(lambda: pair.alice.endpoint.idle and pair.bob.endpoint.idle)
        assert [event.message for event in pair.alice.told(SessionClosed)] == ["from alice"]
        assert [event.message for event in pair.bob.told(SessionClosed)] == ["from bob"]
        pair.run(3.0)
        assert pair.alice.endpoint.next_timer() is None

    def test_a_second_close_changes_nothing(self) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        pair.rest()
        ours.close(1, "first")
        ours.close(2, "second")
        pair.run_until(lambda: bool(pair.bob.told(SessionClosed)))
        ours.close(3, "third")
        pair.run(3.0)
        ours.close(4, "fourth")
        pair.run(3.0)
        assert [event.message for event in pair.bob.told(SessionClosed)] == ["first"]
        assert [event.message for event in pair.alice.told(SessionClosed)] == ["first"]

    @pytest.mark.parametrize("code", [-1, 65_536])
    def test_a_code_that_does_not_fit_is_the_callers_mistake_and_changes_nothing(self, code: int) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        with pytest.raises(ValueError, match="expected 0 to 65535"):
            ours.close(code)
        assert ours.state is SessionState.ESTABLISHED

    def test_the_longest_reason_still_fits_a_packet(self) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        ours.close(ErrorCode.APPLICATION, "ü" * 100_000)
        pair.run_until(lambda: bool(pair.bob.told(SessionClosed)))
        assert set(pair.bob.told(SessionClosed)[0].message) == {"ü"}

    def test_what_arrived_before_the_close_can_still_be_read(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        stream = ours.open_stream()
        ours.send_message(stream, b"last words")
        ours.send_datagram(b"and a datagram")
        pair.run_until(lambda: bool(pair.bob.told(StreamReadable)))
        ours.close()
        pair.run(5.0)
        assert theirs.state is SessionState.CLOSED
        assert theirs.read_message(stream) == b"last words"
        assert theirs.read_datagram() == b"and a datagram"
        assert pair.bob.endpoint.idle
        assert pair.bob.endpoint.poll_transmit(pair.now) is None

    def test_nothing_can_be_sent_any_more(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        stream = ours.open_stream()
        ours.send_message(stream, b"x")
        pair.rest()
        ours.close(ErrorCode.APPLICATION, "over")
        for wait in (0.0, 1.0, 5.0):
            pair.run(wait)
            for session in (ours, theirs) if wait else (ours,):
                commands: list[Callable[[], object]] = [
                    session.open_stream,
                    partial(session.send_message, stream, b"y"),
                    partial(session.write, stream, b"y"),
                    partial(session.finish, stream),
                    partial(session.send_datagram, b"y"),
                ]
                for command in commands:
                    with pytest.raises(SessionClosedError):
                        command()


class TestLinger:
    def test_a_close_waits_for_what_was_accepted_to_arrive(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        stream = ours.open_stream(mode=StreamMode.BYTES)
        data = bytes(200_000)
        assert ours.write(stream, data) == len(data)
        ours.finish(stream)
        ours.close(ErrorCode.NO_ERROR, "all said", linger=10.0)
        pair.run_until(lambda: bool(pair.bob.told(SessionClosed)))
        arrived = 0
        while chunk := theirs.read(stream):
            arrived += len(chunk)
        assert arrived == len(data)
        assert theirs.at_end(stream)

    def test_without_linger_what_is_not_yet_sent_is_lost(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        stream = ours.open_stream(mode=StreamMode.BYTES)
        ours.write(stream, bytes(200_000))
        ours.close()
        pair.run(5.0)
        assert theirs.statistics().bytes_received < 200_000

    def test_a_datagram_that_waits_leaves_before_the_farewell(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        assert ours.send_datagram(b"last words")
        ours.close(linger=10.0)
        pair.run_until(lambda: bool(pair.bob.told(SessionClosed)))
        assert theirs.read_datagram() == b"last words"

    def test_it_waits_no_longer_than_it_was_told(self) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        pair.rest()
        pto = channel_of(ours).pto
        stream = ours.open_stream()
        pair.wire = dead
        ours.send_message(stream, b"nobody will hear this")
        before = pair.now
        ours.close(linger=2.0)
        pair.run_until(lambda: bool(pair.alice.told(SessionClosed)))
        assert pair.now - before == pytest.approx(2.0 + 3 * pto)

    def test_a_second_close_can_hurry_it(self) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        pair.rest()
        pto = channel_of(ours).pto
        stream = ours.open_stream()
        pair.wire = dead
        ours.send_message(stream, b"nobody will hear this")
        ours.close(linger=20.0)
        pair.run(1.0)
        assert ours.state is SessionState.CLOSING
        before = pair.now
        ours.close(linger=0.0)
        pair.run_until(lambda: bool(pair.alice.told(SessionClosed)))
        assert pair.now - before == pytest.approx(3 * pto)

    def test_hurrying_one_that_said_its_last_words_leaves_its_timer_alone(self) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        pair.rest()
        pair.wire = dead
        ours.close(linger=20.0)  # nothing is unacknowledged: the farewell leaves at once
        pair.run(0.001)
        ours.close(linger=0.0)
        pair.run_until(lambda: bool(pair.alice.told(SessionClosed)), 2.0)
        pair.run(2.0)
        assert pair.alice.endpoint.next_timer() is None
        assert pair.alice.endpoint._sessions == {}

    def test_the_peer_may_close_meanwhile(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        stream = ours.open_stream()
        ours.send_message(stream, bytes(60_000))
        ours.close(linger=20.0)
        theirs.close(ErrorCode.SHUTTING_DOWN, "going down")
        pair.run(5.0)
        assert pair.alice.told(SessionClosed)[0].code == ErrorCode.SHUTTING_DOWN
        assert pair.alice.endpoint.next_timer() is None


class TestDuringTheHandshake:
    def test_who_connects_is_told_and_nothing_more_leaves(self) -> None:
        pair = Pair()
        key = pair.start()
        session = pair.alice.endpoint.session(key)
        pair.settle()
        session.close()
        sent = len(pair.sent)
        pair.run(60.0)
        assert len(pair.sent) == sent + 1  # Bob's answer to the HELLO that had left
        assert session.state is SessionState.CLOSED
        [failed] = pair.alice.told(HandshakeFailed)
        assert isinstance(failed.error, SessionClosedError)
        assert pair.alice.endpoint.idle
        assert pair.bob.told(SessionEstablished) == []

    def test_a_session_nobody_confirmed_is_forgotten_without_a_word(self) -> None:
        pair = Pair()
        pair.wire = lambda flight: (flight,) if flight.data[0] >= 0xC0 else ()  # no protected packet arrives
        pair.start()
        pair.run(0.1)
        assert len(pair.bob.endpoint._sessions) == 1
        assert pair.bob.endpoint.sessions() == []
        pair.run(30.0)
        assert nothing_kept(pair.bob)
        assert pair.bob.kinds == []

    def test_abandoning_an_endpoint_ends_everything_here_and_now(self) -> None:
        pair = Pair()
        pair.connect()
        pair.wire = dead
        pair.start()
        pair.settle()
        sent = len(pair.sent)
        pair.alice.endpoint.abandon("the cable was pulled")
        pair.settle()
        assert len(pair.sent) == sent
        assert pair.alice.kinds == ["SessionEstablished", "SessionClosed", "HandshakeFailed"]
        assert pair.alice.endpoint.idle
        assert pair.alice.endpoint._sessions == {}
        pair.wire = straight
        pair.run(60.0)
        assert [event.reason for event in pair.bob.told(SessionClosed)] == [CloseReason.TIMEOUT]
