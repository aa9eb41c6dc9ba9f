"""Many sessions behind one socket: routing, batches, turns, timers, limits, resets."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest

from stt_core.budget import truesize
from stt_core.endpoint import MAX_REPLIES
from stt_core.errors import CloseReason, ConfigurationError, PeerBusyError, StateError
from stt_core.events import (
    AnyEvent,
    DatagramsReadable,
    HandshakeFailed,
    SessionClosed,
    SessionEstablished,
    TicketReceived,
)
from stt_core.routes import SMALLEST_RESET
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.types import Path, StreamMode
from tests.core.pair import (
    End,
    Flight,
    Net,
    Pair,
    channel_of,
    config_of,
    dead,
    entropy_of,
    read_or_none,
    sealed,
    send_all,
)

STRANGER = Path("udp", ("192.0.2.66", 6666))


def datagrams(session: Session, count: int, size: int = 20) -> list[bytes]:
    """Genuine packets of one size, each with one DATAGRAM frame numbered from 0 on."""
    bodies = [number.to_bytes(2, "big") + bytes(size) for number in range(count)]
    return sealed(session, *(b"\x16" + len(body).to_bytes(2, "big") + body for body in bodies))


def arrived(session: Session) -> list[int]:
    """Which of :func:`datagrams` came through."""
    got = []
    while (data := session.read_datagram()) is not None:
        got.append(int.from_bytes(data[:2], "big"))
    return got


class TestBatches:
    def test_a_batch_is_the_same_as_its_datagrams_one_by_one(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        packets = datagrams(ours, 40)
        pair.bob.endpoint.receive_datagrams(b"".join(packets), len(packets[0]), pair.alice.path, pair.now)
        assert arrived(theirs) == list(range(40))

    def test_the_last_may_be_shorter(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        packets = datagrams(ours, 10)
        [short] = sealed(ours, b"\x16\x00\x02\x00\x63")
        assert len(short) < len(packets[0])
        buffer = bytearray(b"".join(packets) + short)
        pair.bob.endpoint.receive_datagrams(buffer, len(packets[0]), pair.alice.path, pair.now)
        buffer[:] = bytes(len(buffer))  # the caller's buffer is its own again
        assert arrived(theirs) == [*range(10), 99]

    @pytest.mark.parametrize("kind", ["noise", "a flipped bit", "another first byte", "a handshake packet", "zeros"])
    def test_garbage_in_the_middle_costs_nothing_but_itself(self, kind: str) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        packets = datagrams(ours, 9)
        size = len(packets[0])
        packets[4] = {
            "noise": b"\x40" + bytes(range(size - 1)),
            "a flipped bit": packets[4][:30] + bytes((packets[4][30] ^ 1,)) + packets[4][31:],
            "another first byte": b"\x7b" + packets[4][1:],
            "a handshake packet": b"\xc4" + packets[4][1:],
            "zeros": bytes(size),
        }[kind]
        before = pair.bob.endpoint.statistics()["received"]
        pair.bob.endpoint.receive_datagrams(b"".join(packets), size, pair.alice.path, pair.now)
        assert arrived(theirs) == [0, 1, 2, 3, 5, 6, 7, 8]
        assert pair.bob.endpoint.statistics()["received"] == before + 9

    def test_packets_of_several_sessions_may_be_mixed(self) -> None:
        pair = Pair()
        first, second = pair.connect(), pair.connect()
        one, other = datagrams(first[0], 12), datagrams(second[0], 12)
        mixed = [packet for both in zip(one[:6], other[:6], strict=True) for packet in both] + one[6:] + other[6:]
        pair.bob.endpoint.receive_datagrams(b"".join(mixed), len(one[0]), pair.alice.path, pair.now)
        assert arrived(first[1]) == arrived(second[1]) == list(range(12))

    def test_a_handshake_packet_of_the_same_size_behind_protected_ones_is_answered(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        other = End("carol", ("198.51.100.9", 999))
        other.endpoint.connect(pair.bob.address, now=pair.now)
        hello = other.endpoint.poll_transmit(pair.now)
        assert hello is not None
        packets = datagrams(ours, 2, size=len(hello.data) - 29 - 5)
        assert {len(packet) for packet in packets} == {len(hello.data)}
        batch = packets[0] + hello.data + packets[1]
        pair.bob.endpoint.receive_datagrams(batch, len(hello.data), other.path, pair.now)
        assert arrived(theirs) == [0, 1]
        assert any(
            (out := pair.bob.endpoint.poll_transmit(pair.now)) is not None and out.data[0] == 0xC2 for _ in range(4)
        )

    @pytest.mark.parametrize("size", [0, 1, 13, 28, 29, 30, 5000])
    def test_no_segment_size_is_too_odd(self, size: int) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        for buffer in (b"", b"\x40", b"\x40" * 200, b"\xc1" * 200, bytes(200), datagrams(ours, 1)[0]):
            pair.bob.endpoint.receive_datagrams(buffer, size, pair.alice.path, pair.now)
        pair.rest()
        assert theirs.state is SessionState.ESTABLISHED

    def test_duplicates_inside_one_batch_count_once(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        one, two = datagrams(ours, 2)
        pair.bob.endpoint.receive_datagrams(one + one + two + one + two, len(one), pair.alice.path, pair.now)
        assert arrived(theirs) == [0, 1]

    def test_what_leaves_is_equal_segments_of_one_path_but_the_last(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        sizes = []
        stream = ours.open_stream(mode=StreamMode.BYTES)
        ours.write(stream, bytes(300_000))
        for _ in range(50):
            while (out := pair.alice.endpoint.poll_transmit(pair.now)) is not None:
                sizes.append((len(out.data), out.segment_size))
                assert len(out.data) <= 64 * out.segment_size
                pair.bob.endpoint.receive_datagrams(out.data, out.segment_size, pair.alice.path, pair.now)
            pair.step(pair.now + 0.1)
        assert max(data // segment for data, segment in sizes) > 5
        assert all(segment <= 1200 and data <= 65_472 for data, segment in sizes)
        assert theirs.statistics().packets_forged == 0


class TestTurns:
    def test_sessions_take_turns_batch_by_batch(self) -> None:
        pair = Pair(session_window=1 << 24, stream_window=1 << 24, max_window=1 << 24, receive_buffer_hint=1 << 30)
        sessions = [pair.connect()[0] for _ in range(3)]
        pair.rest()
        for session in sessions:
            session.write(session.open_stream(mode=StreamMode.BYTES), bytes(500_000))
        order = []
        while (out := pair.alice.endpoint.poll_transmit(pair.now, 4)) is not None:
            order.append(out.data[1:9])
        assert len(set(order)) == 3
        assert all(one != next_one for one, next_one in pairwise(order[:6]))

    def test_many_busy_sessions_all_get_through_at_about_the_same_time(self) -> None:
        pair = Pair()
        pairs = [pair.connect() for _ in range(8)]
        size = 150_000
        streams = [ours.open_stream(mode=StreamMode.BYTES) for ours, _ in pairs]
        for (ours, _), stream in zip(pairs, streams, strict=True):
            assert ours.write(stream, bytes(size)) == size
        got = [0] * 8
        done: dict[int, float] = {}
        begin = pair.now

        def work() -> bool:
            for index, ((_, theirs), stream) in enumerate(zip(pairs, streams, strict=True)):
                if theirs.statistics().packets_received > 2 and index not in done:
                    while got[index] < size and (chunk := read_or_none(theirs, stream)):
                        got[index] += len(chunk)
                    if got[index] == size:
                        done[index] = pair.now - begin
            return len(done) == 8

        pair.run_until(work, 120.0)
        assert max(done.values()) < 3 * min(done.values())

    def test_two_sessions_to_one_socket_share_its_buffer(self) -> None:
        hint = 16 * 1024
        pair = Pair(receive_buffer_hint=hint)
        pairs = [pair.connect(), pair.connect()]
        pair.rest()
        budget = channel_of(pairs[0][0]).outbound.budget
        assert budget is channel_of(pairs[1][0]).outbound.budget
        peaks: list[int] = []
        gone: dict[str, int] = {"alice": 0}

        def watch(flight: Flight) -> Iterable[Flight]:
            if flight.sender is pair.alice:
                in_flight = sum(channel_of(ours).recovery.bytes_in_flight // 1200 * truesize(1200) for ours, _ in pairs)
                peaks.append(in_flight)
                gone["alice"] += 1
            return (flight,)

        pair.wire = watch
        size = 60_000
        streams = [ours.open_stream(mode=StreamMode.BYTES) for ours, _ in pairs]
        for (ours, _), stream in zip(pairs, streams, strict=True):
            assert ours.write(stream, bytes(size)) == size
        got = [0, 0]

        def work() -> bool:
            for index, ((_, theirs), stream) in enumerate(zip(pairs, streams, strict=True)):
                while chunk := read_or_none(theirs, stream):
                    got[index] += len(chunk)
            return got == [size, size]

        pair.run_until(work, 60.0)
        assert max(peaks) <= hint // 2 + truesize(1200)  # one packet more may leave, so that nobody starves
        assert budget.limit == hint // 2
        pair.rest()
        assert budget.used == 0

    def test_a_session_that_dies_gives_back_what_it_held(self) -> None:
        pair = Pair(receive_buffer_hint=16 * 1024)
        (first, _), (second, receiving) = pair.connect(), pair.connect()
        pair.rest()
        budget = channel_of(first).outbound.budget
        first.write(first.open_stream(mode=StreamMode.BYTES), bytes(100_000))
        pair.settle()
        assert budget.used > 0
        first.abandon("no longer wanted")
        assert budget.used == 0
        assert send_all(pair, second, receiving, bytes(50_000)) == bytes(50_000)


class TestTimers:
    def test_something_that_waits_always_has_a_time(self) -> None:
        pair = Pair()
        losses = iter(range(1, 1_000_000))
        pair.wire = lambda flight: () if next(losses) % 7 == 0 else (flight,)
        key = pair.start()
        ours = pair.alice.endpoint.session(key)
        stream = -1

        def ended() -> bool:
            return ours.state is SessionState.CLOSED

        for _ in range(3000):
            pair.settle()
            for end in pair.ends:
                if not end.endpoint.idle:
                    assert end.endpoint.next_timer() is not None
            if ours.state is SessionState.ESTABLISHED and stream < 0:
                stream = ours.open_stream(mode=StreamMode.BYTES)
                ours.write(stream, bytes(100_000))
                ours.finish(stream)
                ours.close(linger=20.0)
            if ended():
                break
            pair.step(pair.now + 5.0)
        assert ended()

    def test_calling_for_a_timer_that_is_not_due_does_nothing(self) -> None:
        pair = Pair()
        pair.connect()
        pair.rest()
        before = pair.alice.endpoint.next_timer()
        for _ in range(100):
            pair.alice.endpoint.handle_timer(pair.now)
        assert pair.alice.endpoint.poll_transmit(pair.now) is None
        assert pair.alice.endpoint.next_timer() == before

    def test_the_heap_holds_no_more_than_a_few_entries_per_session(self) -> None:
        pair = Pair()
        pairs = [pair.connect() for _ in range(3)]
        for turn in range(300):
            ours, theirs = pairs[turn % 3]
            ours.send_datagram(b"x")
            theirs.send_datagram(b"y")
            pair.run(0.03)
        for end in pair.ends:
            assert len(end.endpoint._register.agenda) <= 64 + 4 * 3 + 1

    def test_compaction_in_the_middle_of_a_turn_loses_no_timer(self) -> None:
        pair = Pair()
        pairs = [pair.connect() for _ in range(10)]
        pair.rest()
        endpoint = pair.alice.endpoint
        for _ in range(50):
            endpoint._register.agenda._compact()
            endpoint.handle_timer(pair.now)
            pair.run(1.0)
        assert all(ours.state is SessionState.ESTABLISHED for ours, _ in pairs)
        endpoint._register.agenda._compact()
        assert len(endpoint._register.agenda) == 10
        pair.wire = dead
        pair.run(40.0)
        assert len(pair.alice.told(SessionClosed)) == 10

    def test_idle_says_when_nothing_is_left_to_do(self) -> None:
        pair = Pair()
        seen = [pair.alice.endpoint.idle]
        key = pair.start()
        seen.append(pair.alice.endpoint.idle)
        pair.run_until(lambda: bool(pair.bob.told(SessionEstablished)))
        seen.append(pair.bob.endpoint.idle)
        pair.rest()
        pair.alice.endpoint.session(key).close()
        seen.append(pair.alice.endpoint.idle)
        pair.rest()
        seen += [pair.alice.endpoint.idle, pair.bob.endpoint.idle]
        assert seen == [True, False, False, False, True, True]

    def test_closing_an_endpoint_closes_all_its_sessions(self) -> None:
        pair = Pair()
        for _ in range(4):
            pair.connect()
        pair.rest()
        pair.bob.endpoint.close(0x12, "the node is stopping")
        pair.run_until(lambda: pair.alice.endpoint.idle and pair.bob.endpoint.idle)
        assert [event.message for event in pair.alice.told(SessionClosed)] == ["the node is stopping"] * 4


class TestLimits:
    def test_more_than_max_sessions_is_the_callers_mistake(self) -> None:
        pair = Pair(alice={"max_sessions": 2})
        pair.connect()
        pair.connect()
        with pytest.raises(StateError, match="max_sessions is 2"):
            pair.start()

    def test_a_full_node_says_so(self) -> None:
        pair = Pair(bob={"max_sessions": 1})
        ours, _ = pair.connect()
        pair.start()
        pair.run_until(lambda: bool(pair.alice.told(HandshakeFailed)), 20.0)
        assert isinstance(pair.alice.told(HandshakeFailed)[0].error, PeerBusyError)
        ours.close()
        pair.run(10.0)
        pair.connect()

    def test_a_node_that_accepts_nobody_answers_nobody(self) -> None:
        pair = Pair(bob={"accept": False})
        pair.start(timeout=2.0)
        pair.run(3.0)
        assert not [flight for flight in pair.sent if flight.sender is pair.bob]

    def test_answers_to_strangers_wait_in_a_bounded_queue(self) -> None:
        pair = Pair(rate_limits=None)
        packet = b"\x40" + bytes(100)
        for number in range(2 * MAX_REPLIES):
            pair.bob.endpoint.receive_datagram(packet, Path("udp", ("192.0.2.1", number)), pair.now)
        assert len(pair.bob.endpoint._replies) == MAX_REPLIES

    def test_an_idle_session_is_small(self) -> None:
        pair = Pair(rate_limits=None)
        pair.connect()
        pair.rest()
        count = 30
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(count):
                pair.start()
            pair.run(3.0)
            pair.sent.clear()
            for end in pair.ends:
                end.events.clear()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert len(pair.alice.endpoint.sessions()) == len(pair.bob.endpoint.sessions()) == count + 1
        assert grown / (2 * count) < 10 * 1024  # a real provider's AEAD pair adds 5.2 KB: 16 in all


class Closer(list[AnyEvent]):
    """The events of one who closes each session as soon as it is there."""

    def __init__(self, end: End) -> None:
        super().__init__()
        self._endpoint = end.endpoint

    def append(self, event: AnyEvent) -> None:
        super().append(event)
        if isinstance(event, SessionEstablished):
            self._endpoint.session(event.session_key).close()


class TestTokens:
    def test_an_address_token_saves_the_round_trip_that_proves_the_address(self) -> None:
        pair = Pair(bob={"validate_address": True})
        pair.connect()
        pair.rest()
        first = [flight.data[0] for flight in pair.sent if flight.data[0] >= 0xC0]
        assert 0xC5 in first
        pair.sent.clear()
        pair.connect()
        second = [flight.data[0] for flight in pair.sent if flight.data[0] >= 0xC0]
        assert second == [0xC1, 0xC2, 0xC3, 0xC4]

    def test_a_session_that_is_over_at_once_costs_neither_token_nor_ticket(self) -> None:
        pair = Pair()
        pair.alice.events = Closer(pair.alice)
        pair.start()
        pair.rest()
        assert pair.bob.kinds == ["SessionEstablished", "SessionClosed"]
        assert [flight.data[0] for flight in pair.sent if flight.sender is pair.bob] == [0xC2, 0xC4, 0x40]
        assert pair.alice.told(TicketReceived) == []

    def test_a_token_too_long_for_a_hello_is_not_kept(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        theirs.send_address_token(b"x" * 200)
        pair.rest()
        assert ours.state is SessionState.ESTABLISHED
        pair.connect()


class TestResets:
    def test_a_peer_that_lost_the_session_says_so_and_is_believed(self) -> None:
        pair = Pair(node_seed=b"sixteen bytes or more")
        ours, _ = pair.connect()
        pair.rest()
        reborn = End("bob", pair.bob.address, entropy=entropy_of("reborn"), node_seed=b"sixteen bytes or more")
        pair.ends[1] = reborn
        pair.run(15.0)
        [closed] = pair.alice.told(SessionClosed)
        assert closed.reason is CloseReason.TIMEOUT
        assert ours.state is SessionState.CLOSED
        assert reborn.endpoint.statistics()["resets_sent"] == 1

    def test_a_reset_is_smaller_than_what_it_answers_and_small_packets_get_none(self) -> None:
        pair = Pair()
        for size in (9, 14, SMALLEST_RESET - 1, SMALLEST_RESET, SMALLEST_RESET + 1, 34, 45, 46, 1200):
            pair.bob.endpoint.receive_datagram(b"\x40" + bytes(size - 1), STRANGER, pair.now)
            out = pair.bob.endpoint.poll_transmit(pair.now)
            assert (out is not None) == (size > SMALLEST_RESET)
            assert out is None or len(out.data) < size

    def test_resets_are_rationed(self) -> None:
        pair = Pair()
        for number in range(1000):
            pair.bob.endpoint.receive_datagram(b"\x40" + bytes(99), STRANGER, pair.now + number / 1000)
        assert pair.bob.endpoint.statistics()["resets_sent"] <= 20

    def test_two_endpoints_without_sessions_fall_silent(self) -> None:
        pair = Pair()
        pair.bob.endpoint.receive_datagram(b"\x40" + bytes(1199), pair.alice.path, pair.now)
        pair.run(5.0)
        assert 1 <= len(pair.sent) <= 16  # each is smaller than the one it answers
        assert [len(flight.data) for flight in pair.sent] == sorted((len(f.data) for f in pair.sent), reverse=True)


class TestDeterminism:
    def test_the_same_entropy_inputs_and_times_give_the_same_bytes(self) -> None:
        assert [flight.data for flight in story()] == [flight.data for flight in story()]

    def test_whatever_the_hash_seed(self) -> None:
        code = (
            "import hashlib; from tests.core.test_endpoint import story;"
            "print(hashlib.sha256(b''.join(flight.data for flight in story())).hexdigest())"
        )
        digests = {
            subprocess.run(
                [sys.executable, "-c", code],
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(path for path in sys.path if path) + ":."},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("1", "2")
        }
        assert len(digests) == 1

    def test_other_entropy_gives_other_bytes(self) -> None:
        pair, other = Pair(), Net()
        other.ends = [End("someone else", ("198.51.100.1", 1111)), pair.bob]
        other.ends[0].endpoint.connect(pair.bob.address, now=other.now)
        pair.start()
        pair.settle()
        other.settle()
        assert pair.sent[0].data[21:53] != other.sent[0].data[21:53]


def story() -> list[Flight]:
    """Sessions, streams, losses and ends, enough to pass through most of the code."""
    pair = Pair()
    losses = iter(range(1, 1_000_000))
    pair.wire = lambda flight: () if next(losses) % 11 == 0 else (replace(flight, delay=0.013),)
    sessions = [pair.connect() for _ in range(3)]
    for ours, theirs in sessions:
        send_all(pair, ours, theirs, bytes(20_000))
    for _, theirs in sessions:
        theirs.close(linger=1.0)
    pair.run(10.0)
    return pair.sent


def test_a_session_key_that_is_over_is_not_found() -> None:
    pair = Pair()
    with pytest.raises(LookupError):
        pair.alice.endpoint.session(pair.connect()[1].key + 5)  # type: ignore[arg-type]


def test_datagrams_are_told_once_until_they_are_read() -> None:
    pair = Pair()
    ours, theirs = pair.connect()
    for number in range(5):
        ours.send_datagram(bytes((number,)))
    pair.rest()
    assert len(pair.bob.told(DatagramsReadable)) == 1
    assert [theirs.read_datagram() for _ in range(6)] == [b"\0", b"\1", b"\2", b"\3", b"\4", None]


def test_a_configuration_that_cannot_work_is_refused_when_it_is_made() -> None:
    with pytest.raises(ConfigurationError, match="max_sessions"):
        config_of("x", max_sessions=0)
