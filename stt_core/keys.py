"""The key schedule: from CPace's output to the keys of the handshake, of the packets, and of what comes after.

Rule: every key has its own label, and every hash and derivation takes its inputs with their lengths in front, so no
two different sets of inputs meet in one key. HKDF is RFC 5869 with SHA-256.
Nothing here shows a secret in its ``repr``. ``tests/vectors/key_schedule.json`` has values to check another
implementation against.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple

from stt_core.cpace import leb128, lv
from stt_core.types import Role

__all__ = [
    "HASH_SIZE",
    "IV_SIZE",
    "KEY_SIZE",
    "CidMask",
    "HandshakeKeys",
    "SessionSecrets",
    "TrafficKeys",
    "cid_mask",
    "confirmation",
    "expand",
    "extract",
    "handshake_keys",
    "hkdf_expand",
    "leb128",
    "lv",
    "mac",
    "transcript_hash",
]

HASH_SIZE: Final = 32
KEY_SIZE: Final = 32
IV_SIZE: Final = 12
_HASH_BLOCK: Final = 64
_INNER: Final = bytes(octet ^ 0x36 for octet in range(256))
_OUTER: Final = bytes(octet ^ 0x5C for octet in range(256))
"""HMAC's ipad and opad, as tables for ``bytes.translate``."""


def mac(key: bytes, text: bytes) -> bytes:
    """HMAC-SHA256: 32 bytes (RFC 2104 section 2).

    As ``hmac.digest``, which takes half as long again for texts as short as ours: it has OpenSSL look the algorithm up
    each time, and a handshake asks for two dozen on either side.
    """
    if len(key) > _HASH_BLOCK:
        key = sha256(key).digest()
    inner = sha256(key.translate(_INNER).ljust(_HASH_BLOCK, b"\x36") + text).digest()
    return sha256(key.translate(_OUTER).ljust(_HASH_BLOCK, b"\x5c") + inner).digest()


def extract(salt: bytes, ikm: bytes) -> bytes:
    """HKDF-Extract: 32 bytes (RFC 5869 section 2.2)."""
    return mac(salt, ikm)


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand: ``length`` bytes, at most 8160 (RFC 5869 section 2.3).

    :raises ValueError: if ``length`` is more than that or below 1.
    """
    if not 1 <= length <= 255 * HASH_SIZE:
        raise ValueError(f"HKDF-Expand gives 1 to {255 * HASH_SIZE} bytes, not {length}")
    counter = 1
    block = out = mac(prk, info + b"\x01")
    while len(out) < length:
        counter += 1
        block = mac(prk, block + info + bytes((counter,)))
        out += block
    return out[:length]


def expand(prk: bytes, label: str, context: bytes = b"", length: int = KEY_SIZE) -> bytes:
    """The protocol's one way to derive: HKDF-Expand with ``lv("STT1 " + label, context)`` as info.

    :raises ValueError: as :func:`hkdf_expand`.
    """
    if not context and 0 < length <= HASH_SIZE:  # fourteen times in a handshake: one block, the same text each time
        return mac(prk, _first_block(label))[:length]
    return hkdf_expand(prk, _opening(label) + lv(context), length)


def transcript_hash(label: str, *parts: bytes) -> bytes:
    """``SHA256(lv("STT1 " + label, parts…))``, 32 bytes: th1, th2 and th3 (docs/protocol.md, "Keys")."""
    return sha256(_opening(label) + lv(*parts)).digest()


@lru_cache(maxsize=64)
def _opening(label: str) -> bytes:
    """What stands in front of everything that is hashed under ``label``; there are two dozen labels."""
    return lv(b"STT1 " + label.encode())


@lru_cache(maxsize=64)
def _first_block(label: str) -> bytes:
    """What HKDF-Expand puts through HMAC for ``label`` alone: the info, and the number of the block."""
    return _opening(label) + lv(b"") + b"\x01"


def confirmation(key: bytes, transcript: bytes) -> bytes:
    """Ta or Tb, 32 bytes: ``HMAC(key, lv(transcript))``. Compare with ``hmac.compare_digest``."""
    return mac(key, lv(transcript))


@dataclass(frozen=True, slots=True)
class HandshakeKeys:
    """What one handshake needs, 32 bytes each; ``sealed_*`` encrypt one message each, with nonce 0.

    Confirmation is by HMAC and never by "the AEAD opened": neither suite commits to its key.
    """

    confirm_i: bytes = field(repr=False)
    confirm_r: bytes = field(repr=False)
    sealed_i: bytes = field(repr=False)
    sealed_r: bytes = field(repr=False)
    master_secret: bytes = field(repr=False)

    def master(self, th3: bytes, rpsk: bytes | None = None) -> bytes:
        """The session's master secret, 32 bytes; ``rpsk`` is the resumption secret, where there is one."""
        master = expand(self.master_secret, "traffic master", th3)
        return master if rpsk is None else extract(master, rpsk)


