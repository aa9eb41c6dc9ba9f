"""The cryptographic course of one handshake, the same for both roles: what is hashed, confirmed and sealed, and when.

Rule: transcript hashing is written here and nowhere else. A side is believed because its tag Ta or Tb verifies, never
because something decrypted: neither AEAD commits to its key. Each sealing key seals one text, with nonce 0.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from stt_core.crypto import Crypto
from stt_core.errors import protocol_violation
from stt_core.keys import confirmation, handshake_keys, lv, transcript_hash
from stt_core.packet import (
    CHALLENGE_HEAD,
    ECHO_SIZE,
    FINAL_HEAD,
    FINAL_SEALED,
    NONCE_SIZE,
    PROOF_HEAD,
    PROOF_SEALED,
    sealed_length,
)
from stt_core.types import Suite

SESSION_ID_SIZE: Final = 8
_NONCE: Final = bytes(12)


def channel_id(peer_or_own_node_id: bytes | None) -> bytes:
    """CPace's CI: the responder's node id where the initiator named it, else empty."""
    return lv(b"STT1", peer_or_own_node_id or b"")


def first_hash(hello: bytes, challenge: bytes) -> bytes:
    """th1, 32 bytes: the whole HELLO and the CHALLENGE without its cookie."""
    return transcript_hash("th1", hello, challenge[:CHALLENGE_HEAD])


def proof_digest(proof: bytes) -> bytes:
    """What identifies an AUTH_PROOF, 32 bytes: its SHA-256, of which REJECT echoes the first 16."""
    return hashlib.sha256(proof).digest()


def echo(digest: bytes) -> bytes:
    """The part of :func:`proof_digest` a REJECT carries."""
    return digest[:ECHO_SIZE]


def session_id(nonce_i: bytes, nonce_r: bytes, id_i: bytes | None, id_r: bytes | None) -> bytes:
    """The 8-byte session id: public, for logs and the API. A node id not known counts as zeros."""
    mixed = 0
    for part in (nonce_i, nonce_r, _hashed(id_i), _hashed(id_r)):
        mixed ^= int.from_bytes(part, "big")
    return mixed.to_bytes(NONCE_SIZE, "big")[:SESSION_ID_SIZE]


def _hashed(node_id: bytes | None) -> bytes:
    return bytes(NONCE_SIZE) if node_id is None else hashlib.sha256(node_id).digest()


class Transcript:
    """One handshake from th1 on. Each side calls the proof's half and then the final's, one of each pair.

    ``isk`` is CPace's 64 bytes; it is not kept, and neither are the texts.
    """

    __slots__ = ("_crypto", "_keys", "_ta", "_th2", "_th3", "suite", "th1")

    def __init__(self, crypto: Crypto, suite: Suite, isk: bytes, th1: bytes) -> None:
        self._crypto = crypto
        self._keys = handshake_keys(isk, th1)
        self.suite = suite
        self.th1 = th1
        self._th2 = b""
        self._ta = b""
        self._th3 = b""

    def make_proof(self, head: bytes, content: bytes) -> bytes:
        """AUTH_PROOF from its first 206 bytes and what to seal."""
        end = sealed_length(self._seal(self._keys.sealed_i, content, head))
        self._add_proof(head, end)
        return head + self._ta + end

    def verify_proof(self, proof: bytes) -> bool:
        """Whether Ta shows that the initiator holds the seed (and means this responder)."""
        self._add_proof(proof[:PROOF_HEAD], proof[PROOF_SEALED:])
        return hmac.compare_digest(self._ta, proof[PROOF_HEAD:PROOF_SEALED])

    def open_proof_untrusted(self, proof: bytes) -> bytes:
        """What a verified AUTH_PROOF seals.

        :raises Violation: if it does not open.
        """
        return self._open(self._keys.sealed_i, proof[PROOF_SEALED + 2 :], proof[:PROOF_HEAD])

    def make_final(self, head: bytes, content: bytes) -> bytes:
        """FINAL from its first 22 bytes and what to seal."""
        end = sealed_length(self._seal(self._keys.sealed_r, content, head))
        return head + self._add_final(head, end) + end

    def verify_final(self, final: bytes) -> bool:
        """Whether Tb shows that the responder holds the seed. May be asked of any number of candidates."""
        tb = self._add_final(final[:FINAL_HEAD], final[FINAL_SEALED:])
        return hmac.compare_digest(tb, final[FINAL_HEAD:FINAL_SEALED])

    def open_final_untrusted(self, final: bytes) -> bytes:
        """What a verified FINAL seals.

        :raises Violation: if it does not open.
        """
        return self._open(self._keys.sealed_r, final[FINAL_SEALED + 2 :], final[:FINAL_HEAD])

    def master(self, rpsk: bytes | None = None) -> bytes:
        """The session's master secret, once FINAL is made or verified."""
        return self._keys.master(self._th3, rpsk)

    def _add_proof(self, head: bytes, end: bytes) -> None:
        self._th2 = transcript_hash("th2", self.th1, head + end)
        self._ta = confirmation(self._keys.confirm_i, self._th2)

    def _add_final(self, head: bytes, end: bytes) -> bytes:
        self._th3 = transcript_hash("th3", self._th2, self._ta, head + end)
        return confirmation(self._keys.confirm_r, self._th3)

    def _seal(self, key: bytes, content: bytes, head: bytes) -> bytes:
        return self._crypto.aead(self.suite, key).encrypt(_NONCE, content, head)

    def _open(self, key: bytes, sealed: bytes, head: bytes) -> bytes:
        try:
            return self._crypto.aead(self.suite, key).decrypt(_NONCE, sealed, head)
        except self._crypto.invalid_tag:
            raise protocol_violation("the sealed part does not open") from None

    def __repr__(self) -> str:
        return "<Transcript>"
