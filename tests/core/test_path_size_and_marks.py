"""What a session learns of its path: how large datagrams may be (RFC 8899), and of congestion before any is lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from stt_core.recovery.ecn import CE, ECT_0, EcnState
from stt_core.session import Session
from stt_core.types import StreamMode
from tests.core.pair import Flight, Pair, channel_of

SIZE = 2_000_000


class Road:
    """A wire that loses what is larger than ``limit``, and notes the largest that was tried."""

    def __init__(self, limit: int = 1 << 16) -> None:
        self.limit = limit
        self.largest = 0
        self.lost = 0

    def __call__(self, flight: Flight) -> Iterable[Flight]:
        self.largest = max(self.largest, len(flight.data))
        if len(flight.data) > self.limit:
            self.lost += 1
            return ()
        return (flight,)


class Marker:
    """A router that marks every ``nth`` packet (0: none), or wipes marks off."""

    def __init__(self, nth: int = 0, *, wipes: bool = False) -> None:
        self.nth = nth
        self.wipes = wipes
        self.seen = 0
        self.marks = 0

    def __call__(self, flight: Flight) -> Iterable[Flight]:
        if flight.ecn == ECT_0:
            self.seen += 1
            if self.wipes:
                flight = replace(flight, ecn=0)
            elif self.nth and self.seen % self.nth == 0:
                self.marks += 1
                flight = replace(flight, ecn=CE)
        return (flight,)


def joined(**settings: object) -> tuple[Pair, Session, Session]:
    pair = Pair(**{"mtu_search": True, "receive_buffer_hint": 1 << 24, **settings})  # type: ignore[arg-type]
    ours, theirs = pair.connect()
    return pair, ours, theirs


def carry(pair: Pair, ours: Session, theirs: Session, size: int = SIZE) -> None:
    """Move ``size`` bytes one way, and see that they arrive."""
    stream = ours.open_stream(mode=StreamMode.BYTES)
    data = bytes(size)
    sent = received = 0

    def done() -> bool:
        nonlocal sent, received
        if sent < size:
            sent += ours.write(stream, data[sent:])
        if stream in theirs._require_channel().streams._streams:
            while chunk := theirs.read(stream):
                received += len(chunk)
        return received == size

    pair.run_until(done, 60.0)


@pytest.mark.parametrize(
    ("carries", "found"), [(65_472, 65_472), (9000, 8900), (1500, 1452), (1400, 1389), (1200, 1200), (70_000, 65_472)]
)
def test_a_transfer_finds_the_largest_datagram_its_path_carries(carries: int, found: int) -> None:
    pair, ours, theirs = joined(wire=Road(carries))
    carry(pair, ours, theirs)
    assert ours.statistics().datagram_size == found
    assert ours.statistics().packets_lost == 0  # probes alone were lost, and nobody waited for these


def test_who_sends_by_several_calls_gets_longer_batches() -> None:
    pair, ours, theirs = joined(mtu_search=False)
    carry(pair, ours, theirs)
    pair.rest()
    ours.write(ours.open_stream(mode=StreamMode.BYTES), bytes(1_000_000))
    sizes = []
    for most in (100_000, 5):
        out = pair.alice.endpoint.poll_transmit(pair.now, 100, most)
        assert out is not None
        sizes.append(len(out.data) // 1200)
    assert sizes == [83, 1]


def large(pair: Pair, ours: Session, theirs: Session) -> int:
    """A stream of a session that has found the largest datagrams, with nothing under way."""
    carry(pair, ours, theirs)
    pair.rest()
    assert ours.statistics().datagram_size == 65_472
    stream = ours.open_stream(mode=StreamMode.BYTES)
    ours.write(stream, b"opens")
    pair.rest()
    return stream


def test_large_packets_leave_and_arrive_by_the_batch_whatever_happens_to_one() -> None:
    pair, ours, theirs = joined()
    stream = large(pair, ours, theirs)
    data = b"".join(bytes([i]) * 1000 for i in range(250))
    ours.write(stream, data)
    out = pair.alice.endpoint.poll_transmit(pair.now, 64, 4 * 65_472)
    assert out is not None
    size = out.segment_size
    assert (size, len(out.data)) == (65_472, 3 * 65_472 + len(data) % (65_472 - 44) + 44)
    batch = bytearray(out.data)
    batch[size + 100] ^= 1  # a forgery in its midst
    pair.bob.endpoint.receive_datagrams(batch, size, pair.alice.path, pair.now)
    batch[:] = bytes(len(batch))  # the buffer is used again
    pair.rest()
    assert theirs.statistics().packets_forged == 1
    assert b"".join(iter(lambda: theirs.read(stream) or b"", b"")) == b"opens" + data


def test_the_rest_of_a_write_waits_for_the_next_while_large_packets_are_under_way() -> None:
    pair, ours, theirs = joined()
    stream = large(pair, ours, theirs)
    body = 65_472 - 44
    before = ours.statistics().packets_sent
    ours.write(stream, bytes(2 * body))
    pair.settle()
    ours.write(stream, bytes(body + 100))
    pair.settle()
    assert ours.statistics().packets_sent == before + 3
    ours.write(stream, bytes(body - 100))
    pair.settle()
    assert ours.statistics().packets_sent == before + 4  # full again


@pytest.mark.parametrize("last_words", ["an ACK comes", "the stream ends", "nothing is under way"])
def test_a_rest_is_held_no_longer_than_that(last_words: str) -> None:
    pair, ours, theirs = joined()
    stream = large(pair, ours, theirs)
    body = 65_472 - 44
    if last_words == "nothing is under way":
        ours.write(stream, bytes(100))
        pair.settle()
        assert ours.stream_info(stream).unsent == 0
        return
    ours.write(stream, bytes(2 * body))
    pair.settle()
    ours.write(stream, bytes(100))
    pair.settle()
    assert ours.stream_info(stream).unsent == 100
    if last_words == "the stream ends":
        ours.finish(stream)
        pair.settle()
    else:
        pair.run_until(lambda: ours.stream_info(stream).acknowledged > 2 * body, 0.1)
    assert ours.stream_info(stream).unsent == 0


@pytest.mark.parametrize(
    ("settings", "largest"),
    [
        ({"max_udp_payload": 1200}, 1200),
        ({"max_udp_payload": 4000}, 1452),
        ({"receive_buffer_hint": 80_000}, 8900),
    ],
)
def test_nothing_is_tried_beyond_what_both_sides_take(settings: dict[str, int], largest: int) -> None:
    road = Road()
    pair, ours, theirs = joined(wire=road, alice=settings)
    carry(pair, theirs, ours)
    assert road.largest == largest
    assert theirs.statistics().datagram_size == largest


def test_nothing_is_tried_where_the_search_is_off() -> None:
    road = Road()
    pair, ours, theirs = joined(wire=road, alice={"mtu_search": False})
    carry(pair, ours, theirs)
    assert road.largest == 1200


def test_a_session_that_hardly_speaks_does_not_search() -> None:
    road = Road()
    pair, ours, theirs = joined(wire=road)
    stream = ours.open_stream()
    for _ in range(200):
        assert ours.send_message(stream, bytes(1000))
        pair.run(10.0)
        assert theirs.read_message(stream) is not None
    assert road.largest == 1200


def test_a_path_that_begins_to_lose_large_datagrams_is_no_black_hole_for_long() -> None:
    road = Road()
    pair, ours, theirs = joined(wire=road)
    carry(pair, ours, theirs)
    assert ours.statistics().datagram_size == 65_472
    road.limit = 1300
    before = pair.now
    carry(pair, ours, theirs)
    assert ours.statistics().datagram_size < 1300
    assert pair.now - before < 10.0


def test_a_size_the_system_refuses_is_not_tried_again_and_no_congestion() -> None:
    pair, ours, theirs = joined(wire=Road(8900))
    stream = ours.open_stream(mode=StreamMode.BYTES)
    ours.write(stream, bytes(500_000))
    pair.run_until(lambda: ours.statistics().datagram_size == 8900)
    window = ours.statistics().cwnd
    pair.alice.endpoint.receive_too_big(pair.bob.path, 16_368, pair.now)
    assert channel_of(ours).recovery.mtu.wanted == 0
    assert ours.statistics().cwnd >= window
    pair.alice.endpoint.receive_too_big(pair.bob.path, 8900, pair.now)
    assert ours.statistics().datagram_size == 1200
    pair.run(5.0)  # what was in such datagrams never left, and is sent again
    assert len(theirs.read(stream, 1 << 20) or b"") == 262_144  # all that the window lets through
    assert channel_of(ours).recovery.congestion.ssthresh == float("inf")


def test_what_the_system_refuses_after_the_last_words_holds_none_of_the_remotes_buffer() -> None:
    """A session that is over gave back its part, and nobody would ask it for that again."""
    pair, ours, theirs = joined()
    carry(pair, ours, theirs)
    stream = ours.open_stream(mode=StreamMode.BYTES)
    ours.write(stream, bytes(500_000))
    pair.settle()
    budget = channel_of(ours).outbound.budget
    assert budget.used > 0
    ours.close()
    pair.settle()
    assert budget.used == 0
    pair.alice.endpoint.receive_too_big(pair.bob.path, 8900, pair.now)
    assert budget.used == 0


def test_marks_that_come_through_are_believed_and_shrink_the_window_without_a_loss() -> None:
    pair, ours, theirs = joined(wire=Marker(nth=200), mtu_search=False)
    carry(pair, ours, theirs)
    recovery = channel_of(ours).recovery
    assert recovery.ecn is not None
    assert recovery.ecn.state is EcnState.CAPABLE
    assert ours.statistics().packets_lost == 0
    assert recovery.congestion.ssthresh < float("inf")


def test_marks_that_are_wiped_off_are_set_no_more() -> None:
    marker = Marker(wipes=True)
    pair, ours, theirs = joined(wire=marker, mtu_search=False)
    carry(pair, ours, theirs)
    recovery = channel_of(ours).recovery
    assert recovery.ecn is not None
    assert recovery.ecn.state is EcnState.FAILED
    assert marker.seen < 60
    assert recovery.congestion.ssthresh == float("inf")


def test_a_peer_that_reports_marks_out_of_thin_air_is_not_believed() -> None:
    pair, ours, theirs = joined(mtu_search=False)
    carry(pair, ours, theirs, 100_000)
    channel_of(theirs).acks.on_marked(CE, 1_000_000)
    carry(pair, ours, theirs, 100_000)
    recovery = channel_of(ours).recovery
    assert recovery.ecn is not None
    assert recovery.ecn.state is EcnState.FAILED
    assert recovery.congestion.ssthresh == float("inf")


def test_no_marks_where_they_are_switched_off_or_on_the_loopback() -> None:
    marker = Marker()
    pair, ours, theirs = joined(wire=marker, mtu_search=False, ecn=False)
    carry(pair, ours, theirs, 50_000)
    assert marker.seen == 0
    local = Pair(wire=marker, mtu_search=False)
    local.bob.address = ("127.0.0.2", 2222)
    ours, theirs = local.connect()
    carry(local, ours, theirs, 50_000)
    assert channel_of(ours).recovery.ecn is None
