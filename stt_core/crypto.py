"""What the core needs of a cryptographic library, as Protocols.

The AEAD has PyCA's own call shape and the provider names its own ``invalid_tag`` exception, so the hot path calls
the library's object directly with no wrapper in between. ``tests/conformance/test_crypto.py`` holds any provider
to this page.
"""

from __future__ import annotations

from typing import Protocol

from stt_core.types import Suite


class Aead(Protocol):
    """An AEAD bound to one key: 12-byte nonce, 16-byte tag at the end of the ciphertext."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """Return ciphertext ‖ tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None, /) -> bytes:
        """Return the plaintext, or raise the provider's ``invalid_tag``."""
        ...


class Crypto(Protocol):
    """A provider of primitives. Implementations hold no secrets of their own."""

    @property
    def invalid_tag(self) -> type[Exception]:
        """The exception :meth:`Aead.decrypt` raises on a forgery."""
        ...

    @property
    def suites(self) -> tuple[Suite, ...]:
        """What :meth:`aead` supports, most preferred first."""
        ...

    def aead(self, suite: Suite, key: bytes) -> Aead:
        """Bind a 32-byte key."""
        ...

    def x25519(self, scalar: bytes, point: bytes) -> bytes:
        """RFC 7748 X25519 of two 32-byte strings; raises ``ValueError`` where the result is all zero."""
        ...

    def ed25519_public(self, seed: bytes) -> bytes:
        """The 32-byte public key of a 32-byte seed (RFC 8032)."""
        ...

    def ed25519_sign(self, seed: bytes, message: bytes) -> bytes:
        """A 64-byte signature."""
        ...

    def ed25519_verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Whether the signature is valid; never raises on malformed input."""
        ...
