"""The default crypto provider, on PyCA's ``cryptography``.

Rule: no wrapper on the hot path. :meth:`PycaCrypto.aead` hands out the library's own object, whose ``encrypt`` and
``decrypt`` have the shape the core wants.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from stt_core.crypto import Aead
from stt_core.types import Suite

_KEY_SIZE = 32


class PycaCrypto:
    """Implements :class:`stt_core.crypto.Crypto`. Stateless: one instance serves any number of endpoints."""

    __slots__ = ()

    @property
    def invalid_tag(self) -> type[Exception]:
        """:class:`cryptography.exceptions.InvalidTag`."""
        return InvalidTag

    @property
    def suites(self) -> tuple[Suite, ...]:
        """AES-256-GCM first: with hardware support, which is common, it is the faster one."""
        return (Suite.AES_256_GCM, Suite.CHACHA20_POLY1305)

    def aead(self, suite: Suite, key: bytes) -> Aead:
        """PyCA's object for a 32-byte key.

        :raises ValueError: if the key has another length (AESGCM alone would take 16 bytes as AES-128).
        """
        if len(key) != _KEY_SIZE:
            raise ValueError(f"an AEAD key has {_KEY_SIZE} bytes, not {len(key)}")
        return AESGCM(key) if suite is Suite.AES_256_GCM else ChaCha20Poly1305(key)

    def x25519(self, scalar: bytes, point: bytes) -> bytes:
        """RFC 7748 section 5, 32 bytes.

        :raises ValueError: if the result is all zero, which is to say ``point`` has low order, or on a wrong length.
        """
        return X25519PrivateKey.from_private_bytes(scalar).exchange(X25519PublicKey.from_public_bytes(point))

    def ed25519_public(self, seed: bytes) -> bytes:
        """The 32-byte public key of a 32-byte seed (RFC 8032 section 5.1.5).

        :raises ValueError: on a wrong length.
        """
        return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()

    def ed25519_sign(self, seed: bytes, message: bytes) -> bytes:
        """A 64-byte signature (RFC 8032 section 5.1.6).

        :raises ValueError: on a wrong length of ``seed``.
        """
        return Ed25519PrivateKey.from_private_bytes(seed).sign(message)

    def ed25519_verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` is valid; false for anything malformed."""
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True
