"""Two ends of one session's packet protection, with the datagrams between them in the test's hands."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from stt_core.crypto import Crypto
from stt_core.keys import SessionSecrets, cid_mask
from stt_core.protection import KeyLimits, Protection
from stt_core.types import Role, Suite
from tests.core.attributes import names_of

OVERHEAD = 29
MASTER = bytes(range(32))


class End:
    """One side: seals to the peer's cid, opens what is addressed to its own."""

    def __init__(self, crypto: Crypto, suite: Suite, role: Role, limits: KeyLimits | None, master: bytes) -> None:
        secrets = SessionSecrets(master)
        cids = {Role.INITIATOR: b"cid of i", Role.RESPONDER: b"cid of r"}
        self.protection = Protection(crypto, suite, secrets, role, limits)
        self.sending = cid_mask(secrets.pn_mask_key, role, cids[role.other])
        self.receiving = cid_mask(secrets.pn_mask_key, role.other, cids[role])

    def seal(self, *plains: bytes, now: float = 0.0) -> list[bytes]:
        """Each plaintext's datagram."""
        data = self.protection.seal(plains, self.sending, now)
        datagrams = []
        for plain in plains:
            size = len(plain) + OVERHEAD
            datagrams.append(data[:size])
            data = data[size:]
        assert not data
        return datagrams

    def open(self, datagrams: Sequence[bytes], now: float = 0.0) -> list[tuple[int, bytes]]:
        """(packet number, plaintext) of the genuine ones, through the columns, grouped as an endpoint does."""
        opened: list[tuple[int, bytes]] = []
        for first_byte, group in groupby(datagrams, lambda datagram: datagram[0]):
            batch = list(group)
            numbers, plains = self.protection.open(
                first_byte,
                [int.from_bytes(datagram[9:13], "big") for datagram in batch],
                [datagram[:13] for datagram in batch],
                [datagram[13:] for datagram in batch],
                self.receiving,
                now,
            )
            opened += zip(numbers, plains, strict=True)
        return opened

    def open_each(self, datagrams: Sequence[bytes], now: float = 0.0) -> list[tuple[int, bytes]]:
        """As :meth:`open`, one datagram at a time."""
        opened = [self.protection.open_one(datagram, self.receiving, now) for datagram in datagrams]
        return [packet for packet in opened if packet is not None]

    def snapshot(self) -> dict[str, object]:
        """All that the protection remembers, but for the forgeries it counts."""
        left_out = {"failed", "_next"}
        return {name: getattr(self.protection, name) for name in names_of(self.protection) if name not in left_out}


class Pair:
    """An initiator and a responder with the same keys."""

    def __init__(
        self,
        crypto: Crypto,
        suite: Suite = Suite.AES_256_GCM,
        limits: KeyLimits | None = None,
        master: bytes = MASTER,
    ) -> None:
        self.initiator = End(crypto, suite, Role.INITIATOR, limits, master)
        self.responder = End(crypto, suite, Role.RESPONDER, limits, master)

    def exchange(self, now: float = 0.0) -> None:
        """One packet each way, each acknowledged: what both sides need before they may update keys."""
        for sender, receiver in ((self.initiator, self.responder), (self.responder, self.initiator)):
            assert len(receiver.open(sender.seal(b"hello", now=now), now)) == 1
        for end, other in ((self.initiator, self.responder), (self.responder, self.initiator)):
            end.protection.on_acked(other.protection.largest_opened, now)


def flip_phase(datagram: bytes) -> bytes:
    """The datagram with its key phase bit turned over."""
    return bytes((datagram[0] ^ 0x04,)) + datagram[1:]
