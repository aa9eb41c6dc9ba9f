"""Who a node is, as far as it can be proved: an Ed25519 key of its own, beside the seed everybody shares.

Rule: the key comes from ``node_seed`` alone. Nothing derived from the shared seed is ever published, for that would
be something to test guesses against. A node id is a label; only a signature over this very handshake, checked
against a key known beforehand, says who is there.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from stt_core.crypto import Crypto
from stt_core.keys import expand, extract, transcript_hash
from stt_core.types import Entropy, Role

PUBLIC_SIZE: Final = 32
PROOF_SIZE: Final = 64
_SALT: Final = b"STT1 node seed"
_DERIVED: Final = b"stt1-"
"""What an id derived from a key begins with, so that a peer can tell it from a chosen one and check it."""


class Binding(NamedTuple):
    """What ties an identity proof to one handshake: th1 and both shares."""

    th1: bytes
    ya: bytes
    yb: bytes


def node_id_of(public: bytes) -> bytes:
    """The node id of a node that was given none: printable, 37 bytes, and checked by every peer against the key."""
    return _DERIVED + hashlib.sha256(b"STT1 node id" + public).hexdigest()[:32].encode()


def claims_key(node_id: bytes) -> bool:
    """Whether this id says of itself that it was derived from an identity key."""
    return node_id.startswith(_DERIVED)


class Identity:
    """A node's own key pair. ``configured``: it came from a seed that outlives the process.

    ``shown``: it came from a seed at all. Another is this object's own: nobody can have known it before, so that to
    prove it would prove nothing, and cost each side of a handshake two fifths of its cryptography.
    """

    __slots__ = ("_signer", "configured", "public", "shown")

    def __init__(self, node_seed: bytes | None, crypto: Crypto, entropy: Entropy, *, kept: bool = True) -> None:
        secret = expand(extract(_SALT, entropy(32) if node_seed is None else node_seed), "identity key")
        self._signer = crypto.ed25519(secret)
        self.shown = node_seed is not None
        self.configured = kept and self.shown
        self.public = self._signer.public

    def prove(self, role: Role, binding: Binding, node_id: bytes) -> bytes:
        """A 64-byte proof of holding the key, worth something in this handshake and this role only."""
        return self._signer.sign(_statement(role, binding, node_id))

    def __repr__(self) -> str:
        return f"<Identity {self.public.hex()}>"


def proof_holds(crypto: Crypto, public: bytes, proof: bytes, role: Role, binding: Binding, node_id: bytes) -> bool:
    """Whether ``role``, calling itself ``node_id``, holds the key to ``public``."""
    return crypto.ed25519_verify(public, proof, _statement(role, binding, node_id))


def _statement(role: Role, binding: Binding, node_id: bytes) -> bytes:
    return transcript_hash("id", role.value, *binding, node_id)
