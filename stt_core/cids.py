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
from typing import Final, NamedTuple, Protocol

from stt_core.errors import ErrorCode, Violation
from stt_core.frames import NewCid
from stt_core.types import Entropy, SessionKey

EPOCH: Final = 30.0
"""Seconds an id is young at least; a handshake's cookie and its pending session live 20 together."""
RANDOM: Final = 6
MARK: Final = 2
STOCK: Final = 4
"""Ids that each side keeps with the other, those in use among them."""


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
    return hmac.digest(key, noise, "sha256")[:MARK]


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


class PeerCids:
    """The ids that the peer gave us: those in use, and those in stock (RFC 9000 section 5.1)."""

    __slots__ = ("_ahead", "_floor", "_stock", "_used", "retire_before")

    def __init__(self, cid: bytes, token: bytes) -> None:
        self._used = {0: PeerCid(0, cid, token)}
        self._stock: list[PeerCid] = []
        self._floor = 1
        """The least sequence number not seen yet."""
        self._ahead: list[int] = []
        """Those seen above it: a few, as the peer can't be further ahead than its stock with us."""
        self.retire_before = 0
        """Those below are not to be used any more."""

    @property
    def spare(self) -> int:
        """How many are in stock."""
        return len(self._stock)

    @property
    def first(self) -> PeerCid:
        """The oldest one in use."""
        return next(iter(self._used.values()))

    @property
    def used(self) -> list[PeerCid]:
        """Those that packets are sent to."""
        return list(self._used.values())

    def receive(self, frame: NewCid) -> list[PeerCid]:
        """One more; returns those in stock that are to be retired unused.

        Those in use below :attr:`retire_before` are for the caller to replace and :meth:`release`.

        :raises Violation: CID_LIMIT above :data:`STOCK`, PROTOCOL_VIOLATION on a contradiction.
        """
        sequence = frame.sequence
        if frame.retire_before > sequence:
            raise Violation(ErrorCode.PROTOCOL_VIOLATION, "a NEW_CID that retires itself")
        given = PeerCid(sequence, frame.cid, frame.reset_token)
        known = [*self._used.values(), *self._stock]
        if any((other.sequence == sequence or other.cid == frame.cid) and other != given for other in known):
            raise Violation(ErrorCode.PROTOCOL_VIOLATION, "a NEW_CID that contradicts an earlier one")
        if not self._note(sequence):
            return []
        self.retire_before = max(self.retire_before, frame.retire_before)
        self._stock.append(given)
        retired = [other for other in self._stock if other.sequence < self.retire_before]
        self._stock = [other for other in self._stock if other.sequence >= self.retire_before]
        if len(self._stock) + sum(number >= self.retire_before for number in self._used) > STOCK:
            raise Violation(ErrorCode.CID_LIMIT, f"more than {STOCK} connection ids")
        return retired

    def _note(self, sequence: int) -> bool:
        """Whether this number is new: a frame that was sent twice must not bring back what was retired."""
        if sequence < self._floor or sequence in self._ahead:
            return False
        if sequence >= self._floor + 2 * STOCK:
            raise Violation(ErrorCode.CID_LIMIT, "connection ids far ahead of those that arrived")
        self._ahead.append(sequence)
        while self._floor in self._ahead:
            self._ahead.remove(self._floor)
            self._floor += 1
        return True

    def take(self) -> PeerCid | None:
        """One that was never used, to be used from now on; None where none is in stock."""
        if not self._stock:
            return None
        taken = self._stock.pop(0)
        self._used[taken.sequence] = taken
        return taken

    def release(self, taken: PeerCid) -> None:
        """That one will not be used again: the peer is to be told so, by RETIRE_CID."""
        self._used.pop(taken.sequence, None)


class LocalCids:
    """The ids that we gave the peer. Iterating gives all that packets may still come to."""

    __slots__ = ("_issued", "_late", "_next")

    def __init__(self, cid: bytes) -> None:
        self._issued = {0: cid}
        self._next = 1
        self._late: list[bytes] = []
        """Retired, but packets to them may be on their way; oldest first."""

    def __iter__(self) -> Iterator[bytes]:
        yield from self._issued.values()
        yield from self._late

    @property
    def missing(self) -> int:
        """How many more the peer is to be given."""
        return STOCK - len(self._issued)

    def add(self, cid: bytes) -> int:
        """The sequence number of one more."""
        sequence, self._next = self._next, self._next + 1
        self._issued[sequence] = cid
        return sequence

    def retire(self, sequence: int) -> bytes | None:
        """The peer will not use that one again; returns one that nothing can be under way to any more, if there is.

        :raises Violation: PROTOCOL_VIOLATION, where it was never given.
        """
        if sequence >= self._next:
            raise Violation(ErrorCode.PROTOCOL_VIOLATION, "a RETIRE_CID for an id that was never given")
        cid = self._issued.pop(sequence, None)
        if cid is not None:
            self._late.append(cid)
        return self._late.pop(0) if len(self._late) > STOCK else None