def handshake_keys(isk: bytes, th1: bytes) -> HandshakeKeys:
    """The keys of one handshake from CPace's ``isk`` (64 bytes) and the hash of its first two messages (32 bytes)."""
    hs = extract(th1, isk)
    return HandshakeKeys(
        confirm_i=expand(hs, "confirm i"),
        confirm_r=expand(hs, "confirm r"),
        sealed_i=expand(hs, "hs key i"),
        sealed_r=expand(hs, "hs key r"),
        master_secret=expand(hs, "master"),
    )


_TRAFFIC: Final = {role: f"traffic {role.value.decode()}" for role in Role}


class TrafficKeys:
    """One direction's packet keys in one key phase. ``secret`` is 32 bytes; what follows from it is not kept here."""

    __slots__ = ("secret",)

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    @property
    def key(self) -> bytes:
        """The AEAD's key, 32 bytes."""
        return expand(self.secret, "key")

    @property
    def iv(self) -> int:
        """12 bytes as a big-endian number, because a nonce is ``iv ^ pn``."""
        return int.from_bytes(expand(self.secret, "iv", length=IV_SIZE), "big")

    def updated(self) -> TrafficKeys:
        """The next phase's keys (as RFC 9001 section 6.1). They don't lead back to these."""
        return TrafficKeys(expand(self.secret, "update"))

    def __repr__(self) -> str:
        return "<TrafficKeys>"


class SessionSecrets:
    """Everything one session derives from its master secret.

    ``pn_mask_key`` is 32 bytes and lasts as long as the session. Everything else is derived when it is asked for: let
    go of this object, and of the master secret, once the session has what it needs, or a key update protects nothing
    of the past.
    """

    __slots__ = ("_master", "pn_mask_key")

    def __init__(self, master: bytes) -> None:
        self._master = master
        self.pn_mask_key = expand(master, "pn mask")

    @property
    def resumption(self) -> bytes:
        """The secret that a later session may be resumed with, 32 bytes."""
        return expand(self._master, "resumption")

    @property
    def exporter(self) -> bytes:
        """The secret that keys for other protocols are derived from, 32 bytes."""
        return expand(self._master, "exporter")

    def traffic(self, role: Role) -> TrafficKeys:
        """The keys of the packets that ``role`` sends, in the first key phase."""
        return TrafficKeys(expand(self._master, _TRAFFIC[role]))

    def __repr__(self) -> str:
        return "<SessionSecrets>"


class CidMask(NamedTuple):
    """How the packet number and the key phase are hidden in packets to one cid, so that two cids can't be linked.

    ``mask`` (32 bits) is added to the packet number, ``phase`` (0 or 1) is XORed into the key phase bit.
    """

    cid: bytes
    mask: int
    phase: int

    def __repr__(self) -> str:
        return f"CidMask(cid={self.cid.hex()})"


def cid_mask(pn_mask_key: bytes, sender: Role, cid: bytes) -> CidMask:
    """The mask of the packets that ``sender`` addresses to ``cid`` (8 bytes); computed once per cid."""
    digest = mac(pn_mask_key, sender.value + cid)
    return CidMask(cid, int.from_bytes(digest[:4], "big"), digest[4] & 1)
