"""A complete :class:`stt_core.crypto.Crypto` made of the standard library alone, so that core tests need nothing else.

Rule: it behaves like a real provider (a flipped bit fails, a wrong key fails, low-order points raise) and is a pure
function of its inputs. It protects nothing: anyone can forge its signatures, and its ladder's timing leaks.
"""

from __future__ import annotations

import hashlib
import hmac

from stt_core.crypto import ScalarMult
from stt_core.types import Suite

TAG = 16
_P = 2**255 - 19
_A24 = 121665


class ToyInvalidTag(Exception):
    """What :meth:`ToyAead.decrypt` raises on a forgery."""


class ToyAead:
    """XOR with a SHAKE-256 key stream, and an HMAC-SHA256 tag cut to 16 bytes; encrypt, then MAC."""

    __slots__ = ("_mac_key", "_stream_key")

    def __init__(self, suite: Suite, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("key must be 32 bytes")
        self._stream_key = hashlib.sha256(b"toy stream%d" % suite + key).digest()
        self._mac_key = hashlib.sha256(b"toy mac%d" % suite + key).digest()

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """Return ciphertext ‖ tag."""
        body = self._xor(nonce, data)
        return body + self._tag(nonce, body, associated_data)

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None, /) -> bytes:
        """Return the plaintext, or raise :class:`ToyInvalidTag`."""
        if len(data) < TAG:
            raise ToyInvalidTag
        body, tag = bytes(data[:-TAG]), bytes(data[-TAG:])
        if not hmac.compare_digest(tag, self._tag(nonce, body, associated_data)):
            raise ToyInvalidTag
        return self._xor(nonce, body)

    def _tag(self, nonce: bytes, body: bytes, associated_data: bytes | None) -> bytes:
        aad = associated_data or b""
        text = b"%d,%d:" % (len(nonce), len(aad)) + nonce + aad + body
        return hmac.digest(self._mac_key, text, "sha256")[:TAG]

    def _xor(self, nonce: bytes, data: bytes) -> bytes:
        if len(nonce) != 12:
            raise ValueError("nonce must be 12 bytes")
        size = len(data)
        stream = hashlib.shake_256(self._stream_key + nonce).digest(size)
        return (int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")).to_bytes(size, "little")


class ToySigner:
    """32 bytes that stand for a public key, and 64 that verify under it."""

    __slots__ = ("public",)

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise ValueError("seed must be 32 bytes")
        self.public = hashlib.sha256(b"toy public" + seed).digest()

    def sign(self, message: bytes, /) -> bytes:
        """A hash of what is public."""
        return hashlib.sha512(b"toy signature" + self.public + message).digest()


class ToyCrypto:
    """The provider. X25519 is the real function of RFC 7748; the signatures are a public hash."""

    invalid_tag: type[Exception] = ToyInvalidTag
    suites: tuple[Suite, ...] = (Suite.AES_256_GCM, Suite.CHACHA20_POLY1305)

    def aead(self, suite: Suite, key: bytes) -> ToyAead:
        """Bind a 32-byte key."""
        return ToyAead(suite, key)

    def x25519(self, scalar: bytes) -> ScalarMult:
        """RFC 7748 section 5; raises ``ValueError`` where a product is all zero (section 6.1)."""
        if len(scalar) != 32:
            raise ValueError("a scalar must be 32 bytes")
        k = _clamp(scalar)

        def multiply(point: bytes) -> bytes:
            if len(point) != 32:
                raise ValueError("a point must be 32 bytes")
            result = _ladder(k, int.from_bytes(point, "little") & (2**255 - 1))
            if result == 0:
                raise ValueError("low-order point: the shared value is all zero")
            return result.to_bytes(32, "little")

        return multiply

    def ed25519(self, seed: bytes) -> ToySigner:
        """A key pair whose signatures anyone can compute."""
        return ToySigner(seed)

    def ed25519_verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Whether the signature is that of ``message``; never raises."""
        return signature == hashlib.sha512(b"toy signature" + public + message).digest()


def _clamp(scalar: bytes) -> int:
    return (int.from_bytes(scalar, "little") & ~7 & (2**254 - 1)) | 2**254


def _ladder(k: int, u: int) -> int:
    """RFC 7748 section 5, with its variable names."""
    x_1 = u % _P
    x_2, z_2, x_3, z_3 = 1, 0, x_1, 1
    swap = 0
    for t in range(254, -1, -1):
        k_t = (k >> t) & 1
        if swap ^ k_t:
            x_2, x_3, z_2, z_3 = x_3, x_2, z_3, z_2
        swap = k_t
        a, b = x_2 + z_2, x_2 - z_2
        aa, bb = a * a % _P, b * b % _P
        e = aa - bb
        da, cb = (x_3 - z_3) * a % _P, (x_3 + z_3) * b % _P
        x_3 = (da + cb) ** 2 % _P
        z_3 = x_1 * (da - cb) ** 2 % _P
        x_2 = aa * bb % _P
        z_2 = e * (aa + _A24 * e) % _P
    if swap:
        x_2, z_2 = x_3, z_3
    return x_2 * pow(z_2, _P - 2, _P) % _P
