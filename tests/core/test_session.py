"""One session's life as its owner sees it: states, the order of events, and a peer that breaks the rules."""

from __future__ import annotations

import gc
from math import inf

import pytest

from stt_core import frames
from stt_core.errors import (
    AuthenticationError,
    CloseReason,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    ErrorCode,
    SessionClosedError,
    StateError,
    StreamLimitError,
)
from stt_core.events import HandshakeFailed, PeerRejected, SessionClosed, SessionEstablished, StreamReadable
from stt_core.handshake import Peer
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.timers import Timer
from stt_core.types import StreamMode
from tests.core.attributes import names_of
from tests.core.pair import SEED, START, Pair, channel_of, dead, sealed, send_all


class TestStates:
    def test_a_life(self) -> None:
        pair = Pair()
        key = pair.start()
        ours = pair.alice.endpoint.session(key)
        states = [ours.state]
        pair.run_until(lambda: ours.state is SessionState.ESTABLISHED)
        states.append(ours.state)
        pair.rest()
        ours.close()
        states.append(ours.state)
        pair.rest()
        states.append(ours.state)
        assert states == [
            SessionState.HANDSHAKING,
            SessionState.ESTABLISHED,
            SessionState.CLOSING,
            SessionState.CLOSED,
        ]

    def test_who_accepts_has_no_session_before_a_packet_under_its_keys(self) -> None:
        pair = Pair()
        pair.wire = lambda flight: (flight,) if flight.data[0] >= 0xC0 else ()
        key = pair.start()
        pair.run(0.05)
        assert pair.alice.endpoint.session(key).state is SessionState.ESTABLISHED
        [theirs] = pair.bob.endpoint._sessions.values()
        assert theirs.state is SessionState.HANDSHAKING
        assert pair.bob.events == []

    def test_a_wrong_seed_ends_as_an_authentication_error(self) -> None:
        pair = Pair(bob={"shared_seed": b"another seed entirely"})
        key = pair.start()
        session = pair.alice.endpoint.session(key)
        pair.run_until(lambda: bool(pair.alice.told(HandshakeFailed)), 20.0)
        assert isinstance(pair.alice.told(HandshakeFailed)[0].error, AuthenticationError)
        assert session.state is SessionState.CLOSED
        assert isinstance(session.error, AuthenticationError)
        assert any(isinstance(event, PeerRejected) for event in pair.bob.events)
        assert pair.alice.endpoint.idle

    def test_silence_ends_as_a_timeout(self) -> None:
        pair = Pair(wire=dead)
        key = pair.start(timeout=3.0)
        session = pair.alice.endpoint.session(key)
        pair.run(3.1)
        [failed] = pair.alice.told(HandshakeFailed)
        assert isinstance(failed.error, ConnectionTimeoutError)
        assert session.state is SessionState.CLOSED
        assert pair.alice.endpoint.next_timer() is None

    def test_a_port_where_nothing_listens_ends_as_refused(self) -> None:
        pair = Pair(wire=dead)
        pair.start()
        for _ in range(10):
            pair.run(0.5)
            pair.alice.endpoint.receive_unreachable(pair.bob.path, pair.now)
        assert isinstance(pair.alice.told(HandshakeFailed)[0].error, ConnectionRefusedError)

    @pytest.mark.parametrize("command", ["open_stream", "statistics"])
    def test_commands_before_the_handshake_are_the_callers_mistake(self, command: str) -> None:
        pair = Pair()
        session = pair.alice.endpoint.session(pair.start())
        with pytest.raises(StateError, match="HANDSHAKING"):
            getattr(session, command)()
        assert session.session_id == session.peer_node_id == b""

    def test_both_sides_agree_on_who_they_are(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        assert ours.session_id == theirs.session_id
        assert len(ours.session_id) == 8
        assert (ours.peer_node_id, theirs.peer_node_id) == (b"bob", b"alice")
        [told], [told_bob] = pair.alice.told(SessionEstablished), pair.bob.told(SessionEstablished)
        assert (told.initiated, told_bob.initiated) == (True, False)
        assert told.session_id == told_bob.session_id == ours.session_id


class TestOrderOfEvents:
    def test_a_session_is_reported_before_anything_that_happens_in_it(self) -> None:
        pair = Pair()
        pair.wire = lambda flight: (flight,) if flight.data[0] >= 0xC0 else ()
        ours = pair.alice.endpoint.session(pair.start())
        pair.run_until(lambda: ours.state is SessionState.ESTABLISHED)
        stream = ours.open_stream(purpose="first")
        ours.send_message(stream, b"in the very first packet that gets through")
        pair.wire = lambda flight: (flight,)
        pair.rest()
        assert pair.bob.kinds == ["SessionEstablished", "StreamOpened", "StreamReadable"]

    def test_the_end_is_the_last_that_is_reported(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        stream = ours.open_stream()
        ours.send_message(stream, b"hello")
        ours.finish(stream)
        ours.close(linger=5.0)
        pair.run(10.0)
        assert pair.bob.kinds == ["SessionEstablished", "StreamOpened", "StreamReadable", "SessionClosed"]
        assert theirs.read_message(stream) == b"hello"

    def test_one_readable_per_stream_until_it_is_read(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        stream = ours.open_stream()
        for _ in range(3):
            ours.send_message(stream, b"x")
            pair.rest()
        assert len(pair.bob.told(StreamReadable)) == 1
        assert theirs.read_message(stream) == b"x"


class TestViolations:
    @pytest.mark.parametrize(
        ("plain", "code"),
        [
            (b"\xee", ErrorCode.FRAME_ENCODING),
            (b"", ErrorCode.FRAME_ENCODING),
            (frames.Data(1 << 20, 1 << 62, b"x", fin=False).encode(), None),
            (frames.encode_ack([(0, 1 << 40)], 0), ErrorCode.OPTIMISTIC_ACK),
        ],
        ids=["unknown frame", "empty packet", "beyond every window", "an ACK of the future"],
    )
    def test_an_authenticated_violation_ends_the_session_for_both_with_its_code(
        self, plain: bytes, code: ErrorCode | None
    ) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        [packet] = sealed(ours, plain)
        pair.bob.endpoint.receive_datagram(packet, pair.alice.path, pair.now)
        pair.rest()
        [closed] = pair.bob.told(SessionClosed)
        [closed_by_peer] = pair.alice.told(SessionClosed)
        assert closed.reason is closed_by_peer.reason is CloseReason.ERROR
        assert closed.code == closed_by_peer.code
        assert code in (None, closed.code)
        assert closed.code != ErrorCode.NO_ERROR
        assert ErrorCode(closed.code).name in closed.message
        assert closed_by_peer.message in closed.message
        assert ours.state is theirs.state is SessionState.CLOSED
        assert isinstance(theirs.error, SessionClosedError)

    def test_even_the_very_first_packet_gets_an_answer(self) -> None:
        pair = Pair()
        pair.wire = lambda flight: (flight,) if flight.data[0] >= 0xC0 else ()
        ours = pair.alice.endpoint.session(pair.start())
        pair.run_until(lambda: ours.state is SessionState.ESTABLISHED)
        pair.wire = lambda flight: (flight,)
        [packet] = sealed(ours, b"\xee")
        pair.bob.endpoint.receive_datagram(packet, pair.alice.path, pair.now)
        pair.rest()
        assert pair.bob.kinds == ["SessionEstablished", "SessionClosed"]
        assert pair.alice.told(SessionClosed)[0].code == ErrorCode.FRAME_ENCODING

    def test_what_a_violator_sends_afterwards_is_not_looked_at(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        bad, late = sealed(ours, b"\xee", frames.Datagram(b"too late").encode())
        pair.bob.endpoint.receive_datagram(bad, pair.alice.path, pair.now)
        pair.bob.endpoint.receive_datagram(late, pair.alice.path, pair.now)
        pair.run(5.0)
        assert theirs.read_datagram() is None
        assert len(pair.bob.told(SessionClosed)) == 1


class TestSecrets:
    def test_no_secret_is_in_any_repr(self) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        shown = repr(ours) + repr(pair.alice.endpoint.config) + repr(ours.statistics()) + repr(pair.alice.events)
        assert SEED.decode() not in shown
        assert SEED.hex() not in shown
        assert channel_of(ours)._mask_key.hex() not in shown

    def test_nothing_a_session_keeps_leads_back_to_its_first_keys(self) -> None:
        """Forward secrecy of key updates: after one, the master secret and the first traffic keys are gone."""
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        old = channel_of(ours).protection._send_keys.secret
        assert old in reachable_secrets(ours)  # the search finds what is there
        ours.update_keys(pair.now)
        send_all(pair, ours, theirs, bytes(5000))
        pair.run(30.0)
        assert channel_of(ours).protection.phase == channel_of(theirs).protection.phase == 1
        gc.collect()
        for session in (ours, theirs):
            assert old not in reachable_secrets(session)
            assert session._peer == Peer(session.session_id, session.peer_node_id, session.peer_identity_key)


def reachable_secrets(session: Session) -> set[bytes]:
    """Every 32-byte string that can be reached from a session without leaving it for its endpoint."""
    seen: set[int] = set()
    found: set[bytes] = set()
    todo: list[object] = [getattr(session, name) for name in names_of(session) if name != "_context"]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type) or type(thing).__name__ in ("module", "function"):
            continue
        seen.add(id(thing))
        if isinstance(thing, bytes):
            found.add(thing)
        todo += gc.get_referents(thing)
    return found


class TestTakenIds:
    """The id follows from both nonces, so the same entropy gives the same one: a first run tells what it will be."""

    def test_who_connects_starts_over_once(self) -> None:
        taken = Pair().connect()[0].session_id
        pair = Pair()
        assert pair.alice.endpoint._context.claim(taken)
        ours, theirs = pair.connect()
        assert ours.session_id == theirs.session_id != taken
        pair.run(60.0)
        assert pair.alice.kinds == pair.bob.kinds == ["SessionEstablished"]
        assert len(pair.bob.endpoint._sessions) == 1

    def test_a_peer_that_makes_it_happen_twice_gets_no_session(self) -> None:
        taken: list[bytes] = []
        for _ in range(2):
            pair = Pair()
            assert all(map(pair.alice.endpoint._context.claim, taken))
            taken.append(pair.connect()[0].session_id)
        pair = Pair()
        assert all(map(pair.alice.endpoint._context.claim, taken))
        session = pair.alice.endpoint.session(pair.start())
        pair.run_until(lambda: bool(pair.alice.told(HandshakeFailed)))
        assert "twice" in str(pair.alice.told(HandshakeFailed)[0].error)
        assert session.state is SessionState.CLOSED
        pair.run(60.0)
        assert pair.bob.events == []

    def test_who_accepts_does_not_answer_and_the_next_attempt_succeeds(self) -> None:
        taken = Pair().connect()[0].session_id
        pair = Pair()
        assert pair.bob.endpoint._context.claim(taken)
        ours, theirs = pair.connect()
        assert ours.session_id == theirs.session_id != taken
        assert pair.alice.kinds == pair.bob.kinds == ["SessionEstablished"]
        assert pair.bob.endpoint.statistics()["sessions_refused"] == 1

    def test_an_id_is_free_again_when_its_session_is_over(self) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        assert pair.alice.endpoint._context.session_ids == {ours.session_id}
        ours.close()
        pair.rest()
        for end in pair.ends:
            assert end.endpoint._context.session_ids == set()


class TestOptions:
    def test_statistics_tell_what_happened(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        send_all(pair, ours, theirs, bytes(100_000))
        pair.rest()
        mine, other = ours.statistics(), theirs.statistics()
        assert mine.bytes_sent == other.bytes_received > 100_000
        assert mine.packets_sent == other.packets_received
        assert mine.packets_lost == mine.packets_forged == 0
        assert mine.rtt == pytest.approx(0.02, abs=0.003)
        assert mine.loss == 0.0

    def test_keys_can_be_updated_at_will(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        for phase in (1, 2, 3):
            ours.update_keys(pair.now)
            assert send_all(pair, ours, theirs, bytes(3000)) == bytes(3000)
            pair.run(12.0)
            assert channel_of(theirs).protection.phase == phase
        assert pair.now > START

    def test_old_keys_are_let_go_by_a_timer_though_nobody_speaks(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        ours.update_keys(pair.now)
        assert send_all(pair, ours, theirs, b"x") == b"x"
        protection = channel_of(theirs).protection
        assert protection.phase == 1
        until = protection.previous_until
        assert pair.now < until < inf
        assert theirs.timers[Timer.KEYS] == until
        pair.bob.endpoint.handle_timer(until)
        assert protection.previous_until == inf
        assert Timer.KEYS not in theirs.timers

    def test_who_asks_whether_a_stream_is_at_its_end_makes_room_for_another(self) -> None:
        """All of it was read, and only the question shows that it is over: the peer waits to hear of that."""
        pair = Pair(bob={"max_streams": 1})
        ours, theirs = pair.connect()
        stream = ours.open_stream(mode=StreamMode.BYTES)
        ours.write(stream, b"x")
        ours.finish(stream)
        pair.rest()
        theirs.finish(stream)
        assert theirs.read(stream) == b"x"
        pair.rest()
        with pytest.raises(StreamLimitError):
            ours.open_stream()
        pair.rest()
        assert theirs.at_end(stream)
        pair.rest()
        assert ours.open_stream() > stream
