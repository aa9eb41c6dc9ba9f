"""The UDP socket, on loopback and with a few sockets that fail on request."""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from stt_backends import buffers
from stt_backends.udp import MAX_SEGMENTS, UdpSocket
from stt_backends.udp_address import Address
from stt_backends.udp_errors import SEGMENTATION_ERRNOS, VERDICTS, Verdict, is_refusal
from stt_core.errors import ConfigurationError

WAIT = 10.0  # seconds; select returns as soon as there is something, so a passing test never takes it
SOL_UDP = 17

Maker = Callable[..., UdpSocket]


@pytest.fixture
def make() -> Iterator[Maker]:
    made: list[UdpSocket] = []

    def make_one(bind_address: str = "127.0.0.1", port: int = 0, **settings: Any) -> UdpSocket:
        made.append(UdpSocket(bind_address, port, **settings))
        return made[-1]

    yield make_one
    for sock in made:
        sock.close()


def is_readable(sock: UdpSocket, timeout: float = WAIT) -> bool:
    return bool(select.select([sock], [], [], timeout)[0])


def receive_datagrams(sock: UdpSocket, count: int) -> list[tuple[bytes, Address]]:
    """Exactly ``count`` datagrams, however the system batched them."""
    found: list[tuple[bytes, Address]] = []
    while len(found) < count:
        assert is_readable(sock), f"{len(found)} of {count} datagrams came"
        while (batch := sock.receive()) is not None:
            data, size, address, _ = batch
            found += [(bytes(data[i : i + size]), address) for i in range(0, len(data), size)]
    assert len(found) == count
    return found


def refusing_address(host: str = "127.0.0.1") -> Address:
    """An address at which nothing listens."""
    with UdpSocket(host) as gone:
        return gone.address


