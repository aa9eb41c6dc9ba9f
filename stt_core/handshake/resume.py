"""What one side asks and the other answers about resuming, inside the sealed parts of AUTH_PROOF and FINAL.

Rule: a ticket is never visible, and is worth nothing without the seed: it travels under keys that the seed made, beside
a binder that shows knowledge of the secret it stands for. Whether it is good is for the one who issued it to say
(:mod:`stt_core.resumption`); here are the bytes alone (docs/protocol.md, "Resumption").
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from stt_core.errors import protocol_violation
from stt_core.keys import HASH_SIZE, expand, lv, mac
from stt_core.types import Resumed

NO_SESSION: Final = bytes(8)
"""The session id of who has no streams to go on with."""
TICKET_MAX: Final = 512
"""Bytes of the longest ticket that is looked at."""

_OFFER: Final = Struct(">B8sH")
_ANSWER: Final = Struct(">BI8s")
_SECOND: Final = 0x80
_EXTENTS: Final = tuple(Resumed)  # their order is on the wire


def heir_secret(resumption: bytes, ticket: bytes) -> bytes:
    """What shows that one spent ``ticket`` oneself, 32 bytes: only both sides of the handshake that did can know it.

    A session may be cut off after its first packet, which spends the ticket, and before it was given another.
    """
    return expand(resumption, "heir", ticket)


def binder(rpsk: bytes, th1: bytes, ya: bytes, ticket: bytes) -> bytes:
    """32 bytes that only a holder of the ticket's secret can make, for this handshake alone."""
    return mac(expand(rpsk, "binder"), lv(th1, ya, ticket))


@dataclass(frozen=True, slots=True)
class Offer:
    """What the initiator asks. Without a ticket it asks by its identity key, and the binders are zero.

    Each binder shows knowledge of one secret: the ticket's own, or a :func:`heir_secret`. The second is of an attempt
    that may have gone through, the first of what was good before it; zero where there is none.
    """

    takeover: bool
    session_id: bytes
    ticket: bytes = field(repr=False)
    binders: tuple[bytes, bytes] = field(repr=False)

    def encode(self) -> bytes:
        """The TLV's value."""
        head = _OFFER.pack(self.takeover, self.session_id, len(self.ticket))
        return head + self.ticket + self.binders[0] + self.binders[1]

    def binder_of(self, secret: bytes, th1: bytes, ya: bytes) -> int | None:
        """Which of the binders shows that whoever sent this knows ``secret``, 0 or 1; None where neither does."""
        expected = binder(secret, th1, ya, self.ticket)
        matches = [hmac.compare_digest(bound, expected) for bound in self.binders]
        return matches.index(True) if any(matches) else None


def parse_offer_untrusted(value: bytes) -> Offer:
    """An initiator's TLV.

    :raises Violation: if it is malformed.
    """
    if len(value) < _OFFER.size:
        raise protocol_violation("an offer to resume is cut short")
    takeover, session_id, size = _OFFER.unpack_from(value)
    if takeover > 1 or size > TICKET_MAX or len(value) != _OFFER.size + size + 2 * HASH_SIZE:
        raise protocol_violation("an offer to resume contradicts itself")
    end = _OFFER.size + size
    binders = value[end : end + HASH_SIZE], value[end + HASH_SIZE :]
    return Offer(bool(takeover), session_id, value[_OFFER.size : end], binders)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the responder grants; ``session_id`` is the earlier session's where its streams go on, else zero.

    ``second``: by the second binder, so that it is that secret which is mixed into the keys.
    """

    extent: Resumed
    epoch: int
    session_id: bytes
    second: bool = False

    def encode(self) -> bytes:
        """The TLV's value."""
        return _ANSWER.pack(_EXTENTS.index(self.extent) | _SECOND * self.second, self.epoch, self.session_id)


def parse_answer_untrusted(value: bytes) -> Answer:
    """A responder's TLV.

    :raises Violation: if it is malformed.
    """
    if len(value) != _ANSWER.size or value[0] & ~_SECOND >= len(_EXTENTS):
        raise protocol_violation("an answer about resuming is malformed")
    extent, epoch, session_id = _ANSWER.unpack(value)
    return Answer(_EXTENTS[extent & ~_SECOND], epoch, session_id, bool(extent & _SECOND))


@dataclass(frozen=True, slots=True)
class Wish:
    """What an initiator wants to resume: with ``ticket`` and its secret, or both empty, by its identity alone. ``heir``
    is the :func:`heir_secret` of an attempt that may have spent the ticket, or empty; ``rpsk`` is what was good before.

    ``session_id`` names the session whose streams it still has, :data:`NO_SESSION` where it has none. ``takeover``
    asks for a session that is in use elsewhere, too.
    """

    ticket: bytes = field(default=b"", repr=False)
    rpsk: bytes = field(default=b"", repr=False)
    session_id: bytes = NO_SESSION
    takeover: bool = False
    heir: bytes = field(default=b"", repr=False)

    def offer(self, th1: bytes, ya: bytes) -> bytes:
        """The TLV's value for one handshake."""
        nothing = bytes(HASH_SIZE)
        bound = binder(self.rpsk, th1, ya, self.ticket) if self.ticket else nothing
        inherited = binder(self.heir, th1, ya, self.ticket) if self.heir else nothing
        return Offer(self.takeover, self.session_id, self.ticket, (bound, inherited)).encode()

    def read_untrusted(self, value: bytes | None) -> Grant:
        """What a responder answered to this; one that said nothing knows of no resuming.

        :raises Violation: if it is malformed, or grants what was not asked for.
        """
        if value is None:
            return Grant(Resumed.NO)
        answer = parse_answer_untrusted(value)
        if answer.extent is Resumed.FULL and (answer.session_id != self.session_id or self.session_id == NO_SESSION):
            raise protocol_violation("it would go on with streams of another session")
        if answer.second and not self.heir:
            raise protocol_violation("it takes us for an heir")
        if answer.extent is Resumed.NO or not self.ticket:
            return Grant(answer.extent, None, answer.epoch, answer.session_id)
        rpsk = self.heir if answer.second else self.rpsk
        return Grant(answer.extent, rpsk, answer.epoch, answer.session_id, ticket=self.ticket)


@dataclass(frozen=True, slots=True)
class Grant:
    """How a handshake goes on with an earlier session. ``rpsk`` is mixed into its keys, where there is one.

    ``ticket`` is the one that was shown. What follows is the responder's: ``ticket_id`` is spent when the first packet
    opens, and remembered until ``expires`` (seconds since 1970), unless it was the initiator (``heir``) who spent it;
    ``record_id`` is its name for the session.
    """

    extent: Resumed
    rpsk: bytes | None = field(default=None, repr=False)
    epoch: int = 0
    session_id: bytes = NO_SESSION
    ticket: bytes = field(default=b"", repr=False)
    ticket_id: bytes = b""
    expires: float = 0.0
    record_id: bytes = b""
    heir: bool = False
    second: bool = False

    def answer(self) -> bytes:
        """The TLV's value that says so."""
        return Answer(self.extent, self.epoch, self.session_id, self.second).encode()
