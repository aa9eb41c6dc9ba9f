"""The four messages that turn a shared seed into a session: HELLO, CHALLENGE, AUTH_PROOF, FINAL.

Rule: nothing secret leaves before the peer committed itself, and each exchange tests one guess of the seed. An
:class:`Initiator` lives for one connect, a :class:`Responder` as long as its endpoint; both give a
:class:`HandshakeResult` and know nothing of sessions (docs/protocol.md, "Handshake").
"""

from __future__ import annotations

from stt_core.handshake.identity import Identity, node_id_of
from stt_core.handshake.initiator import Initiator
from stt_core.handshake.limits import TargetBudget, address_prefixes, is_loopback
from stt_core.handshake.responder import PENDING_LIFETIME, Accepted, Refused, Responder
from stt_core.handshake.result import HandshakeResult, Peer
from stt_core.handshake.seed import weak_seed_reason

__all__ = [
    "PENDING_LIFETIME",
    "Accepted",
    "HandshakeResult",
    "Identity",
    "Initiator",
    "Peer",
    "Refused",
    "Responder",
    "TargetBudget",
    "address_prefixes",
    "is_loopback",
    "node_id_of",
    "weak_seed_reason",
]
