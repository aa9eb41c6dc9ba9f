"""What the UDP socket does about ECN marks and about datagrams that are too large.

Over the loopback where that is honest: an interface that carries 65,536 bytes refuses little, so refusals are made up
here, and met for real in tests/netns.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stt_backends.udp import UdpSocket
from stt_backends.udp_address import Address
from tests.backends.test_udp import FailingSocket, is_readable

SOL_IP, IP_TOS, IP_MTU_DISCOVER, IP_RECVERR = 0, 1, 10, 11
SOL_UDP, UDP_GRO = 17, 104
SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_TCLASS = 41, 23, 25, 67
PMTUDISC_PROBE = 3

Control = list[tuple[int, int, bytes]]
Maker = Callable[..., UdpSocket]


@pytest.fixture
def make() -> Iterator[Maker]:
    made: list[UdpSocket] = []

    def make_one(bind_address: str = "0.0.0.0", **settings: Any) -> UdpSocket:
        made.append(UdpSocket(bind_address, **settings))
        return made[-1]

    yield make_one
    for sock in made:
        sock.close()


def next_mark(sock: UdpSocket) -> int:
    """The codepoint of the next that comes."""
    assert is_readable(sock)
    batch = sock.receive()
    assert batch is not None
    return batch[3]


# Marks


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_mark_arrives_and_changes_with_the_next_send(make: Maker, host: str, offload: bool) -> None:
    everywhere = "::" if ":" in host else "0.0.0.0"
    sender, receiver = make(everywhere, offload=offload), make(everywhere, offload=offload)
    to: Address = (host, receiver.address[1])
    for ecn in (2, 2, 1, 3, 0):
        assert sender.send(b"marked", 1200, to, ecn)
        assert next_mark(receiver) == ecn
    assert sender.send(b"by default", 1200, to)
    assert next_mark(receiver) == 0


def test_a_dual_stack_socket_marks_and_reads_both_families(make: Maker) -> None:
    dual = make("::")
    for other in (make("0.0.0.0"), make("::", dual_stack=False)):
        host = "::1" if ":" in other.address[0] else "127.0.0.1"
        assert dual.send(b"forth", 1200, (host, other.address[1]), 2)
        assert next_mark(other) == 2
        assert other.send(b"back", 1200, (host, dual.address[1]), 1)
        assert next_mark(dual) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1"])
def test_a_socket_on_the_loopback_does_not_look_for_marks(make: Maker, host: str) -> None:
    sender, receiver = make("::"), make(host)
    assert sender.send(b"marked", 1200, receiver.address, 2)
    assert next_mark(receiver) == 0


class CountingSocket(FailingSocket):
    """Notes what is set, and refuses what the test names, by level and option."""

    def __init__(self, *refused: tuple[int, int]) -> None:
        self.refused = refused
        self.set: list[tuple[int, int]] = []
        super().__init__()

    def setsockopt(self, level: int, option: int, value: Any, *rest: Any) -> None:
        self.set.append((level, option))
        if (level, option) in self.refused:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        super().setsockopt(level, option, value, *rest)


def test_a_mark_is_set_when_it_changes_and_not_per_datagram() -> None:
    raw = CountingSocket()
    with UdpSocket(sock=raw) as sock:
        for ecn in (0, 2, 2, 2, 0):
            assert sock.send(b"data", 1200, sock.address, ecn)
        assert raw.set.count((SOL_IP, IP_TOS)) == 2


def test_where_marks_cannot_be_set_packets_go_without() -> None:
    raw = CountingSocket((SOL_IP, IP_TOS))
    with UdpSocket(sock=raw) as sock:
        assert sock.send(b"data", 1200, sock.address, 2)
        assert next_mark(sock) == 0
        assert sock.losses == {}


class ToldSocket(FailingSocket):
    """What arrives is accompanied by the control messages that the test makes up."""

    def __init__(self, control: Control) -> None:
        super().__init__()
        self.control = control

    def recvmsg_into(self, *arguments: Any) -> tuple[int, Control, int, Any]:
        size, _, flags, address = super().recvmsg_into(*arguments)
        return size, self.control, flags, address


def gro(size: int) -> tuple[int, int, bytes]:
    return SOL_UDP, UDP_GRO, struct.pack("=i", size)


def tclass(value: int) -> tuple[int, int, bytes]:
    return SOL_IPV6, IPV6_TCLASS, struct.pack("=i", value)


def tos(value: int) -> tuple[int, int, bytes]:
    return SOL_IP, IP_TOS, bytes([value])


@pytest.mark.parametrize(
    ("control", "segment_size", "ecn"),
    [
        pytest.param([], 3000, 0, id="nothing"),
        pytest.param([gro(1200)], 1200, 0, id="size"),
        pytest.param([gro(0)], 3000, 0, id="a size that says nothing"),
        pytest.param([tos(2)], 3000, 2, id="IPv4"),
        pytest.param([tos(0xB8 | 3)], 3000, 3, id="IPv4 with a DSCP"),
        pytest.param([tclass(1)], 3000, 1, id="IPv6"),
        pytest.param([tclass(0xFC | 2)], 3000, 2, id="IPv6 with a DSCP"),
        pytest.param([tos(2), gro(1200)], 1200, 2, id="mark and size"),
        pytest.param([gro(1200), tclass(2)], 1200, 2, id="size and mark"),
        pytest.param([(SOL_UDP, 99, b"\3" * 4), (SOL_IP, 8, b"\3" * 12)], 3000, 0, id="others"),
    ],
)
def test_what_the_system_tells_of_a_datagram(control: Control, segment_size: int, ecn: int) -> None:
    with UdpSocket(sock=ToldSocket(control)) as sock:
        assert sock.send(bytes(3000), 3000, sock.address)
        assert is_readable(sock)
        batch = sock.receive()
        assert batch is not None
        assert (len(batch[0]), *batch[1:]) == (3000, segment_size, sock.address, ecn)


# Sizes


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_datagrams_are_never_fragmented(host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.bind((host, 0))
        assert UdpSocket(sock=raw).dont_fragment
        assert raw.getsockopt(SOL_IP, IP_MTU_DISCOVER) == PMTUDISC_PROBE


def test_a_dual_stack_socket_fragments_neither_family() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        raw.bind(("::", 0))
        assert UdpSocket(sock=raw).dont_fragment
        assert raw.getsockopt(SOL_IP, IP_MTU_DISCOVER) == PMTUDISC_PROBE
        assert raw.getsockopt(SOL_IPV6, IPV6_MTU_DISCOVER) == PMTUDISC_PROBE


def test_a_system_that_fragments_is_told_of() -> None:
    with UdpSocket(sock=CountingSocket((SOL_IP, IP_MTU_DISCOVER))) as sock:
        assert not sock.dont_fragment


@pytest.mark.parametrize("offload", [True, False])
def test_a_size_that_is_refused_is_told_with_its_destination(make: Maker, offload: bool) -> None:
    sender, receiver = make(offload=offload), make("127.0.0.1")
    assert sender.send(bytes(65_508), 65_508, receiver.address)
    assert sender.too_big == [(receiver.address, 65_508)]
    assert sender.losses == {errno.EMSGSIZE: 1}


def test_it_is_told_under_the_peers_canonical_address(make: Maker) -> None:
    dual, four = make("::"), make("127.0.0.1")
    assert dual.send(bytes(65_508), 65_508, four.address)
    assert dual.too_big == [(four.address, 65_508)]


class ShortSocket(FailingSocket):
    """Refuses datagrams of more than ``largest`` bytes, segmented or not, as an interface does."""

    largest = 1472

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        ((_, _, value),) = ancdata
        self._refuse(int.from_bytes(value, sys.byteorder))
        return super().sendmsg(buffers, ancdata, flags, address)

    def sendto(self, data: Any, *rest: Any) -> int:
        self._refuse(len(data))
        return super().sendto(data, *rest)

    def _refuse(self, size: int) -> None:
        if size > self.largest:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))


def test_each_size_of_a_batch_is_told_of_once() -> None:
    with UdpSocket(sock=ShortSocket()) as sock:
        assert sock.send(bytes(5 * 3000 + 2000), 3000, sock.address)
        assert sock.too_big == [(sock.address, 3000), (sock.address, 2000)]
        assert sock.losses == {errno.EMSGSIZE: 6}
        assert sock.send(bytes(3000), 3000, sock.address)
        assert len(sock.too_big) == 2


def test_the_end_of_a_batch_that_fits_leaves() -> None:
    raw = ShortSocket()
    with UdpSocket(sock=raw) as sock:
        assert sock.send(bytes(2 * 3000 + 1000), 3000, sock.address)
        assert sock.too_big == [(sock.address, 3000)]
        assert raw.sent_sizes == [1000]


def test_no_more_than_sixteen_are_kept() -> None:
    with UdpSocket(sock=ShortSocket()) as sock:
        for size in range(2000, 2100):
            assert sock.send(bytes(size), size, sock.address)
        assert sock.too_big == [(sock.address, size) for size in range(2000, 2016)]
        assert sock.losses == {errno.EMSGSIZE: 100}


@pytest.mark.parametrize("size", [1200, 6000])
def test_the_news_of_an_earlier_datagram_is_no_refusal_of_this_one(size: int) -> None:
    """With IP_RECVERR, an ICMP "fragmentation needed" fails the next call, whatever that sends."""
    raw = FailingSocket()
    with UdpSocket(sock=raw) as sock:
        raw.send_errors = [errno.EMSGSIZE]
        assert sock.send(bytes(size), 1200, sock.address)
        assert sock.too_big == []
        assert sock.losses == {}
        assert sock.send(bytes(2 * 1452), 1452, sock.address)
        assert 1452 not in raw.sent_sizes, "batches leave segmented still"


class FloodedSocket(FailingSocket):
    """Whenever this may happen, an ICMP "fragmentation needed" comes in before a call."""

    def sendmsg(self, *arguments: Any) -> int:
        self._flood()
        return super().sendmsg(*arguments)

    def sendto(self, *arguments: Any) -> int:
        self._flood()
        return super().sendto(*arguments)

    def _flood(self) -> None:
        if self.getsockopt(SOL_IP, IP_RECVERR):
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))


@pytest.mark.parametrize("size", [1200, 6000])
def test_a_flood_of_icmp_messages_costs_neither_datagrams_nor_segmentation(size: int) -> None:
    raw = FloodedSocket()
    with UdpSocket(sock=raw) as sock:
        for _ in range(3):
            assert sock.send(bytes(size), 1200, sock.address)
        assert sock.losses == {}
        assert sock.too_big == []
        assert raw.sent_sizes == ([1200] * 3 if size == 1200 else []), "batches leave segmented still"
        assert raw.getsockopt(SOL_IP, IP_RECVERR) == 1, "refusals are heard again"


def test_a_refusal_that_waits_is_not_forgotten_when_others_are() -> None:
    with UdpSocket("127.0.0.1") as gone:
        nobody = gone.address
    raw = FloodedSocket()
    with UdpSocket(sock=raw) as sock:
        socket.socket.sendto(raw, b"anyone?", nobody)
        assert is_readable(sock)
        assert sock.send(b"myself", 1200, sock.address)
        assert sock.receive_error() == nobody
        assert sock.receive_error() is None


def test_a_dual_stack_socket_is_deaf_in_both_families_and_hears_again() -> None:
    class FloodedDualSocket(socket.socket):
        def sendto(self, *arguments: Any) -> int:
            if self.getsockopt(SOL_IP, IP_RECVERR) or self.getsockopt(SOL_IPV6, IPV6_RECVERR):
                raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
            return super().sendto(*arguments)

    raw = FloodedDualSocket(socket.AF_INET6, socket.SOCK_DGRAM)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    raw.bind(("::", 0))
    with UdpSocket(sock=raw) as sock:
        for host in ("127.0.0.1", "::1"):
            assert sock.send(b"myself", 1200, (host, sock.address[1]))
        assert sock.losses == {}
        assert raw.getsockopt(SOL_IP, IP_RECVERR) == raw.getsockopt(SOL_IPV6, IPV6_RECVERR) == 1