class FailingSocket(socket.socket):
    """A real socket whose system calls fail with the errnos that the test has queued."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        super().__init__(family, socket.SOCK_DGRAM)
        self.bind(("127.0.0.1", 0))
        self.send_errors: list[int] = []
        self.segmented_errors: dict[int, int] = {}
        """From the least segment size that fails to the errno it fails with."""
        self.receive_errors: list[int] = []
        self.sent_sizes: list[int] = []
        self.segmented_calls = 0

    def sendmsg(
        self,
        buffers: Iterable[Any],
        ancdata: Iterable[tuple[int, int, Any]] = (),
        flags: int = 0,
        address: Any = None,
    ) -> int:
        self.segmented_calls += 1
        ((_, _, value),) = ancdata
        for least, number in self.segmented_errors.items():
            if struct.unpack("=H", value)[0] >= least:
                raise OSError(number, os.strerror(number))
        self._fail(self.send_errors)
        return super().sendmsg(buffers, ancdata, flags, address)

    def sendto(self, data: Any, *rest: Any) -> int:
        self._fail(self.send_errors)
        self.sent_sizes.append(len(data))
        return super().sendto(data, *rest)

    def recvmsg_into(self, *arguments: Any) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
        self._fail(self.receive_errors)
        return super().recvmsg_into(*arguments)

    def recvfrom_into(self, *arguments: Any) -> tuple[int, Any]:
        self._fail(self.receive_errors)
        return super().recvfrom_into(*arguments)

    @staticmethod
    def _fail(queue: list[int]) -> None:
        if queue and (number := queue.pop(0)):
            raise OSError(number, os.strerror(number))


@pytest.fixture
def failing() -> Iterator[tuple[FailingSocket, UdpSocket]]:
    raw = FailingSocket()
    with UdpSocket(sock=raw) as sock:
        yield raw, sock


# Moving datagrams


def test_a_datagram_arrives_whole_with_its_sender(make: Maker) -> None:
    a, b = make(), make()
    assert a.send(b"hello", 1200, b.address)
    assert receive_datagrams(b, 1) == [(b"hello", a.address)]
    assert b.receive() is None


def test_nothing_waiting_is_none_at_once(make: Maker) -> None:
    assert make().receive() is None


@pytest.mark.parametrize("sender_offload", [True, False])
@pytest.mark.parametrize("receiver_offload", [True, False])
@pytest.mark.parametrize("length", [1201, 2400, 50 * 1200, 50 * 1200 + 7])
def test_a_batch_arrives_as_its_datagrams_with_and_without_offload(
    make: Maker, sender_offload: bool, receiver_offload: bool, length: int
) -> None:
    a, b = make(offload=sender_offload), make(offload=receiver_offload)
    data = bytes(i % 251 for i in range(length))
    assert a.send(data, 1200, b.address)
    expected = [data[i : i + 1200] for i in range(0, length, 1200)]
    assert [datagram for datagram, _ in receive_datagrams(b, len(expected))] == expected


def test_one_receive_takes_a_whole_batch_where_the_system_offers_it(make: Maker) -> None:
    a, b = make(), make()
    data = bytes(50 * 1200 + 5)
    assert a.send(data, 1200, b.address)
    assert is_readable(b)
    batch = b.receive()
    assert batch is not None
    received, segment_size, address, _ = batch
    assert (len(received), segment_size, address) == (len(data), 1200, a.address)


def test_alike_datagrams_are_gathered_by_several_calls(make: Maker) -> None:
    a, b = make(), make()
    pieces = [bytes([i]) * 60_000 for i in range(3)]
    for piece in pieces:
        assert a.send(piece, 60_000, b.address)
    found, reads = b"", 0
    while len(found) < 180_000:
        assert is_readable(b)
        batch = b.receive(8)
        assert batch is not None
        assert batch[1:3] == (60_000, a.address)
        assert b.drained  # and nobody has to ask once more
        found += batch[0]
        reads += b.reads
    assert (found, reads) == (b"".join(pieces), 3)


def test_gathering_ends_where_the_buffer_does(make: Maker) -> None:
    a, b = make(), make()
    for _ in range(8):
        assert a.send(bytes(60_000), 60_000, b.address)
    sizes: list[int] = []
    while sum(sizes) < 480_000:
        assert is_readable(b)
        batch = b.receive(100)
        assert batch is not None
        sizes.append(len(batch[0]))
    assert max(sizes) <= 5 * 60_000


@pytest.mark.parametrize("odd", [b"short", bytes(40_001), bytes(60_000)])
def test_a_datagram_of_another_kind_is_held_for_the_next_call(make: Maker, odd: bytes) -> None:
    a, b, c = make(), make(), make()
    sent = [(bytes(40_000), a), (odd, a), (bytes(40_000), c), (bytes(40_000), c)]
    for data, sender in sent:
        assert sender.send(data, len(data), b.address)
    found: list[tuple[bytes, Address]] = []
    while len(found) < len(sent):
        assert b.holding or is_readable(b)
        batch = b.receive(8)
        assert batch is not None
        view, size, address, _ = batch
        found += [(bytes(view[i : i + size]), address) for i in range(0, len(view), size)]
    assert found == [(data, sender.address) for data, sender in sent]
    assert not b.holding


def test_the_buffer_is_used_again_and_a_copy_is_not_touched(make: Maker) -> None:
    a, b = make(), make()
    for word in (b"first", b"again"):
        assert a.send(word, 1200, b.address)
    assert is_readable(b)
    first = b.receive()
    assert first is not None
    view, copy = first[0], bytes(first[0])
    assert is_readable(b)
    assert b.receive() is not None
    assert (bytes(view), copy) == (b"again", b"first")


@pytest.mark.parametrize(("segment_size", "count"), [(100, 3 * MAX_SEGMENTS + 5), (1400, 64), (16_368, 9), (65_507, 2)])
def test_more_than_one_call_carries_is_sent_by_several(make: Maker, segment_size: int, count: int) -> None:
    a, b = make(), make()
    data = b"".join(bytes([i % 251]) * segment_size for i in range(count))
    assert a.send(data, segment_size, b.address)
    assert b"".join(datagram for datagram, _ in receive_datagrams(b, count)) == data
    assert a.losses == {}


def test_the_largest_datagram_passes_and_a_larger_one_is_a_counted_loss(make: Maker) -> None:
    a, b = make(), make()
    assert a.send(bytes(65_507), 65_507, b.address)
    assert a.send(bytes(65_508), 65_508, b.address)
    assert a.send(b"after", 1200, b.address)
    assert [len(datagram) for datagram, _ in receive_datagrams(b, 2)] == [65_507, 5]
    assert a.losses == {errno.EMSGSIZE: 1}


@pytest.mark.parametrize("segment_size", [0, -1])
def test_a_segment_size_of_nothing_is_the_callers_mistake(make: Maker, segment_size: int) -> None:
    a = make()
    with pytest.raises(ValueError, match="segment_size"):
        a.send(b"data", segment_size, a.address)


# What must not reach the protocol


def test_empty_datagrams_are_discarded(make: Maker) -> None:
    a, b = make(), make()
    for data in (b"", b"", b"real"):
        assert a.send(data, 1200, b.address)
    assert receive_datagrams(b, 1) == [(b"real", a.address)]
    assert b.discarded == 2


def test_a_flood_of_empty_datagrams_gives_way_to_the_caller(make: Maker) -> None:
    a, b = make(), make()
    for _ in range(100):
        assert a.send(b"", 1200, b.address)
    assert is_readable(b)
    assert b.receive() is None
    assert b.discarded == 64
    assert is_readable(b, 0)


@pytest.mark.parametrize(
    ("flags", "source"),
    [
        pytest.param(int(socket.MSG_TRUNC), ("127.0.0.1", 4433), id="cut short"),
        pytest.param(0, ("127.0.0.1", 0), id="port 0"),
    ],
)
def test_what_is_cut_short_or_cannot_be_answered_is_discarded(flags: int, source: Address) -> None:
    class OddSocket(FailingSocket):
        strange = True

        def recvmsg_into(self, *arguments: Any) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
            size, control, real_flags, address = super().recvmsg_into(*arguments)
            if self.strange:
                self.strange = False
                return size, control, real_flags | flags, source
            return size, control, real_flags, address

    with UdpSocket(sock=OddSocket()) as sock:
        for data in (b"strange", b"normal"):
            assert sock.send(data, 1200, sock.address)
        assert receive_datagrams(sock, 1) == [(b"normal", sock.address)]
        assert sock.discarded == 1


# Errors


def test_a_refused_destination_is_named_once_and_the_socket_goes_on(make: Maker) -> None:
    a, b = make(), make()
    nobody = refusing_address()
    assert a.send(b"anyone?", 1200, nobody)
    assert is_readable(a)
    assert a.receive() is None
    assert a.receive_error() == nobody
    assert a.receive_error() is None
    assert not is_readable(a, 0), "an error left in the queue would keep the event loop spinning"
    assert a.send(b"you then", 1200, b.address)
    assert receive_datagrams(b, 1) == [(b"you then", a.address)]


def test_anothers_refusal_costs_no_datagram(make: Maker) -> None:
    a, b = make(), make()
    nobody = refusing_address()
    for i in range(5):
        assert a.send(b"anyone?", 1200, nobody)
        assert a.send(bytes([i]) * 2400, 1200, b.address)
    assert len(receive_datagrams(b, 10)) == 10
    assert a.losses == {}


def test_a_waiting_refusal_hides_no_datagram(make: Maker) -> None:
    a, b = make(), make()
    assert a.send(b"anyone?", 1200, refusing_address())
    assert b.send(b"I am", 1200, a.address)
    assert receive_datagrams(a, 1) == [(b"I am", b.address)]


def test_our_own_oversized_datagram_is_nobodys_refusal(make: Maker) -> None:
    a, b = make(), make()
    assert a.send(bytes(65_508), 65_508, b.address)
    assert a.receive_error() is None
    assert not is_readable(a, 0)


def test_refusals_can_be_left_alone(make: Maker) -> None:
    a = make(report_errors=False)
    assert a.send(b"anyone?", 1200, refusing_address())
    assert not is_readable(a, 0)
    assert a.receive() is None
    assert a.receive_error() is None


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETRESET])
def test_receiving_survives_errors_of_earlier_sends(offload: bool, number: int) -> None:
    raw = FailingSocket()
    with UdpSocket(sock=raw, offload=offload) as sock:
        assert sock.send(b"data", 1200, sock.address)
        raw.receive_errors = [number, number]
        assert receive_datagrams(sock, 1) == [(b"data", sock.address)]


def test_an_endless_error_does_not_hang_receive(failing: tuple[FailingSocket, UdpSocket]) -> None:
    raw, sock = failing
    raw.receive_errors = [errno.ECONNRESET] * 1000
    assert sock.receive() is None


@pytest.mark.parametrize("number", sorted(n for n, verdict in VERDICTS.items() if verdict is Verdict.LOST))
def test_what_the_network_may_refuse_is_a_loss_not_an_exception(
    failing: tuple[FailingSocket, UdpSocket], number: int
) -> None:
    raw, sock = failing
    raw.send_errors = [number, number]
    assert sock.send(b"unlucky", 1200, sock.address)
    assert sock.losses == {number: 1}
    assert sock.send(b"lucky", 1200, sock.address)
    assert receive_datagrams(sock, 1) == [(b"lucky", sock.address)]


@pytest.mark.parametrize("number", sorted(n for n, verdict in VERDICTS.items() if verdict is Verdict.RETRY))
def test_an_error_that_repeats_is_this_datagrams_own(failing: tuple[FailingSocket, UdpSocket], number: int) -> None:
    raw, sock = failing
    raw.send_errors = [number] * 4
    assert sock.send(b"unlucky", 1200, sock.address)
    assert sock.losses == {number: 1}


@pytest.mark.parametrize("data", [b"one", bytes(5000)])
def test_our_own_mistakes_are_raised(make: Maker, data: bytes) -> None:
    a = make()
    address = a.address
    a.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        a.send(data, 1200, address)
    with pytest.raises(OSError, match="Bad file descriptor"):
        a.receive()
    assert a.fileno() == -1
    assert "closed" in repr(a)


def test_only_icmp_messages_about_the_port_are_refusals() -> None:
    def message(number: int, origin: int) -> list[tuple[int, int, bytes]]:
        return [(0, 11, struct.pack("=IBBBBII", number, origin, 3, 3, 0, 0, 0) + bytes(16))]

    assert is_refusal(message(errno.ECONNREFUSED, 2))
    assert is_refusal(message(errno.ECONNREFUSED, 3))
    assert not is_refusal(message(errno.ECONNREFUSED, 1)), "an error of our own host's is not the peer's word"
    assert not is_refusal(message(errno.EHOSTUNREACH, 2))
    assert not is_refusal([(0, 11, b"")])
    assert not is_refusal([])


# Falling back from segmentation


@pytest.mark.parametrize("number", sorted(SEGMENTATION_ERRNOS))
def test_a_batch_that_cannot_be_segmented_is_sent_one_by_one(
    failing: tuple[FailingSocket, UdpSocket], number: int
) -> None:
    raw, sock = failing
    raw.segmented_errors = {0: number}
    data = bytes(i % 251 for i in range(10 * 1200 + 3))
    for _ in range(2):
        assert sock.send(data, 1200, sock.address)
        assert b"".join(datagram for datagram, _ in receive_datagrams(sock, 11)) == data
    assert raw.sent_sizes == ([1200] * 10 + [3]) * 2
    assert sock.losses == {}


def test_a_broken_route_is_remembered(failing: tuple[FailingSocket, UdpSocket]) -> None:
    raw, sock = failing
    raw.segmented_errors = {0: errno.EIO}
    assert sock.send(bytes(2400), 1200, sock.address)
    tried = raw.segmented_calls
    assert sock.send(bytes(2400), 1200, sock.address)
    assert sock.send(bytes(400), 100, sock.address)
    assert raw.segmented_calls == tried


def test_a_segment_too_large_for_a_route_leaves_smaller_ones_segmented(
    failing: tuple[FailingSocket, UdpSocket],
) -> None:
    raw, sock = failing
    raw.segmented_errors = {1453: errno.EINVAL}
    assert sock.send(bytes(2 * 8900), 8900, sock.address)
    assert raw.sent_sizes == [8900, 8900]
    assert sock.send(bytes(10 * 1452), 1452, sock.address)
    assert raw.sent_sizes == [8900, 8900], "these left as one batch"
    assert len(receive_datagrams(sock, 12)) == 12


def test_an_unreachable_address_does_not_take_segmentation_from_the_others(make: Maker) -> None:
    a, b = make(), make()
    assert a.send(bytes(2400), 1200, ("127.0.0.1", 0)), "the system says EINVAL, as for a route that can't segment"
    assert a.losses == {errno.EINVAL: 2}
    assert a.send(bytes(2400), 1200, b.address)
    assert is_readable(b)
    batch = b.receive()
    assert batch is not None
    assert (len(batch[0]), batch[1]) == (2400, 1200)


# Back-pressure


def test_a_full_socket_says_so_and_a_new_try_sends(failing: tuple[FailingSocket, UdpSocket]) -> None:
    raw, sock = failing
    for data in (b"single", bytes(2400)):
        raw.send_errors = [errno.EAGAIN]
        assert not sock.send(data, 1200, sock.address)
        assert sock.send(data, 1200, sock.address)
    assert len(receive_datagrams(sock, 3)) == 3


def test_a_batch_cut_off_midway_goes_on_where_it_stopped() -> None:
    raw = FailingSocket()
    with UdpSocket(sock=raw, offload=False) as sock:
        data = bytes(i // 1200 for i in range(5 * 1200))
        raw.send_errors = [0, 0, 0, errno.EAGAIN]
        assert not sock.send(data, 1200, sock.address)
        assert sock.send(data, 1200, sock.address)
        datagrams = [datagram[0] for datagram, _ in receive_datagrams(sock, 5)]
    assert datagrams == [0, 1, 2, 3, 4]


def test_another_batch_after_a_cut_off_one_is_sent_from_its_start() -> None:
    raw = FailingSocket()
    with UdpSocket(sock=raw, offload=False) as sock:
        raw.send_errors = [0, errno.EAGAIN]
        assert not sock.send(b"a" * 2400, 1200, sock.address)
        assert sock.send(b"b" * 2400, 1200, sock.address)
        datagrams = [datagram[:1] for datagram, _ in receive_datagrams(sock, 3)]
    assert datagrams == [b"a", b"b", b"b"]


# Addresses


def has_ipv6() -> bool:
    try:
        UdpSocket("::1").close()
    except OSError:
        return False
    return True


def test_ipv6_peers_have_two_part_addresses(make: Maker) -> None:
    assert has_ipv6(), "these tests want IPv6 on loopback"
    a, b = make("::1"), make("::1")
    assert a.send(bytes(2400), 1200, b.address)
    assert receive_datagrams(b, 2) == [(bytes(1200), ("::1", a.address[1]))] * 2


def test_a_dual_stack_socket_shows_ipv4_peers_as_ipv4(make: Maker) -> None:
    dual, four, six = make("::"), make("127.0.0.1"), make("::1")
    port = dual.address[1]
    for peer, host in ((four, "127.0.0.1"), (six, "::1")):
        assert peer.send(b"ping", 1200, (host, port))
        assert receive_datagrams(dual, 1) == [(b"ping", peer.address)]
        assert dual.send(bytes(2400), 1200, peer.address)
        assert [source for _, source in receive_datagrams(peer, 2)] == [(host, port)] * 2


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_dual_stack_socket_names_refusals_of_both_families(make: Maker, host: str) -> None:
    dual = make("::")
    nobody = refusing_address(host)
    assert dual.send(b"anyone?", 1200, nobody)
    assert is_readable(dual)
    assert dual.receive() is None
    assert dual.receive_error() == nobody


def test_dual_stack_can_be_declined(make: Maker) -> None:
    six = make("::", dual_stack=False)
    four = make("0.0.0.0", six.address[1])
    assert four.address[1] == six.address[1]
    with pytest.raises(ConfigurationError, match="carries IPv6 only"):
        six.canonical(("127.0.0.1", 9))


def test_canonical_is_how_receive_spells_a_peer(make: Maker) -> None:
    four, dual = make(), make("::")
    for sock in (four, dual):
        assert sock.canonical(("127.0.0.1", 9)) == ("127.0.0.1", 9)
        assert sock.canonical(("::ffff:127.0.0.1", 9)) == ("127.0.0.1", 9)
    assert dual.canonical(("0:0:0::1", 9)) == ("::1", 9)
    assert dual.canonical(("::1", 9, 5, 0)) == ("::1", 9)
    assert dual.canonical(("fe80::1", 9, 0, 1)) == ("fe80::1", 9, 0, 1)
    assert dual.canonical(("fe80::1%1", 9)) == ("fe80::1", 9, 0, 1)


@pytest.mark.parametrize(
    "address", [("localhost", 9), ("", 9), ("127.0.0.1", 0), ("127.0.0.1", 65536), ("::1", 9), ("\udc80", 9)]
)
def test_canonical_turns_down_what_it_cannot_reach(make: Maker, address: Address) -> None:
    with pytest.raises(ConfigurationError, match="address"):
        make().canonical(address)


# Making and closing


@pytest.mark.parametrize("host", ["localhost", "", "300.1.1.1", "no such host"])
def test_names_are_not_resolved(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"bind_address is .* expected a numeric"):
        UdpSocket(host)


def test_a_taken_port_is_named(make: Maker) -> None:
    port = make().address[1]
    with pytest.raises(OSError, match=f"127.0.0.1 UDP port {port}: Address already in use") as caught:
        UdpSocket("127.0.0.1", port)
    assert caught.value.errno == errno.EADDRINUSE


def test_a_port_can_be_shared(make: Maker) -> None:
    first = make(reuse_port=True)
    assert make("127.0.0.1", first.address[1], reuse_port=True).address == first.address


def test_buffer_sizes_are_read_back(make: Maker) -> None:
    sock = make(recv_buffer_size=65536, send_buffer_size=32768)
    assert sock.receive_buffer == 2 * 65536
    assert sock.send_buffer == 2 * 32768


def test_a_smaller_buffer_than_asked_is_logged_once(
    make: Maker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffers, "_warned", set())
    with caplog.at_level(logging.WARNING, "stt.udp"):
        for _ in range(2):
            sock = make(recv_buffer_size=2**31 - 1, send_buffer_size=4096)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert f"got {sock.receive_buffer // 2}" in messages[0]
    assert "net.core.rmem_max" in messages[0]


@pytest.mark.parametrize("size", [0, -1, 2**31])
def test_a_buffer_size_out_of_range_names_its_range(size: int) -> None:
    with pytest.raises(ConfigurationError, match="socket buffer"), socket.socket(type=socket.SOCK_DGRAM) as raw:
        UdpSocket(sock=raw, recv_buffer_size=size)


def test_the_descriptor_is_not_inherited_and_never_blocks(make: Maker) -> None:
    sock = make()
    assert not os.get_inheritable(sock.fileno())
    assert not os.get_blocking(sock.fileno())


def test_leaving_the_block_closes_and_closing_twice_is_fine() -> None:
    with UdpSocket("127.0.0.1") as sock:
        assert f"port {sock.address[1]}" in repr(sock)
    sock.close()
    assert sock.fileno() == -1
