"""What the demonstration puts in the way of UDP."""

from __future__ import annotations

import select

from stt_anyio.cli.wire import Wire
from stt_backends.udp import UdpSocket
from stt_backends.udp_address import Address

WAIT = 10.0
"""Seconds for what comes at once."""
SILENCE = 0.05
"""Seconds for what never comes."""


def received(sock: UdpSocket, wait: float = WAIT) -> tuple[bytes, Address] | None:
    if not select.select([sock], [], [], wait)[0]:
        return None
    got = sock.receive()
    return None if got is None else (bytes(got[0]), got[2])


def test_it_carries_both_ways_until_enough_has_passed_and_nothing_after_that() -> None:
    with UdpSocket("127.0.0.1") as near, UdpSocket("127.0.0.1") as far, Wire(far.address, limit=2000) as wire:
        assert near.send(bytes(1000), 1000, wire.address)
        there = received(far)
        assert there is not None
        assert there[0] == bytes(1000)
        assert far.send(b"back", 4, there[1])
        assert received(near) == (b"back", wire.address)
        assert (wire.carried, wire.cut_at) == (1000, None)
        assert near.send(bytes(1001), 1001, wire.address)
        assert received(far, SILENCE) is None
        assert wire.cut_at is not None
        assert far.send(b"back", 4, there[1])
        assert near.send(b"there", 5, wire.address)
        assert received(near, SILENCE) is None
        assert received(far, SILENCE) is None
        assert wire.carried == 1000


def test_it_ends_when_nothing_was_ever_carried() -> None:
    with UdpSocket("127.0.0.1") as far:
        with Wire(far.address, limit=0) as wire:
            pass
        assert not wire._thread.is_alive()
