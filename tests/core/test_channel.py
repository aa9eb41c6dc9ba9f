"""Packets of one session: when it acknowledges, when it probes, what it repeats, and what rides together."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from types import FrameType

import pytest

from stt_core import frames
from stt_core.budget import AWAY, WHOLE, RemoteBudget, part_at_once, truesize
from stt_core.errors import MessageTooLargeError
from stt_core.frames import parse_frames_untrusted
from stt_core.outbound import OVERHEAD, SKIP_LEAST, SKIP_SPREAD
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.types import SessionKey, StreamMode
from tests.core.pair import Flight, Pair, channel_of, dead, entropy_of, sealed, send_all, straight

PING = frames.KeepAlive(0).encode()


def rested(**options: object) -> tuple[Pair, Session, Session]:
    pair = Pair(**options)  # type: ignore[arg-type]
    ours, theirs = pair.connect()
    pair.run(5.0)
    pair.sent.clear()
    return pair, ours, theirs


def opened(receiver: Session, data: bytes) -> list[frames.Frame]:
    """The frames in a datagram to ``receiver``, without its noticing."""
    protection = channel_of(receiver).protection
    number, failed = protection.largest_opened, protection.failed
    result = protection.open_one(data, receiver.masks[data[1:9]], 0.0)
    protection.largest_opened, protection.failed = number, failed
    assert result is not None
    return parse_frames_untrusted(result[1])


def kinds(receiver: Session, flights: Sequence[Flight]) -> list[set[str]]:
    return [{type(frame).__name__ for frame in opened(receiver, flight.data)} for flight in flights]


def feed(pair: Pair, packets: Sequence[bytes], *, batched: bool = True) -> None:
    """Let Bob receive these now, as one input run or each as its own."""
    if batched:
        pair.bob.endpoint.receive_datagrams(b"".join(packets), len(packets[0]), pair.alice.path, pair.now)
    else:
        for packet in packets:
            pair.bob.endpoint.receive_datagram(packet, pair.alice.path, pair.now)


class TestAcknowledgements:
    @pytest.mark.parametrize(("trip", "waits"), [(0.001, 0.005), (0.08, 0.01), (0.4, 0.025)])
    def test_one_packet_is_acknowledged_after_a_part_of_the_round_trip(self, trip: float, waits: float) -> None:
        pair, ours, theirs = rested()
        channel_of(theirs).recovery.rtt.smoothed = trip
        feed(pair, sealed(ours, PING))
        before = pair.now
        pair.run_until(lambda: bool(pair.sent), 1.0)
        assert pair.now - before == pytest.approx(waits)
        assert kinds(ours, pair.sent) == [{"Ack"}]

    def test_two_at_once_are_acknowledged_at_the_end_of_the_run(self) -> None:
        pair, ours, _ = rested()
        feed(pair, sealed(ours, PING, PING))
        pair.settle()
        assert kinds(ours, pair.sent) == [{"Ack"}]

    def test_a_long_run_gets_one_acknowledgement(self) -> None:
        pair, ours, _ = rested()
        feed(pair, sealed(ours, *[PING] * 50))
        pair.settle()
        assert len(pair.sent) == 1

    def test_a_gap_is_told_at_once(self) -> None:
        pair, ours, _ = rested()
        _, second = sealed(ours, PING, PING)
        feed(pair, [second])
        pair.settle()
        [ack] = [frame for frame in opened(ours, pair.sent[0].data) if isinstance(frame, frames.Ack)]
        assert len(ack.ranges) == 2

    def test_what_asks_for_no_acknowledgement_gets_none(self) -> None:
        pair, ours, theirs = rested()
        ack = frames.encode_ack([(0, 0)], 0)
        feed(pair, sealed(ours, ack, ack, ack))
        pair.run(0.5)
        assert pair.sent == []
        assert theirs.state is SessionState.ESTABLISHED

    def test_an_acknowledgement_rides_on_whatever_leaves_first(self) -> None:
        pair, ours, theirs = rested()
        feed(pair, sealed(ours, PING))
        theirs.send_datagram(b"hello")
        pair.settle()
        assert kinds(ours, pair.sent) == [{"Ack", "Datagram"}]
        pair.sent.clear()
        pair.wire = dead
        pair.run(0.04)
        assert [
            flight for flight in pair.sent if flight.sender is pair.bob
        ] == []  # and it is not sent again when its time comes

    def test_it_tells_how_long_it_waited(self) -> None:
        pair, ours, _ = rested()
        feed(pair, sealed(ours, PING))
        pair.run(0.1)
        [ack] = [frame for frame in opened(ours, pair.sent[0].data) if isinstance(frame, frames.Ack)]
        assert ack.delay == pytest.approx(0.005, abs=1e-5)

    def test_old_ranges_are_forgotten_once_the_peer_knows_them(self) -> None:
        pair, ours, theirs = rested()
        for _ in range(40):
            sealed(ours, PING)  # lost
            feed(pair, sealed(ours, PING))
            pair.run(0.1)
        assert len(channel_of(theirs).acks.packets.newest(256)) < 20


class TestLossAndProbes:
    def test_a_silent_network_is_probed_with_backoff(self) -> None:
        pair, ours, _ = rested()
        pto = channel_of(ours).pto
        pair.wire = dead
        ours.send_datagram(b"anyone?")
        begin = pair.now
        times = []
        for _ in range(4):
            count = len(pair.sent)
            pair.run_until(lambda count=count: len(pair.sent) > count, 10.0)  # type: ignore[misc]
            times.append(pair.now - begin)
        assert times == pytest.approx([0.0, pto, 3 * pto, 7 * pto], rel=0.01)

    def test_what_was_lost_is_sent_again_and_arrives_once(self) -> None:
        pair, ours, theirs = rested()
        count = 0

        def lossy(flight: Flight) -> Iterable[Flight]:
            nonlocal count
            count += 1
            return () if count % 5 == 0 else (flight,)

        pair.wire = lossy
        data = bytes(range(256)) * 800
        assert send_all(pair, ours, theirs, data) == data
        assert ours.statistics().packets_lost > 10

    def test_a_datagram_is_never_sent_again(self) -> None:
        pair, ours, theirs = rested()
        losses = iter([True])
        pair.wire = lambda flight: () if next(losses, False) else (flight,)
        ours.send_datagram(b"lost")
        pair.run(3.0)
        ours.send_datagram(b"arrives")
        pair.run(3.0)
        assert theirs.read_datagram() == b"arrives"
        assert theirs.read_datagram() is None

    def test_a_lost_keep_alive_is_repeated_until_it_arrives(self) -> None:
        pair, ours, theirs = rested()
        pair.wire = dead
        channel_of(ours).send_keep_alive(pair.now)
        ours.mark_ready()
        pair.run(0.5)
        pair.wire = straight
        answered = ours.statistics().keep_alives_answered
        pair.run(3.0)
        assert ours.statistics().keep_alives_answered == answered + 1
        assert theirs.state is SessionState.ESTABLISHED
        assert channel_of(ours).control.unacknowledged == 0

    def test_nothing_stays_in_flight_once_all_is_acknowledged(self) -> None:
        pair, ours, theirs = rested()
        send_all(pair, ours, theirs, bytes(100_000))
        pair.run(2.0)
        for session in (ours, theirs):
            channel = channel_of(session)
            assert channel.recovery.bytes_in_flight == 0
            assert channel.outbound.budget.used == 0
            assert not channel._has_work


class TestNumbers:
    def test_a_number_is_skipped_now_and_then(self) -> None:
        pair, ours, theirs = rested()
        send_all(pair, ours, theirs, bytes(1_500_000))
        skipped = channel_of(ours).recovery._skipped
        assert len(skipped) >= 2
        assert all(SKIP_LEAST <= b - a <= SKIP_LEAST + SKIP_SPREAD + 64 for a, b in pairwise(skipped))

    def test_no_two_packets_of_a_direction_share_their_number(self) -> None:
        pair, ours, theirs = rested()
        send_all(pair, ours, theirs, bytes(200_000))
        wires = [flight.data[9:13] for flight in pair.sent if flight.sender is pair.alice]
        assert len(wires) > 100
        assert len(set(wires)) == len(wires)


class TestBudget:
    def test_it_counts_as_the_kernel_does(self) -> None:
        assert [truesize(size) for size in (1200, 1452, 65_472)] == [2300, 2552, 66_572]
        assert truesize(54 * 1200, 54) == 54 * truesize(1200)

    def test_those_that_were_called_and_have_yet_to_send_keep_their_room(self) -> None:
        budget = RemoteBudget(100_000)
        one, two, three = (SessionKey(number) for number in range(3))
        budget.blocked |= dict.fromkeys((two, three))
        budget.wanted = 20_000
        news = []
        for wanted, called in ((20_000, {one}), (20_000, {one, two}), (60_000, set()), (60_000, {one})):
            budget.wanted, budget.woken = wanted, called
            news.append(budget.has_news)
        # There is room for two, not for three; with nothing in flight, whoever waits gets its turn, but one alone.
        assert news == [True, False, True, False]

    def test_half_of_the_remotes_buffer_may_be_in_flight(self) -> None:
        budget = RemoteBudget(100_000)
        assert budget.limit == 50_000
        budget.blocked[SessionKey(1)] = None
        budget.wanted = 2048
        budget.used = 48_000
        assert not budget.has_news
        budget.used = 40_000
        assert budget.has_news

    def test_of_what_is_on_a_long_road_little_arrives_at_once(self) -> None:
        assert part_at_once(0.0) == part_at_once(AWAY) == WHOLE
        assert part_at_once(2 * AWAY) == WHOLE // 2
        assert part_at_once(10 * AWAY) == WHOLE // 10
        assert part_at_once(3600.0) > 0, "every packet counts"

    def test_a_peer_that_claims_to_have_no_buffer_is_sent_one_packet_at_a_time(self) -> None:
        pair = Pair(bob={"receive_buffer_hint": 4096})
        ours, theirs = pair.connect()
        stream = ours.open_stream(mode=StreamMode.BYTES)
        ours.write(stream, bytes(60_000))
        most = 0

        def watch(flight: Flight) -> Iterable[Flight]:
            nonlocal most
            most = max(most, channel_of(ours).recovery.bytes_in_flight)
            return (flight,)

        pair.wire = watch
        pair.run(20.0)
        assert most <= 2 * 1200
        assert theirs.statistics().bytes_received > 60_000


class TestDatagramSize:
    def test_the_largest_fits_one_packet_and_one_more_byte_is_too_many(self) -> None:
        pair, ours, theirs = rested()
        size = ours.max_datagram_size
        assert size == 1200 - OVERHEAD - 3
        assert ours.send_datagram(bytes(size))
        pair.run(1.0)
        assert theirs.read_datagram() == bytes(size)
        with pytest.raises(MessageTooLargeError, match=f"this path carries {size}"):
            ours.send_datagram(bytes(size + 1))


class TestObserver:
    def test_it_is_called_once_a_batch_with_what_the_statistics_say(self) -> None:
        pair = Pair()
        seen = Counting()
        pair.alice.endpoint._context.observer = seen
        ours, theirs = pair.connect()
        dropped = iter(range(1, 1_000_000))
        pair.wire = lambda flight: () if next(dropped) % 20 == 0 else (flight,)
        send_all(pair, ours, theirs, bytes(300_000))
        pair.wire = straight
        pair.run(2.0)
        mine = ours.statistics()
        assert (seen.sent, seen.sent_bytes) == (mine.packets_sent, mine.bytes_sent)
        assert (seen.received, seen.received_bytes) == (mine.packets_received, mine.bytes_received)
        assert seen.lost == mine.packets_lost > 0
        assert seen.calls < seen.sent


class Counting:
    """An observer that adds up."""

    def __init__(self) -> None:
        self.sent = self.sent_bytes = self.received = self.received_bytes = self.lost = self.calls = 0

    def packets_sent(self, session_key: SessionKey, first: int, count: int, size: int, now: float) -> None:
        self.calls += 1
        self.sent += count
        self.sent_bytes += size

    def packets_received(self, session_key: SessionKey, numbers: Sequence[int], size: int, now: float) -> None:
        self.received += len(numbers)
        self.received_bytes += size

    def packets_lost(self, session_key: SessionKey, count: int, now: float) -> None:
        self.lost += count


def test_entropy_of_tests_repeats_itself() -> None:
    assert entropy_of("x")(8) == entropy_of("x")(8) != entropy_of("y")(8)


class TestColumns:
    def test_nothing_of_ours_is_called_once_per_packet_of_bulk_data(self) -> None:
        """Sealing, sending, opening, receiving, acknowledging: all is done by the batch, here of about ten packets."""
        pair = Pair(receive_buffer_hint=1 << 30, send_buffer=1 << 24)
        ours, theirs = pair.connect()
        send_all(pair, ours, theirs, bytes(1_000_000))  # opens the window
        pair.run(2.0)
        before = ours.statistics().packets_sent
        stream = ours.open_stream(mode=StreamMode.BYTES)
        ours.write(stream, bytes(1_000_000))
        calls: Counter[str] = Counter()

        def count(frame: FrameType, event: str, _: object) -> None:
            if event == "call" and "stt_core" in frame.f_code.co_filename:
                calls[frame.f_code.co_filename + frame.f_code.co_name] += 1

        previous = sys.getprofile()
        sys.setprofile(count)
        try:
            pair.run(1.0)
        finally:
            sys.setprofile(previous)
        packets = ours.statistics().packets_sent - before
        assert packets > 200  # as much as one stream's window lets out
        assert max(calls.values()) < 0.75 * packets
