from __future__ import annotations

from typing import Any

import pytest

from stt_core.endpoint import Endpoint
from stt_core.errors import (
    CloseReason,
    ConfigurationError,
    ErrorCode,
    SessionClosedError,
    StoreError,
    StreamResetError,
)
from stt_core.events import (
    HandshakeFailed,
    SessionClosed,
    SessionDetached,
    SessionEstablished,
    SessionResumed,
    StreamAcknowledged,
    StreamWritable,
)
from stt_core.resumption import KEY_LIFE, MemoryTicketStore, TokenContent
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.types import Resumed, SessionKey, StreamMode
from tests.core.pair import End, Flight, Pair, channel_of, config_of, dead, entropy_of, straight
from tests.core.toy import ToyCrypto

SILENCE = 40.0
"""Longer than ``keep_alive_timeout``."""
ALICES, BOBS = b"the seed of alice herself", b"the seed of bob alone, his"


class Resumable(Pair):
    """Both keep what can be resumed; ``cut`` and ``resume`` are the story of a laptop that sleeps."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"resumable": True, **settings})

    def cut(self, seconds: float = SILENCE) -> None:
        self.wire = dead
        self.run(seconds)
        self.wire = straight

    def ask(self, token: bytes | None, end: End | None = None, **arguments: Any) -> SessionKey:
        return (end or self.alice).endpoint.resume(token, self.bob.address, now=self.now, **arguments)

    def resume(self, token: bytes | None, end: End | None = None, **arguments: Any) -> Session:
        """Until it is known how it went; returns the session that came of it."""
        end = end or self.alice
        attempt = self.ask(token, end, **arguments)
        self.run_until(lambda: outcome(end, attempt) is not None)
        key = outcome(end, attempt)
        assert key is not None
        return end.endpoint.session(key)


def outcome(end: End, attempt: SessionKey) -> SessionKey | None:
    """The session that an attempt has led to."""
    for event in end.events:
        if isinstance(event, SessionResumed) and event.attempt == attempt:
            return event.session_key
        if isinstance(event, SessionEstablished) and event.session_key == attempt:
            return attempt
    return None


def token_of(session: Session) -> bytes:
    token = session.resumption_token
    assert token is not None
    return bytes(token)


def everything(pair: Pair, session: Session, stream: int, size: int) -> bytes:
    """Read ``size`` bytes, however long they take."""
    arrived = bytearray()

    def work() -> bool:
        while chunk := session.read(stream):
            arrived.extend(chunk)
        return len(arrived) >= size

    pair.run_until(work)
    return bytes(arrived)


class TestDetaching:
    def test_silence_detaches_both_sides_and_closes_neither(self) -> None:
        pair = Resumable()
        ours, theirs = pair.connect()
        pair.rest()
        pair.cut()
        assert ours.state is theirs.state is SessionState.DETACHED
        assert [event.session_id for event in pair.bob.told(SessionDetached)] == [theirs.session_id]
        assert not pair.alice.told(SessionClosed) + pair.bob.told(SessionClosed)
        assert pair.alice.endpoint.idle
        assert pair.bob.endpoint.sessions() == []

    def test_without_the_setting_silence_ends_a_session(self) -> None:
        pair = Resumable(resumable=False)
        ours, _ = pair.connect()
        pair.rest()
        pair.cut()
        assert ours.state is SessionState.CLOSED
        assert [event.reason for event in pair.alice.told(SessionClosed)] == [CloseReason.TIMEOUT]

    def test_what_had_come_can_be_read_and_nothing_is_accepted_to_be_sent(self) -> None:
        pair = Resumable()
        ours, theirs = pair.connect()
        stream = ours.open_stream(mode=StreamMode.BYTES)
        ours.write(stream, b"before")
        pair.rest()
        pair.cut()
        assert theirs.read(stream) == b"before"
        assert ours.write(stream, b"meanwhile") == 0
        assert not ours.send_datagram(b"unreliable")
        assert theirs.read_datagram() is None

    def test_closing_a_detached_session_ends_it_at_once(self) -> None:
        pair = Resumable()
        ours, theirs = pair.connect()
        pair.rest()
        pair.cut()
        ours.close()
        pair.bob.endpoint.close()
        pair.settle()
        assert ours.state is theirs.state is SessionState.CLOSED
        assert [event.reason for event in pair.alice.told(SessionClosed)] == [CloseReason.GRACEFUL]
        assert pair.bob.endpoint.statistics()["detached"] == 0

    def test_nobody_waits_for_ever(self) -> None:
        pair = Resumable(detached_timeout=100.0)
        ours, _ = pair.connect()
        pair.rest()
        pair.cut()
        pair.run(101.0)
        assert ours.state is SessionState.CLOSED
        assert [event.reason for event in pair.alice.told(SessionClosed)] == [CloseReason.TIMEOUT]

    def test_a_restarted_peer_detaches_it_too(self) -> None:
        pair = Resumable(bob={"node_seed": BOBS})
        ours, _ = pair.connect()
        pair.rest()
        pair.run(61.0)  # until the ids are old enough for a reset
        pair.bob.endpoint = End("bob", pair.bob.address, entropy=entropy_of("bob again"), node_seed=BOBS).endpoint
        pair.run(15.0)
        assert ours.state is SessionState.DETACHED

    def test_the_one_detached_first_makes_room(self) -> None:
        pair = Resumable(bob={"detached_memory": 3 * 8192})
        sessions = [pair.connect()[1] for _ in range(4)]
        pair.rest()
        pair.cut()
        assert [session.state for session in sessions] == [SessionState.CLOSED] + 3 * [SessionState.DETACHED]
        assert pair.bob.endpoint.statistics()["detached_evicted"] == 1

    def test_one_that_holds_more_than_all_may_is_not_kept(self) -> None:
        pair = Resumable(alice={"detached_memory": 100_000})
        ours, theirs = pair.connect()
        pair.rest()
        pair.wire = dead
        stream = ours.open_stream(mode=StreamMode.BYTES)
        assert ours.write(stream, bytes(200_000)) == 200_000
        pair.run(SILENCE)
        assert ours.state is SessionState.CLOSED
        assert theirs.state is SessionState.DETACHED


class TestGoingOn:
    def test_the_same_session_goes_on_with_its_streams(self) -> None:
        pair = Resumable()
        ours, theirs = pair.connect()
        up = ours.open_stream(mode=StreamMode.BYTES, purpose="upload")
        down = theirs.open_stream()
        ours.write(up, b"one ")
        theirs.send_message(down, b"first")
        pair.rest()
        first_id = ours.session_id
        pair.cut()
        resumed = pair.resume(token_of(ours))
        pair.rest()
        assert resumed is ours
        assert ours.resumed is theirs.resumed is Resumed.FULL
        assert ours.session_id == theirs.session_id == first_id
        assert [event.session_key for event in pair.bob.told(SessionResumed)] == [theirs.key]
        ours.write(up, b"two")
        theirs.send_message(down, b"second")
        assert everything(pair, theirs, up, 7) == b"one two"
        assert [ours.read_message(down), ours.read_message(down)] == [b"first", b"second"]

    def test_what_was_in_flight_is_sent_again_and_nothing_twice(self) -> None:
        pair = Resumable(alice={"send_buffer": 4 << 20})
        ours, theirs = pair.connect()
        data = bytes(range(256)) * 8192
        stream = ours.open_stream(mode=StreamMode.BYTES)
        assert ours.write(stream, data) == len(data)
        ours.finish(stream)
        lost = iter(range(1_000_000))
        pair.wire = lambda flight: () if next(lost) % 3 == 2 else (flight,)
        pair.run(0.05)
        pair.cut()
        offset = ours.watch(stream)
        pair.resume(token_of(ours))
        assert everything(pair, theirs, stream, len(data)) == data
        assert theirs.at_end(stream)
        pair.rest()
        assert [event.offset for event in pair.alice.told(StreamAcknowledged)] == [offset]

    def test_a_live_session_may_move_to_new_keys_too(self) -> None:
        pair = Resumable(resumable=False)
        ours, theirs = pair.connect()
        stream = ours.open_stream(mode=StreamMode.BYTES)
        pair.rest()
        pair.alice.address = ("192.0.2.9", 999)
        assert pair.resume(token_of(ours)) is ours
        ours.write(stream, b"from elsewhere")
        assert everything(pair, theirs, stream, 14) == b"from elsewhere"
        assert theirs.path.address == ("192.0.2.9", 999)

    def test_it_can_be_done_again_and_again(self) -> None:
        pair = Resumable()
        ours, theirs = pair.connect()
        stream = ours.open_stream(mode=StreamMode.BYTES)
        pair.rest()
        for number in range(5):
            pair.cut()
            assert pair.resume(token_of(ours)) is ours
            pair.rest()
            ours.write(stream, b"%d" % number)
            assert everything(pair, theirs, stream, 1) == b"%d" % number
        assert theirs.record is not None
        assert theirs.record.epoch == 5

    def test_who_waited_for_room_is_told(self) -> None:
        pair = Resumable()
        ours, _ = pair.connect()
        stream = ours.open_stream(mode=StreamMode.BYTES)
        pair.rest()
        pair.cut()
        assert ours.write(stream, b"x") == 0
        pair.resume(token_of(ours))
        assert [event.stream_id for event in pair.alice.told(StreamWritable)] == [stream]
        assert ours.write(stream, b"x") == 1

    def test_flow_control_holds_across_it(self) -> None:
        """MAX_DATA counts from 0 again, MAX_STREAM_DATA from what was consumed: nobody is stuck and nobody overruns."""
        pair = Resumable(stream_window=8192, session_window=16384, max_window=16384, alice={"send_buffer": 1 << 20})
        ours, theirs = pair.connect()
        data = bytes(range(256)) * 600
        stream = ours.open_stream(mode=StreamMode.BYTES)
        ours.write(stream, data)
        arrived = bytearray()
        for _ in range(4):
            pair.run(0.1)
            arrived += theirs.read(stream, 3000) or b""
            pair.cut()
            pair.resume(token_of(ours))
            pair.rest()
            assert theirs.stream_info(stream).received - len(arrived) <= 8192
        arrived += everything(pair, theirs, stream, len(data) - len(arrived))
        assert bytes(arrived) == data

    def test_a_stop_and_a_reset_that_were_lost_are_said_again(self) -> None:
        pair = Resumable()
        ours, theirs = pair.connect()
        stopped, reset = ours.open_stream(mode=StreamMode.BYTES), ours.open_stream(mode=StreamMode.BYTES)
        for stream in (stopped, reset):
            ours.write(stream, b"x")
        pair.rest()
        pair.wire = dead
        ours.reset_stream(reset, 7)
        theirs.stop_stream(stopped, 8)
        pair.cut()
        pair.resume(token_of(ours))
        pair.rest()
        with pytest.raises(StreamResetError) as raised:
            theirs.read(reset)
        assert raised.value.code == 7
        with pytest.raises(StreamResetError) as raised:
            ours.write(stopped, b"more")
        assert raised.value.code == 8

    def test_a_stream_the_peer_never_heard_of_is_opened_again(self) -> None:
        pair = Resumable()
        ours, theirs = pair.connect()
        pair.rest()
        pair.wire = dead
        stream = ours.open_stream(mode=StreamMode.BYTES, purpose="unheard")
        ours.write(stream, b"all of it")
        pair.cut()
        later = ours.open_stream(stream_id=5, mode=StreamMode.BYTES)
        pair.resume(token_of(ours))
        pair.rest()
        assert theirs.stream_info(stream).purpose == "unheard"
        assert theirs.read(stream) == b"all of it"
        assert theirs.stream_info(later).peer_opened

    def test_a_stream_the_peer_is_done_with_is_over(self) -> None:
        """Its last acknowledgement was lost: it has forgotten the stream, and that is no gap."""
        pair = Resumable()
        ours, theirs = pair.connect()
        stream = ours.open_stream(mode=StreamMode.BYTES)
        ours.write(stream, b"question")
        pair.rest()
        theirs.write(stream, b"answer")
        theirs.finish(stream)
        pair.rest()
        assert ours.read(stream) == b"answer"
        assert ours.at_end(stream)
        pair.rest()
        assert theirs.read(stream) == b"question"
        ours.write(stream, b"!")
        ours.finish(stream)
        pair.wire = one_way(pair.alice)
        pair.run(0.1)
        assert theirs.read(stream) == b"!"
        assert theirs.at_end(stream)
        pair.cut()
        pair.resume(token_of(ours))
        pair.rest()
        assert channel_of(ours).streams.held_bytes == channel_of(theirs).streams.held_bytes == 0
        assert len(channel_of(ours).streams) == 0

    def test_a_lost_final_is_sent_again(self) -> None:
        pair = Resumable()
        ours, _ = pair.connect()
        pair.rest()
        pair.cut()
        lost: list[bytes] = []

        def without_the_first_final(flight: Flight) -> tuple[Flight, ...]:
            if flight.data[0] == 0xC4 and not lost:
                lost.append(flight.data)
                return ()
            return (flight,)

        pair.wire = without_the_first_final
        assert pair.resume(token_of(ours)) is ours
        assert lost

    def test_silence_after_a_final_fails_the_attempt_and_the_session_can_be_resumed_once_more(self) -> None:
        pair = Resumable()
        ours, theirs = pair.connect()
        pair.rest()
        pair.cut()
        token = token_of(ours)
        attempt = pair.ask(token, timeout=3.0)
        pair.run_until(lambda: ours.state is SessionState.ESTABLISHED)
        pair.cut()
        assert [event.session_key for event in pair.alice.told(HandshakeFailed)] == [attempt]
        assert ours.state is theirs.state is SessionState.DETACHED
        assert pair.resume(token) is ours


def one_way(sender: End) -> Any:
    return lambda flight: (flight,) if flight.sender is sender else ()


class TestTickets:
    def test_a_new_one_comes_every_twelve_hours(self) -> None:
        pair = Resumable(keep_alive_interval=3000.0, keep_alive_timeout=10_000.0)
        ours, _ = pair.connect()
        pair.rest()
        first = token_of(ours)
        pair.run(KEY_LIFE + 1)
        assert token_of(ours) != first

    @pytest.mark.parametrize(("seconds", "extent"), [(86400 - 1.0, Resumed.IDENTITY), (86400 + 1.0, Resumed.NO)])
    def test_a_ticket_is_good_for_a_day(self, seconds: float, extent: Resumed) -> None:
        pair = Resumable()
        ours, _ = pair.connect()
        pair.run_until(lambda: ours.ticket is not None)
        token = token_of(ours)
        given = TokenContent.of(token).issued
        ours.close()
        pair.run(10.0)
        pair.now = given + seconds
        assert pair.resume(token).resumed is extent

    def test_its_key_is_accepted_for_two_rotations_more_and_not_for_four(self) -> None:
        store = MemoryTicketStore(entropy_of("store"))
        keys = [store.current(number * KEY_LIFE) for number in range(5)]
        assert len({key.key_id for key in keys}) == 5
        last = 4 * KEY_LIFE
        assert [store.find(key.key_id, last) is not None for key in keys] == [False, False, True, True, True]

    def test_it_is_good_once(self) -> None:
        pair = Resumable()
        ours, _ = pair.connect()
        pair.rest()
        token = token_of(ours)
        pair.cut()
        assert pair.resume(token).resumed is Resumed.FULL
        pair.rest()
        again = pair.resume(token, restarted(pair, "alice"))
        assert again.resumed is Resumed.NO
        assert ours.state is SessionState.ESTABLISHED
        assert pair.bob.endpoint.statistics()["tickets_spent_twice"] == 1

    def test_a_process_that_was_restarted_knows_who_it_was(self) -> None:
        pair = Resumable(alice={"node_seed": ALICES})
        ours, theirs = pair.connect()
        pair.rest()
        token = token_of(ours)
        again = restarted(pair, "alice", node_seed=ALICES)
        session = pair.resume(token, again)
        assert session.resumed is Resumed.IDENTITY
        pair.rest()
        assert theirs.error is not None
        assert [event.reason for event in pair.bob.told(SessionClosed)] == [CloseReason.SUPERSEDED]
        assert [event.resumed for event in pair.bob.told(SessionEstablished)] == [Resumed.NO, Resumed.IDENTITY]

    def test_a_server_that_was_restarted_with_its_ticket_keys_knows_the_client(self) -> None:
        store = MemoryTicketStore(entropy_of("store"))
        pair = Resumable()
        pair.bob.endpoint = with_store("bob", store, resumable=True)
        ours, _ = pair.connect()
        stream = ours.open_stream(mode=StreamMode.BYTES)
        ours.write(stream, b"x")
        pair.rest()
        pair.bob.endpoint = with_store("bob again", store, resumable=True)
        pair.cut()
        session = pair.resume(token_of(ours))
        assert session is not ours
        assert session.resumed is Resumed.IDENTITY
        with pytest.raises(SessionClosedError) as raised:
            ours.write(stream, b"more")
        assert (raised.value.reason, raised.value.code) == (CloseReason.SUPERSEDED, ErrorCode.RESUME_GAP)

    def test_a_server_that_was_restarted_without_them_begins_afresh(self) -> None:
        pair = Resumable()
        ours, _ = pair.connect()
        pair.rest()
        pair.bob.endpoint = End("bob again", pair.bob.address).endpoint
        pair.cut()
        session = pair.resume(token_of(ours))
        assert session.resumed is Resumed.NO
        assert ours.state is SessionState.CLOSED

    def test_where_the_store_fails_nothing_is_resumed_and_a_fresh_session_begins(self) -> None:
        store = FailingStore()
        pair = Resumable()
        pair.bob.endpoint = with_store("bob", store, resumable=True)
        ours, _ = pair.connect()
        pair.rest()
        pair.cut()
        token = token_of(ours)
        for failing in ("spend", "is_spent"):
            store.failing = failing
            assert pair.resume(token).resumed is Resumed.NO
        assert pair.bob.endpoint.statistics()["store_failures"] == 2

    def test_an_older_one_of_a_session_that_is_here_does_as_well(self) -> None:
        pair = Resumable()
        ours, _ = pair.connect()
        pair.rest()
        token = token_of(ours)
        for _ in range(3):
            pair.cut()
            assert pair.resume(token) is ours
            pair.rest()

    def test_who_spent_one_and_was_cut_off_before_the_next_came_may_come_back_with_it(self) -> None:
        """Another with the same ticket may not: it lacks the secret of the handshake that spent it."""
        pair = Resumable()
        ours, theirs = pair.connect()
        pair.rest()
        stolen = token_of(ours)
        pair.cut()
        attempt = pair.ask(stolen)
        pair.run_until(lambda: ours.state is SessionState.ESTABLISHED)
        pair.wire = one_way(pair.alice)
        pair.run_until(lambda: theirs.state is SessionState.ESTABLISHED)
        pair.cut()
        assert outcome(pair.alice, attempt) is None
        token = token_of(ours)
        assert pair.resume(stolen, restarted(pair, "alice")).resumed is Resumed.NO
        assert pair.resume(token, restarted(pair, "alice")).resumed is Resumed.IDENTITY

    def test_none_are_given_where_they_live_for_no_time(self) -> None:
        pair = Resumable(ticket_lifetime=0.0)
        ours, _ = pair.connect()
        pair.rest()
        assert ours.resumption_token is None


class FailingStore(MemoryTicketStore):
    failing = ""

    def __init__(self) -> None:
        super().__init__(entropy_of("store"))

    def is_spent(self, ticket_id: bytes, wall: float) -> bool:
        if self.failing == "is_spent":
            raise StoreError("down")
        return super().is_spent(ticket_id, wall)

    def spend(self, ticket_id: bytes, expires: float, wall: float) -> bool:
        if self.failing == "spend":
            raise StoreError("down")
        return super().spend(ticket_id, expires, wall)


def with_store(name: str, store: MemoryTicketStore, **changes: Any) -> Endpoint:
    return Endpoint(config_of("bob", **changes), crypto=ToyCrypto(), entropy=entropy_of(name), tickets=store)


def restarted(pair: Pair, name: str, **changes: Any) -> End:
    """Another process with that node id, at another address."""
    number = len(pair.ends)
    end = End(name, (f"198.51.100.{100 + number}", 1111), entropy=entropy_of(f"{name} {number}"), **changes)
    pair.ends.append(end)
    return end


class TestByIdentity:
    def test_the_newest_detached_session_goes_on_by_explicit_request_only(self) -> None:
        pair = Resumable(alice={"node_seed": ALICES})
        _, theirs = pair.connect()
        pair.rest()
        pair.cut()
        other = restarted(pair, "alice", node_seed=ALICES)
        plain = other.endpoint.connect(pair.bob.address, now=pair.now)
        pair.run_until(lambda: outcome(other, plain) is not None)
        assert other.endpoint.session(plain).resumed is Resumed.NO
        assert pair.bob.endpoint.statistics()["detached"] == 1
        assert pair.resume(None, other).resumed is Resumed.IDENTITY
        pair.rest()
        assert theirs.state is SessionState.CLOSED

    def test_one_in_use_is_taken_over_only_where_that_is_asked_for(self) -> None:
        pair = Resumable(alice={"node_seed": ALICES})
        ours, theirs = pair.connect()
        pair.rest()
        other = restarted(pair, "alice", node_seed=ALICES)
        assert pair.resume(None, other).resumed is Resumed.NO
        pair.rest()
        third = restarted(pair, "alice", node_seed=ALICES)
        # Of the two sessions that are in use now, the newest is the one that the other device has just made.
        taken = pair.bob.endpoint.sessions()[-1]
        assert pair.resume(None, third, takeover=True).resumed is Resumed.IDENTITY
        pair.rest()
        assert taken.error is not None
        assert [event.reason for event in other.told(SessionClosed)] == [CloseReason.SUPERSEDED]
        assert ours.state is theirs.state is SessionState.ESTABLISHED

    def test_an_identity_that_dies_with_its_process_is_none_to_resume_by(self) -> None:
        pair = Resumable()
        with pytest.raises(ConfigurationError, match="node_seed"):
            pair.ask(None)
        pair = Resumable(node_seed=ALICES, keep_identity=False)
        with pytest.raises(ConfigurationError, match="node_seed"):
            pair.ask(None)


class TestTwoAtOnce:
    def test_of_two_pending_the_first_packet_wins_and_the_other_begins_afresh_once(self) -> None:
        pair = Resumable()
        ours, theirs = pair.connect()
        pair.rest()
        token = token_of(ours)
        pair.cut()
        other = restarted(pair, "alice on another device")
        late = pair.ask(token, other)
        held: list[Flight] = []

        def without_packets_of_the_other(flight: Flight) -> tuple[Flight, ...]:
            if flight.sender is other and flight.data[0] & 0xC0 == 0x40:
                held.append(flight)
                return ()
            return (flight,)

        pair.wire = without_packets_of_the_other
        pair.run_until(lambda: bool(held))
        first = pair.resume(token)
        assert first is ours
        assert first.resumed is Resumed.FULL
        pair.wire = straight
        pair.run_until(lambda: outcome(other, late) is not None)
        assert other.endpoint.session(late).resumed is Resumed.NO
        assert other.kinds.count("SessionEstablished") == 1
        assert ours.state is theirs.state is SessionState.ESTABLISHED

    def test_whoever_held_it_is_told_that_it_went_on_elsewhere(self) -> None:
        pair = Resumable()
        ours, theirs = pair.connect()
        pair.rest()
        token = token_of(ours)
        other = restarted(pair, "a stranger with seed and token")
        assert pair.resume(token, other).resumed is Resumed.IDENTITY
        pair.rest()
        assert [event.reason for event in pair.alice.told(SessionClosed)] == [CloseReason.SUPERSEDED]
        assert theirs.state is SessionState.CLOSED

    def test_old_keys_of_a_session_that_went_on_are_answered_with_their_last_words(self) -> None:
        """The packets of who was asleep meanwhile: a few answers, no larger than what they answer."""
        pair = Resumable(resumable=False)
        ours, _ = pair.connect()
        pair.rest()
        stale, cid = channel_of(ours), ours.local_cid
        pair.alice.address = ("192.0.2.9", 999)
        assert pair.resume(token_of(ours)) is ours
        old = stale.protection.seal([bytes(5)], stale.outbound.peer_mask, pair.now)
        sent = len(pair.sent)
        for _ in range(100):
            pair.put(Flight(pair.alice, pair.alice.path, pair.bob.address, old))
        pair.run(0.5)
        answers = [f for f in pair.sent[sent:] if f.sender is pair.bob and f.data[1:9] == cid]
        assert 0 < len(answers) <= 16
        assert all(len(answer.data) <= len(old) for answer in answers)
