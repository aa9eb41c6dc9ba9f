"""The outermost layer of the wire: what kind of datagram this is, and the seven messages of the handshake.

Rule: layout and nothing else. Nothing here holds a key, knows the time, or decides whether to believe a message; the
parsers check lengths and fixed fields and raise :class:`~stt_core.errors.Violation`, which at this layer means "drop".
All integers are big-endian (docs/protocol.md, "Datagrams").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum
from struct import Struct
from typing import Final, NamedTuple

from stt_core.config import MIN_DATAGRAM
from stt_core.errors import ErrorCode, Violation

VERSION: Final = int.from_bytes(b"STT1", "big")
SUPPORTED_VERSIONS: Final = (VERSION,)
"""Most preferred first."""

CID_SIZE: Final = 8
NONCE_SIZE: Final = 32
NO_CID: Final = bytes(CID_SIZE)
"""The destination of a HELLO, whose sender knows no cid of the peer's yet."""

SHORT_HEADER: Final = 13
LARGE: Final = 4096
"""Bytes above which a copy costs more than a memoryview."""
TAG: Final = 16
SHORT_FIRST_BYTE: Final = 0x40
KEY_PHASE_BIT: Final = 0x04

LONG_HEADER: Final = 21
HELLO_MIN: Final = 256
HELLO_MAX: Final = MIN_DATAGRAM
HINT_MAX: Final = 32
TOKEN_MAX: Final = 64
CHALLENGE_SIZE: Final = 142
CHALLENGE_HEAD: Final = 89
"""How much of a CHALLENGE the transcript covers: all but the cookie."""
COOKIE_SIZE: Final = 53
COOKIE_TH1: Final = slice(5, 37)
"""The one part of a cookie that the initiator may look at."""
PROOF_HEAD: Final = 206
"""AUTH_PROOF up to its tag Ta: the AAD of its sealed part."""
PROOF_SEALED: Final = 238
"""Where AUTH_PROOF goes on after Ta: the length of the sealed part, and the part."""
FINAL_HEAD: Final = 22
"""FINAL up to its tag Tb: the AAD of its sealed part."""
FINAL_SEALED: Final = 54
PROOF_SIZE: Final = MIN_DATAGRAM
FINAL_SIZE: Final = MIN_DATAGRAM
PROOF_ROOM: Final = PROOF_SIZE - PROOF_SEALED - 2 - TAG
"""Plaintext bytes in a full-sized AUTH_PROOF: 944."""
FINAL_ROOM: Final = FINAL_SIZE - FINAL_SEALED - 2 - TAG
"""Plaintext bytes in a full-sized FINAL: 1128."""
RETRY_TOKEN_SIZE: Final = 21
REJECT_SIZE: Final = 38
ECHO_SIZE: Final = 16

_LONG_FORM: Final = 0xC0
_HEADER = Struct(">BI8s8s")
_HELLO = Struct(">BI8s8s32sHH")
_CHALLENGE = Struct(">BI8s8s32s32sHH53s")
_PROOF = Struct(">BI8s8s32s32sHH53s32s32s32sH")
_FINAL = Struct(">BI8s8sB32sH")
_RETRY = Struct(">BI8s8s32s21s")
_REJECT = Struct(">BI8s8sB16s")
_VERSIONS = Struct(">BI8s8s32sB")


class HandshakeType(IntEnum):
    """The low bits of a handshake message's first byte."""

    HELLO = 1
    CHALLENGE = 2
    AUTH_PROOF = 3
    FINAL = 4
    RETRY = 5
    REJECT = 6
    VERSIONS = 7


_TYPES: Final = {_LONG_FORM | kind: kind for kind in HandshakeType}
"""By a message's first byte."""


class Family(Enum):
    """What a datagram's first byte says it is."""

    HANDSHAKE = "handshake"
    PROTECTED = "protected"
    DHT = "dht"
    UNKNOWN = "unknown"


class Flags(IntEnum):
    """HELLO's and CHALLENGE's flags, a bit each. Bits not named here are ignored."""

    NAMED = 1
    """The initiator named the peer it wants: that node id goes into CPace's channel id."""
    PREFER_CHACHA = 2
    """ChaCha20-Poly1305 rather than AES; counts only if both sides set it."""


class RejectCode(IntEnum):
    """Why a responder declined an AUTH_PROOF."""

    AUTHENTICATION = 1
    BUSY = 2
    REFUSED = 3


class Header(NamedTuple):
    """The first 21 bytes of a handshake message."""

    type: HandshakeType
    version: int
    dcid: bytes
    scid: bytes


def classify(first_byte: int) -> Family:
    """Which layer a datagram belongs to, by its first byte."""
    if 0x40 <= first_byte <= 0x7F:
        return Family.PROTECTED
    if first_byte in _TYPES:
        return Family.HANDSHAKE
    return Family.DHT if first_byte < 0x40 else Family.UNKNOWN


