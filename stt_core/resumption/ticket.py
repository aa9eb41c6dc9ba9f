"""Tickets: what a responder has to know of a session to resume it, sealed for itself and kept by the initiator.

Rule: the secret in a ticket is the session's own, derived for this ticket alone, so that two tickets of one session
have nothing in common. On the wire: version u8, key id (4), nonce (12), then under AES-256-GCM or ChaCha20-Poly1305
with the first 17 bytes as associated data: ticket id (16), record id (16), secret (32), issued u64 (ms since 1970),
lifetime u32 (s), SHA-256 of the node id (32), bound u8, identity key (32, zero where it isn't bound), epoch u32; 178 in
all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from stt_core.crypto import Crypto
from stt_core.errors import protocol_violation
from stt_core.keys import expand
from stt_core.resumption.store import TicketKey

TICKET_ID_SIZE: Final = 16
RECORD_ID_SIZE: Final = 16
LONGEST_LIFE: Final = 86400
"""Seconds."""
SKEW: Final = 60.0
"""Seconds by which the clocks of a service's machines may differ."""

_VERSION: Final = 1
_HEAD: Final = Struct(">B4s12s")
_BODY: Final = Struct(">16s16s32sQI32sB32sI")
_TAG: Final = 16
TICKET_SIZE: Final = _HEAD.size + _BODY.size + _TAG
NONCE_SIZE: Final = 12


@dataclass(frozen=True, slots=True)
class Claims:
    """What a ticket says. ``issued`` is in seconds since 1970, ``lifetime`` in seconds.

    ``identity_key`` is whom it was given to, where that lasts; None for a ticket that any holder of the seed may show.
    """

    ticket_id: bytes
    record_id: bytes
    rpsk: bytes = field(repr=False)
    issued: float
    lifetime: int
    node_hash: bytes
    identity_key: bytes | None
    epoch: int

    @property
    def expires(self) -> float:
        """When it is good no longer, in seconds since 1970."""
        return self.issued + self.lifetime

    def is_good(self, wall: float) -> bool:
        """Whether it is good at that time."""
        return self.issued - SKEW <= wall < self.expires


def ticket_secret(resumption: bytes, ticket_id: bytes) -> bytes:
    """``rpsk``, 32 bytes, from a session's resumption secret: both sides derive it, it is never sent."""
    return expand(resumption, "ticket", ticket_id)


def seal_ticket(crypto: Crypto, key: TicketKey, nonce: bytes, claims: Claims) -> bytes:
    """The ticket, :data:`TICKET_SIZE` bytes; ``nonce`` is 12 random bytes."""
    head = _HEAD.pack(_VERSION, key.key_id, nonce)
    body = _BODY.pack(
        claims.ticket_id,
        claims.record_id,
        claims.rpsk,
        round(claims.issued * 1000),
        claims.lifetime,
        claims.node_hash,
        claims.identity_key is not None,
        claims.identity_key or bytes(32),
        claims.epoch,
    )
    return head + crypto.aead(crypto.suites[0], key.secret).encrypt(nonce, body, head)


def ticket_key_id_untrusted(ticket: bytes) -> bytes:
    """Which key opens this ticket.

    :raises Violation: if it is none of this version.
    """
    if len(ticket) != TICKET_SIZE or ticket[0] != _VERSION:
        raise protocol_violation("no ticket of this version")
    return ticket[1:5]


def open_ticket_untrusted(crypto: Crypto, key: TicketKey, ticket: bytes) -> Claims:
    """What a ticket of ours says.

    :raises Violation: if it is none.
    """
    ticket_key_id_untrusted(ticket)
    head = ticket[: _HEAD.size]
    try:
        body = crypto.aead(crypto.suites[0], key.secret).decrypt(head[-NONCE_SIZE:], ticket[_HEAD.size :], head)
    except crypto.invalid_tag:
        raise protocol_violation("the ticket does not open") from None
    ticket_id, record_id, rpsk, issued, lifetime, node_hash, bound, identity_key, epoch = _BODY.unpack(body)
    return Claims(
        ticket_id, record_id, rpsk, issued / 1000, lifetime, node_hash, identity_key if bound else None, epoch
    )
