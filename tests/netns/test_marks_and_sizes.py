"""The socket alone between two hosts: ECN codepoints, and datagrams that are too large."""

from __future__ import annotations

import errno
import select

import pytest

from stt_backends.udp import UdpSocket
from stt_backends.udp_address import Address
from tests.netns.network import A4, A6, B4, B6, Network

WAIT = 10.0
CODEPOINTS = (2, 1, 3, 0, 2)

FAMILIES = [
    pytest.param(A4, B4, B4, id="ipv4"),
    pytest.param(A6, B6, B6, id="ipv6"),
    pytest.param("::", "::", B4, id="ipv4-over-dual-stack"),
    pytest.param("::", "::", B6, id="ipv6-over-dual-stack"),
    pytest.param("0.0.0.0", "::", B4, id="ipv4-to-dual-stack"),
    pytest.param("::", "0.0.0.0", B4, id="dual-stack-to-ipv4"),
]


def receive(sock: UdpSocket, count: int) -> list[tuple[bytes, int]]:
    """Exactly ``count`` datagrams with the codepoints they came with."""
    found: list[tuple[bytes, int]] = []
    while len(found) < count:
        assert select.select([sock], [], [], WAIT)[0], f"{len(found)} of {count} datagrams came"
        while (batch := sock.receive()) is not None:
            data, size, _, ecn = batch
            found += [(bytes(data[at : at + size]), ecn) for at in range(0, len(data), size)]
    assert len(found) == count
    return found


@pytest.mark.parametrize("offload", [True, False], ids=["segmented", "single"])
@pytest.mark.parametrize(("ours", "theirs", "target"), FAMILIES)
def test_every_codepoint_arrives_as_it_was_sent(
    hosts: Network, ours: str, theirs: str, target: str, offload: bool
) -> None:
    sender = hosts.socket("a", ours, offload=offload)
    receiver = hosts.socket("b", theirs, offload=offload)
    to: Address = (target, receiver.address[1])
    for ecn in CODEPOINTS:
        assert sender.send(bytes([ecn]), 1200, to, ecn)
        assert receive(receiver, 1) == [(bytes([ecn]), ecn)]
        assert sender.send(bytes([ecn]) * (20 * 1200 + 7), 1200, to, ecn)
        assert receive(receiver, 21) == [(bytes([ecn]) * 1200, ecn)] * 20 + [(bytes([ecn]) * 7, ecn)]
    assert sender.losses == {}
    assert receiver.discarded == 0


def test_batches_of_different_marks_are_not_merged(hosts: Network) -> None:
    sender, receiver = hosts.socket("a", A4), hosts.socket("b", B4)
    for ecn in (2, 3, 0, 2):
        assert sender.send(bytes([ecn]) * 6000, 1200, receiver.address, ecn)
    assert receive(receiver, 20) == [(bytes([ecn]) * 1200, ecn) for ecn in (2, 3, 0, 2) for _ in range(5)]


def test_a_whole_marked_batch_comes_in_one_call(hosts: Network) -> None:
    sender, receiver = hosts.socket("a", A4), hosts.socket("b", B4)
    assert sender.send(bytes(20 * 1200), 1200, receiver.address, 2)
    assert select.select([receiver], [], [], WAIT)[0]
    batch = receiver.receive()
    assert batch is not None
    assert (len(batch[0]), *batch[1:]) == (20 * 1200, 1200, sender.address, 2)


@pytest.mark.parametrize("offload", [True, False], ids=["segmented", "single"])
@pytest.mark.parametrize(
    ("ours", "target", "fits"),
    [
        pytest.param(A4, B4, 1472, id="ipv4"),
        pytest.param(A6, B6, 1452, id="ipv6"),
        pytest.param("::", B4, 1472, id="ipv4-over-dual-stack"),
    ],
)
def test_a_datagram_larger_than_the_link_is_refused_and_told(
    hosts: Network, ours: str, target: str, fits: int, offload: bool
) -> None:
    sender = hosts.socket("a", ours, offload=offload)
    receiver = hosts.socket("b", target)
    to: Address = (target, receiver.address[1])
    assert sender.dont_fragment
    assert sender.send(bytes(fits), fits, to)
    assert sender.send(bytes(fits + 1), fits + 1, to)
    assert sender.too_big == [(to, fits + 1)]
    assert sender.send(bytes(3000), 3000, to)
    assert sender.too_big == [(to, fits + 1), (to, 3000)]
    assert sender.losses == {errno.EMSGSIZE: 2}
    # A batch of such is refused as a whole, and each size told of once.
    assert sender.send(bytes(10 * 3000), 3000, to)
    assert sender.too_big == [(to, fits + 1), (to, 3000)]
    assert sender.losses == {errno.EMSGSIZE: 12}
    assert sender.send(b"x" * 10 * fits, fits, to)
    assert [len(data) for data, _ in receive(receiver, 11)] == [fits] * 11
    assert sender.receive_error() is None
    assert not select.select([sender], [], [], 0)[0], "an error left in the queue would keep the event loop spinning"


def test_batches_are_segmented_still_after_one_was_too_large(hosts: Network) -> None:
    sender, receiver = hosts.socket("a", A4), hosts.socket("b", B4)
    assert sender.send(bytes(10 * 3000), 3000, receiver.address)
    assert sender.send(bytes(20 * 1452), 1452, receiver.address)
    assert select.select([receiver], [], [], WAIT)[0]
    batch = receiver.receive()
    assert batch is not None
    assert (len(batch[0]), batch[1]) == (20 * 1452, 1452)