def parse_header_untrusted(data: bytes) -> Header:
    """The header of a handshake message of any version.

    :raises Violation: if it is none.
    """
    if len(data) < LONG_HEADER:
        raise _malformed("handshake message shorter than its header")
    first, version, dcid, scid = _HEADER.unpack_from(data)
    kind = _TYPES.get(first)
    if kind is None:
        raise _malformed(f"first byte {first:#04x} is no handshake message's")
    return Header(kind, version, dcid, scid)


class Hello(NamedTuple):
    """The initiator's offer. ``versions`` are all it speaks; ``hint`` (≤32 bytes) and ``token`` (≤64) may be empty."""

    version: int
    scid: bytes
    nonce_i: bytes
    suites: int
    flags: int
    hint: bytes
    token: bytes
    versions: tuple[int, ...]

    def encode(self, pad_to: int = HELLO_MIN) -> bytes:
        """The datagram, zero-padded to ``pad_to`` bytes (0 on WebSocket)."""
        fixed = _HELLO.pack(
            _LONG_FORM | HandshakeType.HELLO, self.version, NO_CID, self.scid, self.nonce_i, self.suites, self.flags
        )
        tail = bytes((len(self.hint),)) + self.hint + bytes((len(self.token),)) + self.token
        tail += struct.pack(f">B{len(self.versions)}I", len(self.versions), *self.versions)
        return (fixed + tail).ljust(pad_to, b"\0")


def parse_hello_untrusted(data: bytes) -> Hello:
    """HELLO; what follows the list of versions is padding and not looked at (the transcript covers it).

    :raises Violation: if it is malformed.
    """
    if not _HELLO.size <= len(data) <= HELLO_MAX:
        raise _malformed(f"HELLO of {len(data)} bytes")
    _, version, _, scid, nonce_i, suites, flags = _HELLO.unpack_from(data)
    hint, at = _short_field_untrusted(data, _HELLO.size, HINT_MAX)
    token, at = _short_field_untrusted(data, at, TOKEN_MAX)
    return Hello(version, scid, nonce_i, suites, flags, hint, token, _version_list_untrusted(data, at))


class Challenge(NamedTuple):
    """The responder's share. ``suite`` is one bit; ``cookie`` is 53 bytes that only the responder can read."""

    version: int
    dcid: bytes
    scid: bytes
    nonce_r: bytes
    yb: bytes
    suite: int
    flags: int
    cookie: bytes = bytes(COOKIE_SIZE)

    def encode(self) -> bytes:
        """The 142 bytes; the first 89 don't depend on the cookie."""
        return _CHALLENGE.pack(
            _LONG_FORM | HandshakeType.CHALLENGE,
            self.version,
            self.dcid,
            self.scid,
            self.nonce_r,
            self.yb,
            self.suite,
            self.flags,
            self.cookie,
        )


def parse_challenge_untrusted(data: bytes) -> Challenge:
    """CHALLENGE.

    :raises Violation: if it is malformed.
    """
    if len(data) != CHALLENGE_SIZE:
        raise _malformed(f"CHALLENGE of {len(data)} bytes")
    return Challenge(*_CHALLENGE.unpack(data)[1:])


class AuthProof(NamedTuple):
    """AUTH_PROOF's clear fields; the sealed part stays in the datagram from ``PROOF_SEALED`` on."""

    version: int
    dcid: bytes
    scid: bytes
    nonce_i: bytes
    nonce_r: bytes
    suite: int
    flags: int
    cookie: bytes
    yb: bytes
    ya: bytes
    ta: bytes = bytes(32)

    def head(self) -> bytes:
        """The 206 bytes before Ta."""
        fields = (self.version, self.dcid, self.scid, self.nonce_i, self.nonce_r, self.suite, self.flags, self.cookie)
        return _PROOF.pack(_LONG_FORM | HandshakeType.AUTH_PROOF, *fields, self.yb, self.ya, self.ta, 0)[:PROOF_HEAD]


def parse_auth_proof_untrusted(data: bytes) -> AuthProof:
    """AUTH_PROOF. On UDP its length is 1200 bytes, which is for the caller to ask for; here it may be shorter.

    :raises Violation: if it is malformed.
    """
    if not _PROOF.size + TAG <= len(data) <= PROOF_SIZE:
        raise _malformed(f"AUTH_PROOF of {len(data)} bytes")
    *fields, sealed = _PROOF.unpack_from(data)
    if _PROOF.size + sealed != len(data):
        raise _malformed("AUTH_PROOF's sealed part does not end where the datagram does")
    return AuthProof(*fields[1:])


class FinalMessage(NamedTuple):
    """FINAL's clear fields; the sealed part stays in the datagram from ``FINAL_SEALED`` on."""

    version: int
    dcid: bytes
    scid: bytes
    tb: bytes = bytes(32)

    def head(self) -> bytes:
        """The 22 bytes before Tb."""
        first = _LONG_FORM | HandshakeType.FINAL
        return _FINAL.pack(first, self.version, self.dcid, self.scid, 0, self.tb, 0)[:FINAL_HEAD]


