"""What a handshake leaves behind: everything a session starts from, and none of the handshake's own keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from stt_core.handshake.resume import Grant
from stt_core.parameters import TransportParameters
from stt_core.types import Role, Suite


class Peer(NamedTuple):
    """What a session keeps of its handshake: who is there, and nothing secret."""

    session_id: bytes
    node_id: bytes
    identity_key: bytes | None
    identity_kept: bool = False


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """One side's outcome. ``master`` is 32 bytes, equal on both sides, and never shown.

    ``local_cid`` is where the peer sends to, ``peer_cid`` where we do. ``rtt`` is a round trip in seconds, if one was
    seen that no retransmission makes ambiguous (Karn's rule, RFC 6298 section 3).
    """

    role: Role
    session_id: bytes
    suite: Suite
    master: bytes = field(repr=False)
    local_cid: bytes
    peer_cid: bytes
    peer_node_id: bytes
    peer_identity_key: bytes | None
    peer_parameters: TransportParameters
    rtt: float | None = None
    peer_identity_kept: bool = False
    grant: Grant | None = None
    """How it goes on with an earlier session; None where nobody asked, or this responder refused."""

    @property
    def peer(self) -> Peer:
        """What is worth keeping once the keys are derived and the limits set."""
        return Peer(self.session_id, self.peer_node_id, self.peer_identity_key, self.peer_identity_kept)
