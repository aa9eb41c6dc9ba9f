"""Connection ids: made so that they show their age to their maker, and kept in stock on both sides.

Rule: an endpoint must not hand out the reset token of a connection id that may yet become a session. A responder
keeps nothing before an AUTH_PROOF, so it can't look its young ids up: they carry a mark of the time instead. Whoever
lacks the key sees eight random bytes.

A path that was chosen gets an id that no other path ever had, in both directions, so that nobody who sees both can tell
that they carry one session (RFC 9000 section 9.5). For that each side keeps some with the other.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple, Protocol

from stt_core.errors import ErrorCode, Violation
from stt_core.frames import NewCid
from stt_core.keys import mac
from stt_core.types import Entropy, SessionKey

EPOCH: Final = 30.0
"""Seconds an id is young at least; a handshake's cookie and its pending session live 20 together."""
RANDOM: Final = 6
MARK: Final = 2
STOCK: Final = 4
"""Ids that each side keeps with the other, those in use among them."""
MOST_APART: Final = 1024
"""How far apart the sequence numbers of a peer's ids may be."""


class CidMint:
    """Makes 8-byte connection ids and tells young ones; one id in 2^15 is taken for young wrongly, and harmlessly."""

    __slots__ = ("_began", "_current", "_entropy", "_previous")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._current = entropy(16)
        self._previous = b""
        self._began: float | None = None

    def mint(self, now: float) -> bytes:
        """A fresh id."""
        self._turn(now)
        noise = self._entropy(RANDOM)
        return noise + _mark(self._current, noise)

    def is_young(self, cid: bytes, now: float) -> bool:
        """Whether ``cid`` was made here less than one to two epochs ago."""
        self._turn(now)
        noise, mark = cid[:RANDOM], cid[RANDOM:]
        keys = [key for key in (self._current, self._previous) if key]
        return any(hmac.compare_digest(mark, _mark(key, noise)) for key in keys)

    def _turn(self, now: float) -> None:
        if self._began is None:
            self._began = now
        elif now - self._began >= EPOCH:
            self._previous = self._current if now - self._began < 2 * EPOCH else b""
            self._current = self._entropy(16)
            self._began = now


def _mark(key: bytes, noise: bytes) -> bytes:
    return mac(key, noise)[:MARK]


class CidRegistry(Protocol):
    """Where an endpoint keeps which id is whose."""

    def issue(self, key: SessionKey, now: float) -> tuple[bytes, bytes]:
        """A fresh id (8 bytes) for packets to that session, and its reset token (16 bytes)."""
        ...

    def withdraw(self, cid: bytes) -> None:
        """Packets to this id are nobody's from here on."""
        ...

    def expect_reset(self, token: bytes, key: SessionKey) -> None:
        """A packet that ends with ``token`` says that the peer has lost that session."""
        ...

    def forget_reset(self, token: bytes) -> None:
        """Such a packet says nothing any more."""
        ...


class PeerCid(NamedTuple):
    """An id that packets can be sent to. ``token`` is 16 bytes, or empty where the peer sends no resets for it."""

    sequence: int
    cid: bytes
    token: bytes

    def __repr__(self) -> str:
        return f"PeerCid({self.sequence}, {self.cid.hex()})"


_STOCKED: Final = Struct(">I8s16s")


