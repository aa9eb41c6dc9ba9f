"""What the core needs of a cryptographic library, as Protocols.

The AEAD has PyCA's own call shape and the provider names its own ``invalid_tag`` exception, so the hot path calls
the library's object directly with no wrapper in between. ``tests/conformance/test_crypto.py`` holds any provider
to this page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stt_core.types import Suite

ScalarMult = Callable[[bytes], bytes]
"""X25519 with its scalar bound: 32 bytes of a point's u-coordinate to 32 bytes of their product's."""


class Aead(Protocol):
    """An AEAD bound to one key: 12-byte nonce, 16-byte tag at the end of the ciphertext."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """Return ciphertext ‖ tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None, /) -> bytes:
        """Return the plaintext, or raise the provider's ``invalid_tag``."""
        ...


class Signer(Protocol):
    """An Ed25519 key pair (RFC 8032)."""

    @property
    def public(self) -> bytes:
        """The 32-byte public key."""
        ...

    def sign(self, message: bytes, /) -> bytes:
        """A 64-byte signature."""
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

    def x25519(self, scalar: bytes) -> ScalarMult:
        """Bind a 32-byte scalar (RFC 7748). The result raises ``ValueError`` where a product is all zero."""
        ...

    def ed25519(self, seed: bytes) -> Signer:
        """Bind a 32-byte seed."""
        ...

    def ed25519_verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Whether the signature is valid; never raises on malformed input."""
        ...
