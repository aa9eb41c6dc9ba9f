"""What an observer of the network can do with a capture: look for known bytes, link sessions, catch reused nonces.

Rule: works on datagrams as they were on the wire and knows of the protocol only what anybody can read in its
description. Nothing here has a key.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from stt_core.packet import CID_SIZE, NO_CID, SHORT_HEADER, TAG, HandshakeType

WINDOW = 8
"""Any run of this many bytes of a secret counts: by chance one turns up in 1 of 2^64 places."""


class Leak(NamedTuple):
    """Part of a secret in a datagram."""

    name: str
    form: str
    datagram: int
    offset: int


def handshake_type(data: bytes) -> HandshakeType | None:
    """Which handshake message this is; None for anything else."""
    if not data or data[0] & 0xC0 != 0xC0 or data[0] & 0x3F not in set(HandshakeType):
        return None
    return HandshakeType(data[0] & 0x3F)


def is_protected(data: bytes) -> bool:
    """Whether this has the form of a protected packet."""
    return len(data) > SHORT_HEADER + TAG and data[0] & 0xC0 == 0x40


def connection_ids(datagrams: Iterable[bytes]) -> set[bytes]:
    """Every connection id in a header: what an observer would link packets by."""
    found: set[bytes] = set()
    for data in datagrams:
        if handshake_type(data) is not None:
            found |= {data[5:13], data[13:21]}
        elif is_protected(data):
            found.add(data[1:9])
    return {cid for cid in found if len(cid) == CID_SIZE} - {NO_CID}


def find_leaks(datagrams: Iterable[bytes], secrets: Mapping[str, bytes], window: int = WINDOW) -> list[Leak]:
    """Where any ``window`` successive bytes of a secret (or all of a shorter one) can be read, in common disguises.

    Looks for the bytes as they are, backwards, in hex, in Base64, and for their SHA-256.
    """
    needles: dict[int, dict[bytes, tuple[str, str]]] = {}
    for name, secret in secrets.items():
        if len(secret) < 6:
            raise ValueError(f"{name} is {len(secret)} bytes: so few turn up by chance")
        for form, disguised in _disguises(secret):
            size = min(window, len(disguised))
            table = needles.setdefault(size, {})
            for at in range(len(disguised) - size + 1):
                table.setdefault(disguised[at : at + size], (name, form))
    return [
        Leak(*table[data[at : at + size]], number, at)
        for number, data in enumerate(datagrams)
        for size, table in needles.items()
        for at in range(len(data) - size + 1)
        if data[at : at + size] in table
    ]


def _disguises(secret: bytes) -> Iterable[tuple[str, bytes]]:
    yield "plain", secret
    yield "reversed", secret[::-1]
    yield "hex", secret.hex().encode()
    yield "HEX", secret.hex().upper().encode()
    for shift in range(3):  # where in a longer text it would begin
        if len(secret) > shift + 6:
            yield "base64", base64.b64encode(secret[shift:])[:-4]
    yield "sha256", hashlib.sha256(secret).digest()


def looks_random(data: bytes) -> bool:
    """Whether this neither compresses nor favours any byte value; wants 10,000 bytes or more to judge by."""
    expected = len(data) / 256
    chi_square = sum((data.count(value) - expected) ** 2 / expected for value in range(256))
    return len(zlib.compress(data, 9)) >= len(data) and chi_square < 400.0  # 255 expected, 400 is 6 sigma


def reused_nonces(datagrams: Iterable[bytes]) -> list[bytes]:
    """Headers (connection id and masked packet number) under which two different texts were sealed."""
    sealed: dict[bytes, bytes] = {}
    reused: list[bytes] = []
    for data in datagrams:
        if is_protected(data):
            header = data[1:SHORT_HEADER]  # without the key phase, which changes the key and never the number
            if sealed.setdefault(header, data) != data:
                reused.append(header)
    return reused
