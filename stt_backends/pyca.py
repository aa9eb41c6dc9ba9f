"""The default crypto provider, on PyCA's ``cryptography``.

Rule: no wrapper on the hot path. :meth:`PycaCrypto.aead` hands out the library's own object, whose ``encrypt`` and
``decrypt`` have the shape the core wants.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from stt_core.crypto import Aead, ScalarMult
from stt_core.types import Suite

_KEY_SIZE = 32


class _Signer:
    """The library's key, whose public half is known once and for all."""

    __slots__ = ("public", "sign")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.public = key.public_key().public_bytes_raw()
        self.sign = key.sign


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

    def x25519(self, scalar: bytes) -> ScalarMult:
        """RFC 7748 section 5. The library computes the scalar's public key when it is bound, as costly as a product.

        :raises ValueError: on a wrong length, of the point too, or if a product is all zero, which is to say that the
            point has low order.
        """
        exchange = X25519PrivateKey.from_private_bytes(scalar).exchange
        return lambda point: exchange(X25519PublicKey.from_public_bytes(point))

    def ed25519(self, seed: bytes) -> _Signer:
        """RFC 8032 section 5.1.

        :raises ValueError: on a wrong length.
        """
        return _Signer(Ed25519PrivateKey.from_private_bytes(seed))

    def ed25519_verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` is valid; false for anything malformed."""
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True