class PeerCids:
    """The ids that the peer gave us: those in use, and those in stock (RFC 9000 section 5.1)."""

    __slots__ = ("_ahead", "_floor", "_stock", "retire_before", "used")

    def __init__(self, cid: bytes, token: bytes) -> None:
        self.used = [PeerCid(0, cid, token)]
        """Those that packets are sent to."""
        self._stock = b""  # packed, as most sessions never use them
        self._floor = 1
        """The least sequence number not seen yet."""
        self._ahead: tuple[int, ...] = ()
        """Those seen above it: a few, as the peer can't be further ahead than its stock with us."""
        self.retire_before = 0
        """Those below are not to be used any more."""

    @property
    def spare(self) -> int:
        """How many are in stock."""
        return len(self._stock) // _STOCKED.size

    def _stocked(self) -> list[PeerCid]:
        return [PeerCid(*fields) for fields in _STOCKED.iter_unpack(self._stock)]

    def receive(self, frame: NewCid) -> list[PeerCid]:
        """One more; returns those in stock that are to be retired unused.

        Those in use below :attr:`retire_before` are for the caller to replace and :meth:`release`.

        :raises Violation: CID_LIMIT above :data:`STOCK`, PROTOCOL_VIOLATION on a contradiction.
        """
        if frame.retire_before > frame.sequence:
            raise Violation(ErrorCode.PROTOCOL_VIOLATION, "a NEW_CID that retires itself")
        given = PeerCid(frame.sequence, frame.cid, frame.reset_token)
        stock = self._stocked()
        same = (known for known in (*self.used, *stock) if known.sequence == given.sequence or known.cid == given.cid)
        if any(known != given for known in same):
            raise Violation(ErrorCode.PROTOCOL_VIOLATION, "a NEW_CID that contradicts an earlier one")
        if not self._note(given.sequence):
            return []
        self.retire_before = max(self.retire_before, frame.retire_before)
        stock.append(given)
        kept = [cid for cid in stock if cid.sequence >= self.retire_before]
        if len(kept) + sum(cid.sequence >= self.retire_before for cid in self.used) > STOCK:
            raise Violation(ErrorCode.CID_LIMIT, f"more than {STOCK} connection ids")
        self._stock = b"".join(_STOCKED.pack(*cid) for cid in kept)
        return [cid for cid in stock if cid.sequence < self.retire_before]

    def _note(self, sequence: int) -> bool:
        """Whether this number is new: a frame that was sent twice must not bring back what was retired."""
        if sequence < self._floor or sequence in self._ahead:
            return False
        if sequence >= self._floor + 2 * STOCK:
            raise Violation(ErrorCode.CID_LIMIT, "connection ids far ahead of those that arrived")
        self._ahead = (*self._ahead, sequence)
        while self._floor in self._ahead:
            self._ahead = tuple(number for number in self._ahead if number != self._floor)
            self._floor += 1
        return True

    def take(self) -> PeerCid | None:
        """One that was never used, to be used from now on; None where none is in stock."""
        if not self._stock:
            return None
        taken = PeerCid(*_STOCKED.unpack_from(self._stock))
        self._stock = self._stock[_STOCKED.size :]
        self.used.append(taken)
        return taken

    def release(self, cid: PeerCid) -> None:
        """That one will not be used again: the peer is to be told so, by RETIRE_CID."""
        if cid in self.used:
            self.used.remove(cid)


class LocalCids:
    """The ids that we gave the peer. Iterating gives all that packets may still come to."""

    __slots__ = ("_first", "_issued", "_late")

    def __init__(self, cid: bytes) -> None:
        self._first = 0
        """The sequence number of the first in the list."""
        self._issued: list[bytes | None] = [cid]
        """None where the peer gave one back."""
        self._late: tuple[bytes, ...] = ()
        """Retired, but packets to them may be on their way; oldest first."""

    def __iter__(self) -> Iterator[bytes]:
        yield from (cid for cid in self._issued if cid is not None)
        yield from self._late

    @property
    def missing(self) -> int:
        """How many more the peer is to be given."""
        return STOCK - sum(cid is not None for cid in self._issued)

    def add(self, cid: bytes) -> int:
        """The sequence number of one more."""
        self._issued.append(cid)
        return self._first + len(self._issued) - 1

    def retire(self, sequence: int) -> bytes | None:
        """The peer will not use that one again; returns one that nothing can be under way to any more, if there is.

        :raises Violation: PROTOCOL_VIOLATION, where it was never given; CID_LIMIT, where the peer keeps one for ever
            while it goes through many.
        """
        index = sequence - self._first
        if index >= len(self._issued):
            raise Violation(ErrorCode.PROTOCOL_VIOLATION, "a RETIRE_CID for an id that was never given")
        if index < 0 or (cid := self._issued[index]) is None:
            return None
        self._issued[index] = None
        while self._issued and self._issued[0] is None:
            del self._issued[0]
            self._first += 1
        if len(self._issued) > MOST_APART:
            raise Violation(ErrorCode.CID_LIMIT, "one connection id is kept, and many others are used up")
        gone, late = (self._late[:1], self._late[1:]) if len(self._late) == STOCK else ((), self._late)
        self._late = (*late, cid)
        return gone[0] if gone else None
