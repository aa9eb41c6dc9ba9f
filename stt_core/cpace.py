"""CPace, the password-authenticated key exchange (draft-irtf-cfrg-cpace, CPACE-X25519-SHA512, initiator-responder).

Rule: what depends on the password leaves this module only as a share or as a hash of the shared point. A recording of
the two shares gives no way to test a guess of the password; taking part in one exchange tests one guess.

The map to the curve runs on Python integers, whose speed depends on their values. Its two slow steps therefore work
on operands blinded with fresh entropy, and nothing branches on a secret. That hides the password from whoever times
the network. It does not hide it from a hostile process on the same machine, which sees caches and memory traffic too.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from stt_core.crypto import ScalarMult
from stt_core.types import Entropy

FIELD_PRIME: Final = 2**255 - 19
ELEMENT_SIZE: Final = 32
"""Bytes in a scalar, in a share and in a field element."""
ISK_SIZE: Final = 64

_CURVE_A: Final = 486662
_DSI: Final = b"CPace255"
_DSI_ISK: Final = b"CPace255_ISK"
_HASH_BLOCK: Final = 128
"""SHA-512's input block, which the password shares with nothing but its padding."""
_INITIATOR_DATA: Final = b"i"
_RESPONDER_DATA: Final = b"r"


_LEB128: Final = [bytes((n,)) for n in range(0x80)]
"""Nearly every length that is written; :func:`lv` is called some forty times in a handshake."""


def leb128(n: int) -> bytes:
    """``n`` in unsigned LEB128, 7 bits a byte, lowest first; the shortest form.

    :raises ValueError: if ``n`` is negative.
    """
    if n < 0:
        raise ValueError(f"LEB128 of {n}: only numbers from 0 up have one here")
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


_longer = lru_cache(maxsize=64)(leb128)
"""The others, which are few as well: handshake messages are all of a size."""


def lv(*parts: bytes) -> bytes:
    """Each part preceded by its LEB128 length, concatenated: the draft's ``lv_cat``. No two inputs give one output."""
    joined = b""
    for part in parts:
        size = len(part)
        joined += (_LEB128[size] if size < 0x80 else _longer(size)) + part
    return joined


def generator_string(password: bytes, channel_id: bytes, session_id: bytes) -> bytes:
    """What is hashed to the generator: zeros fill the first hash block after the password (draft, appendix A.2)."""
    padding = max(0, _HASH_BLOCK - 1 - len(lv(password)) - len(lv(_DSI)))
    return lv(_DSI, password, bytes(padding), channel_id, session_id)


def map_to_curve(field_bytes: bytes, entropy: Entropy) -> bytes:
    """Elligator 2 onto Curve25519: the u-coordinate, 32 bytes, for 32 uniform bytes (RFC 9380 section 6.7.1).

    The top bit is ignored, as RFC 7748's ``decodeUCoordinate`` says. Takes 65 bytes of ``entropy`` for the blinding;
    the result does not depend on them.
    """
    p = FIELD_PRIME
    noise = entropy(65)
    # Never zero, whatever the entropy: a blind of zero would turn a wrong answer into a plausible one.
    blind = 1 + int.from_bytes(noise[:32], "little") % (p - 1)
    root = 1 + int.from_bytes(noise[32:64], "little") % (p - 1)
    flip = noise[64] & 1

    r = (int.from_bytes(field_bytes, "little") & (1 << 255) - 1) % p
    # v = -A / (1 + 2 r^2). The denominator is never 0: -1/2 is no square in this field.
    denominator = 1 + 2 * r * r
    v = -_CURVE_A * blind * pow(denominator * blind % p, -1, p) % p
    # Is v on the curve, or on its twist? A random square leaves the Legendre symbol as it is and the factor 2, which
    # is no square, turns it round: the symbol's operand and its value are both uniform, whatever the password.
    on_curve = v * (v * v + _CURVE_A * v + 1) % p
    outcome = non_residue(on_curve * root * root * (1 + flip) % p)
    # Both candidates exist before one is picked.
    candidates = (v, (-v - _CURVE_A) % p)
    return candidates[outcome ^ flip].to_bytes(ELEMENT_SIZE, "little")


def non_residue(a: int) -> int:
    """1 where ``a``, from 1 to p - 1, is no square mod p, 0 where it is one.

    By quadratic reciprocity (Handbook of Applied Cryptography, algorithm 2.149), which costs a quarter of Euler's
    power. What it does depends on ``a``, which therefore has to be blinded.
    """
    n = FIELD_PRIME
    odd = 0
    while a:
        if not a & 1:
            twos = (a & -a).bit_length() - 1
            a >>= twos
            if twos & 1 and n & 7 in (3, 5):
                odd ^= 1
        if a & n & 2:  # both are 3 mod 4
            odd ^= 1
        a, n = n % a, a
    return odd


def generator(password: bytes, channel_id: bytes, session_id: bytes, entropy: Entropy) -> bytes:
    """The 32-byte generator that only holders of ``password`` can compute (draft section 7.2, ``calculate_generator``).

    ``channel_id`` is the draft's CI and ``session_id`` its sid; ``entropy`` blinds, it does not change the result.
    """
    digest = hashlib.sha512(generator_string(password, channel_id, session_id)).digest()
    return map_to_curve(digest[:ELEMENT_SIZE], entropy)


def share(multiply: ScalarMult, generator: bytes) -> bytes:
    """The public share, 32 bytes, of a random scalar, which must never be used with another generator.

    :raises ValueError: if ``generator`` has low order.
    """
    return multiply(generator)


def shared_key(
    multiply: ScalarMult,
    peer_share: bytes,
    session_id: bytes,
    initiator_share: bytes,
    responder_share: bytes,
) -> bytes:
    """The 64-byte ISK both sides get if, and only if, password, channel id, session id and shares were the same.

    The associated data are ``b"i"`` and ``b"r"`` (docs/protocol.md, "Keys").

    :raises ValueError: if ``peer_share`` has low order, on the curve or on its twist: the exchange must be dropped.
    """
    point = multiply(peer_share)
    transcript = transcript_ir(initiator_share, _INITIATOR_DATA, responder_share, _RESPONDER_DATA)
    return intermediate_key(session_id, point, transcript)


def transcript_ir(
    initiator_share: bytes, initiator_data: bytes, responder_share: bytes, responder_data: bytes
) -> bytes:
    """The draft's ``transcript_ir``: both shares with their associated data, the initiator's first."""
    return lv(initiator_share, initiator_data) + lv(responder_share, responder_data)


def intermediate_key(session_id: bytes, point: bytes, transcript: bytes) -> bytes:
    """The ISK from the shared point, 64 bytes (draft section 6.2). The point itself must go no further."""
    return hashlib.sha512(lv(_DSI_ISK, session_id, point) + transcript).digest()
