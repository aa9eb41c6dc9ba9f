"""Threat: somebody on the path sends whatever it likes into a live session.

Defence: the AEAD. 10^5 datagrams, from plain noise to genuine packets with one byte changed, change nothing.
"""

from __future__ import annotations

import random

from stt_backends.pyca import PycaCrypto
from tests.core.protection_pair import Pair

COUNT = 100_000


def test_random_datagrams_change_nothing() -> None:
    rng = random.Random(20_240_913)
    ends = Pair(PycaCrypto())
    ends.exchange()
    genuine = ends.initiator.seal(*(rng.randbytes(rng.randrange(1, 60)) for _ in range(64)))
    head = ends.initiator.sending.cid

    def noise() -> bytes:
        return bytes((0x40 | rng.randrange(64),)) + head + rng.randbytes(rng.randrange(80))

    def plausible() -> bytes:
        return bytes((0x40 | 4 * rng.randrange(2),)) + head + rng.choice(genuine)[9:13] + rng.randbytes(40)

    def edited() -> bytes:
        datagram = bytearray(rng.choice(genuine))
        at = rng.choice((0, *range(9, len(datagram))))  # the cid is intact, or the packet would not get this far
        datagram[at] ^= rng.randrange(1, 256)
        return bytes(datagram)

    def spliced() -> bytes:
        one, other = rng.sample(genuine, 2)
        return one[:13] + other[13:]

    def cut() -> bytes:
        datagram = rng.choice(genuine)
        return datagram[: rng.randrange(9, len(datagram))]

    forged = [rng.choice((noise, plausible, edited, spliced, cut))() for _ in range(COUNT)]
    before = ends.responder.snapshot()
    half = COUNT // 2
    assert ends.responder.open_each(forged[:half]) == []
    assert ends.responder.open([datagram for datagram in forged[half:] if len(datagram) >= 13]) == []
    assert ends.responder.snapshot() == before
    assert ends.responder.protection.failed > 0.9 * COUNT
    assert [number for number, _ in ends.responder.open(genuine)] == list(range(1, 65))
    ends.exchange()
