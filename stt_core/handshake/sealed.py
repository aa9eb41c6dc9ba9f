"""What AUTH_PROOF and FINAL carry under encryption: who is speaking and what it can take.

Rule: node ids and identity keys travel here and nowhere else. The same code writes and reads both messages; only the
role in the identity proof differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from stt_core.crypto import Crypto
from stt_core.errors import protocol_violation
from stt_core.handshake.identity import PROOF_SIZE, PUBLIC_SIZE, Binding, Identity, claims_key, node_id_of, proof_holds
from stt_core.keys import lv
from stt_core.parameters import (
    Tlv,
    TransportParameters,
    encode_tlvs,
    parse_parameters_untrusted,
    parse_tlvs_untrusted,
)
from stt_core.types import Role

NODE_ID_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class SealedContent:
    """A peer's introduction, its identity proof checked. ``identity_key`` is None where it offered none.

    ``identity_kept``: the key outlives the peer's process, so that there is sense in asking for it another time.
    ``resume`` is what it says about resuming, unread.
    """

    node_id: bytes
    parameters: TransportParameters
    identity_key: bytes | None
    identity_kept: bool = False
    resume: bytes | None = field(default=None, repr=False)


def seal_content(
    role: Role,
    node_id: bytes,
    parameters: TransportParameters,
    identity: Identity,
    binding: Binding,
    pad_to: int,
    resume: bytes | None = None,
) -> bytes:
    """Our introduction, zero-padded to ``pad_to`` bytes so that lengths tell nothing, and not whether we have an
    identity to show."""
    values: dict[int, bytes] = {}
    if identity.shown:
        values[Tlv.IDENTITY] = identity.public + identity.prove(role, binding, node_id)
    if identity.configured:
        values[Tlv.KEPT_IDENTITY] = b""
    if resume is not None:
        values[Tlv.RESUME] = resume
    return (lv(node_id) + parameters.encode() + encode_tlvs(values)).ljust(pad_to, b"\0")


def parse_sealed_untrusted(content: bytes, crypto: Crypto, role: Role, binding: Binding) -> SealedContent:
    """The introduction of the peer, which has ``role``.

    :raises Violation: if it is malformed, its identity proof does not hold, or its id belongs to another key.
    """
    node_id, at = _node_id_untrusted(content)
    values = parse_tlvs_untrusted(content[at:])
    parameters = parse_parameters_untrusted(values)
    claim = values.get(Tlv.IDENTITY)
    public = None
    if claim is not None:
        if len(claim) != PUBLIC_SIZE + PROOF_SIZE:
            raise protocol_violation("identity of the wrong size")
        public = claim[:PUBLIC_SIZE]
        if not proof_holds(crypto, public, claim[PUBLIC_SIZE:], role, binding, node_id):
            raise protocol_violation("identity proof does not hold")
    if claims_key(node_id) and (public is None or node_id != node_id_of(public)):
        raise protocol_violation("node id belongs to another identity key")
    kept = values.get(Tlv.KEPT_IDENTITY)
    if kept:
        raise protocol_violation("kept_identity has a value")
    return SealedContent(
        node_id, parameters, public, identity_kept=kept is not None and public is not None,
        resume=values.get(Tlv.RESUME),
    )  # fmt: skip


def _node_id_untrusted(content: bytes) -> tuple[bytes, int]:
    """The node id in front, behind its LEB128 length (shortest form), and where it ends."""
    if len(content) < 2:
        raise protocol_violation("introduction cut short")
    size, at = content[0], 1
    if size > 0x7F:
        size, at = size & 0x7F | content[1] << 7, 2
        if size <= 0x7F:
            raise protocol_violation("node id's length is not in its shortest form")
    if not 1 <= size <= NODE_ID_MAX or at + size > len(content):
        raise protocol_violation(f"node id of {size} bytes")
    return content[at : at + size], at + size
