"""Protection over the real AEADs: the packet format computed by hand, key updates, and what a batch costs."""

from __future__ import annotations

import hmac
import sys
from types import FrameType

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from stt_backends.pyca import PycaCrypto
from stt_core.keys import expand
from stt_core.types import Suite
from tests.core.protection_pair import MASTER, Pair, flip_phase

AEADS: dict[Suite, type[AESGCM | ChaCha20Poly1305]] = {
    Suite.AES_256_GCM: AESGCM,
    Suite.CHACHA20_POLY1305: ChaCha20Poly1305,
}


def by_hand(suite: Suite, sender: str, cid: bytes, number: int, updates: int, plain: bytes) -> bytes:
    """docs/protocol.md, "Protected packet", written out once more."""
    secret = expand(MASTER, f"traffic {sender}")
    for _ in range(updates):
        secret = expand(secret, "update")
    mask = hmac.digest(expand(MASTER, "pn mask"), sender.encode() + cid, "sha256")
    first = 0x40 | ((updates & 1) ^ (mask[4] & 1)) << 2
    wire = (number + int.from_bytes(mask[:4], "big")) % 2**32
    head = bytes((first,)) + cid + wire.to_bytes(4, "big")
    iv = int.from_bytes(expand(secret, "iv", length=12), "big")
    return head + AEADS[suite](expand(secret, "key")).encrypt((iv ^ number).to_bytes(12, "big"), plain, head)


@pytest.mark.parametrize("suite", list(Suite))
def test_packets_are_those_of_the_specification(suite: Suite) -> None:
    ends = Pair(PycaCrypto(), suite)
    plains = [b"a" * 1171, b"b" * 1171, b"c"]
    assert ends.initiator.seal(*plains) == [by_hand(suite, "i", b"cid of r", n, 0, p) for n, p in enumerate(plains)]
    assert ends.responder.seal(b"x") == [by_hand(suite, "r", b"cid of i", 0, 0, b"x")]
    ends.exchange()
    ends.responder.protection.update_keys(0.0)
    assert ends.responder.seal(b"y") == [by_hand(suite, "r", b"cid of i", 2, 1, b"y")]


@pytest.mark.parametrize("suite", list(Suite))
def test_forgeries_in_a_batch_cost_only_themselves(suite: Suite) -> None:
    ends = Pair(PycaCrypto(), suite)
    plains = [bytes([n]) * 1171 for n in range(54)]
    datagrams = ends.initiator.seal(*plains)
    for n in (0, 7, 8, 53):
        datagrams[n] = datagrams[n][:600] + b"\0" * 4 + datagrams[n][604:]
    genuine = [(n, plain) for n, plain in enumerate(plains) if n not in (0, 7, 8, 53)]
    assert ends.responder.open(datagrams) == genuine
    assert ends.responder.protection.failed == 4


@pytest.mark.parametrize("suite", list(Suite))
def test_keys_update_and_old_packets_still_arrive(suite: Suite) -> None:
    ends = Pair(PycaCrypto(), suite)
    ends.exchange()
    late = ends.initiator.seal(b"late")
    ends.initiator.protection.update_keys(0.0)
    new = ends.initiator.seal(b"new", b"newer")
    assert ends.responder.open([flip_phase(new[0]), *new, *late]) == [(2, b"new"), (3, b"newer"), (1, b"late")]
    ends.exchange()
    assert ends.initiator.protection.phase == ends.responder.protection.phase == 1


def calls(run: object, *arguments: object) -> int:
    """Function calls made by ``run``, Python's and the library's; those inside a ``map`` don't show."""
    count = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    assert callable(run)
    sys.setprofile(profile)
    try:
        run(*arguments)
    finally:
        sys.setprofile(None)
    return count


def test_a_batch_costs_one_call_a_column_and_packet() -> None:
    """Sealing turns two numbers a packet into bytes, opening one; everything else is per batch."""
    ends = Pair(PycaCrypto())
    plains = [bytes(1171)] * 64
    sender, receiver = ends.initiator, ends.responder
    assert calls(sender.protection.seal, plains, sender.sending, 0.0) <= 2 * 64 + 12
    datagrams = sender.seal(*plains)
    columns = (
        [int.from_bytes(datagram[9:13], "big") for datagram in datagrams],
        [datagram[:13] for datagram in datagrams],
        [datagram[13:] for datagram in datagrams],
    )
    assert calls(receiver.protection.open, datagrams[0][0], *columns, receiver.receiving, 0.0) <= 64 + 12