def parse_final_untrusted(data: bytes) -> FinalMessage:
    """FINAL.

    :raises Violation: if it is malformed.
    """
    if not _FINAL.size + TAG <= len(data) <= FINAL_SIZE:
        raise _malformed(f"FINAL of {len(data)} bytes")
    _, version, dcid, scid, reserved, tb, sealed = _FINAL.unpack_from(data)
    if reserved or _FINAL.size + sealed != len(data):
        raise _malformed("FINAL's fixed fields don't fit the datagram")
    return FinalMessage(version, dcid, scid, tb)


def sealed_length(sealed: bytes) -> bytes:
    """The sealed part with its length in front, as it ends AUTH_PROOF and FINAL."""
    return len(sealed).to_bytes(2, "big") + sealed


@dataclass(frozen=True, slots=True)
class Retry:
    """The responder wants to see ``token`` (21 bytes) in a HELLO from that address before it does any work."""

    version: int
    dcid: bytes
    nonce_i: bytes
    token: bytes

    def encode(self) -> bytes:
        """The 74 bytes."""
        first = _LONG_FORM | HandshakeType.RETRY
        return _RETRY.pack(first, self.version, self.dcid, NO_CID, self.nonce_i, self.token)


def parse_retry_untrusted(data: bytes) -> Retry:
    """RETRY.

    :raises Violation: if it is malformed.
    """
    if len(data) != _RETRY.size:
        raise _malformed(f"RETRY of {len(data)} bytes")
    _, version, dcid, _, nonce_i, token = _RETRY.unpack(data)
    return Retry(version, dcid, nonce_i, token)


@dataclass(frozen=True, slots=True)
class Reject:
    """The responder declines the AUTH_PROOF whose SHA-256 begins with ``echo`` (16 bytes). Not authenticated."""

    version: int
    dcid: bytes
    scid: bytes
    code: RejectCode
    echo: bytes

    def encode(self) -> bytes:
        """The 38 bytes."""
        first = _LONG_FORM | HandshakeType.REJECT
        return _REJECT.pack(first, self.version, self.dcid, self.scid, self.code, self.echo)


def parse_reject_untrusted(data: bytes) -> Reject:
    """REJECT.

    :raises Violation: if it is malformed or its code is not a known one.
    """
    if len(data) != REJECT_SIZE:
        raise _malformed(f"REJECT of {len(data)} bytes")
    _, version, dcid, scid, code, echo = _REJECT.unpack(data)
    if not RejectCode.AUTHENTICATION <= code <= RejectCode.REFUSED:
        raise _malformed(f"REJECT code {code}")
    return Reject(version, dcid, scid, RejectCode(code), echo)


@dataclass(frozen=True, slots=True)
class Versions:
    """What the responder speaks, most preferred first, in answer to a HELLO of a version it does not."""

    version: int
    dcid: bytes
    nonce_i: bytes
    versions: tuple[int, ...]

    def encode(self) -> bytes:
        """54 bytes and 4 for each version."""
        first = _LONG_FORM | HandshakeType.VERSIONS
        fixed = _VERSIONS.pack(first, self.version, self.dcid, NO_CID, self.nonce_i, len(self.versions))
        return fixed + struct.pack(f">{len(self.versions)}I", *self.versions)


def parse_versions_untrusted(data: bytes) -> Versions:
    """VERSIONS.

    :raises Violation: if it is malformed.
    """
    if len(data) < _VERSIONS.size:
        raise _malformed(f"VERSIONS of {len(data)} bytes")
    _, version, dcid, _, nonce_i, count = _VERSIONS.unpack_from(data)
    if _VERSIONS.size + 4 * count != len(data):
        raise _malformed("VERSIONS does not end where its list does")
    return Versions(version, dcid, nonce_i, _version_list_untrusted(data, _VERSIONS.size - 1))


def choose_version(preferred: tuple[int, ...], offered: tuple[int, ...]) -> int | None:
    """The first of ``preferred`` that is among ``offered``; None where they share none."""
    for version in preferred:
        if version in offered:
            return version
    return None


def _short_field_untrusted(data: bytes, at: int, most: int) -> tuple[bytes, int]:
    """A field of at most ``most`` bytes behind a length byte at ``at``, and where the next one begins."""
    if at >= len(data):
        raise _malformed("handshake message ends inside a field")
    stop = at + 1 + data[at]
    if data[at] > most or stop > len(data):
        raise _malformed("field of a handshake message is longer than allowed")
    return data[at + 1 : stop], stop


def _version_list_untrusted(data: bytes, at: int) -> tuple[int, ...]:
    """The list of versions whose count byte is at ``at``; one at least."""
    if at >= len(data) or not data[at] or at + 1 + 4 * data[at] > len(data):
        raise _malformed("list of versions is empty or cut short")
    return struct.unpack_from(f">{data[at]}I", data, at + 1)


def _malformed(reason: str) -> Violation:
    return Violation(ErrorCode.PROTOCOL_VIOLATION, reason)
