"""Handshake messages: the layout byte for byte, and parsers that take any bytes at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from stt_core import packet
from stt_core.errors import Violation
from stt_core.packet import (
    AuthProof,
    Challenge,
    Family,
    FinalMessage,
    HandshakeType,
    Hello,
    Reject,
    RejectCode,
    Retry,
    Versions,
)

HERE = b"<-here->"
THERE = b"<there->"
NONCE_I = bytes(range(32))
NONCE_R = bytes(range(32, 64))

HELLO = Hello(
    packet.VERSION, HERE, NONCE_I, suites=3, flags=1, hint=b"hint", token=b"token", versions=(packet.VERSION, 7)
)
CHALLENGE = Challenge(packet.VERSION, HERE, THERE, NONCE_R, b"Y" * 32, suite=1, flags=1, cookie=bytes(range(53)))
PROOF = AuthProof(
    packet.VERSION,
    THERE,
    HERE,
    NONCE_I,
    NONCE_R,
    1,
    1,
    cookie=bytes(range(53)),
    yb=b"Y" * 32,
    ya=b"y" * 32,
    ta=b"T" * 32,
)
FINAL = FinalMessage(packet.VERSION, HERE, THERE, tb=b"T" * 32)
RETRY = Retry(packet.VERSION, HERE, NONCE_I, token=bytes(range(21)))
REJECT = Reject(packet.VERSION, HERE, THERE, RejectCode.BUSY, echo=bytes(range(16)))
VERSIONS = Versions(9, HERE, NONCE_I, (packet.VERSION, 7))

PROOF_BYTES = PROOF.head() + PROOF.ta + packet.sealed_length(b"s" * 960)
FINAL_BYTES = FINAL.head() + FINAL.tb + packet.sealed_length(b"s" * 1144)

Parser = Callable[[bytes], Any]

MESSAGES: list[tuple[Any, bytes, Parser]] = [
    (HELLO, HELLO.encode(), packet.parse_hello_untrusted),
    (CHALLENGE, CHALLENGE.encode(), packet.parse_challenge_untrusted),
    (PROOF, PROOF_BYTES, packet.parse_auth_proof_untrusted),
    (FINAL, FINAL_BYTES, packet.parse_final_untrusted),
    (RETRY, RETRY.encode(), packet.parse_retry_untrusted),
    (REJECT, REJECT.encode(), packet.parse_reject_untrusted),
    (VERSIONS, VERSIONS.encode(), packet.parse_versions_untrusted),
]
by_message = pytest.mark.parametrize(
    ("message", "data", "parse"), MESSAGES, ids=[type(m[0]).__name__ for m in MESSAGES]
)


@by_message
def test_a_message_reads_back_as_it_was_written(message: Any, data: bytes, parse: Parser) -> None:
    assert parse(data) == message


@by_message
def test_a_message_cut_anywhere_is_dropped(message: Any, data: bytes, parse: Parser) -> None:
    # HELLO's padding is not looked at: it may only be cut where something else begins to be missing.
    whole = len(HELLO.encode(0)) if isinstance(message, Hello) else len(data)
    for size in range(whole):
        with pytest.raises(Violation):
            parse(data[:size])


@by_message
def test_a_message_with_bytes_after_it_is_dropped(message: Any, data: bytes, parse: Parser) -> None:
    if isinstance(message, Hello):
        assert parse(data + b"x") == message
        data = data.ljust(packet.HELLO_MAX, b"\0")
    with pytest.raises(Violation):
        parse(data + b"x")


@by_message
def test_whatever_bytes_come_the_parser_raises_nothing_but_a_violation(
    message: Any, data: bytes, parse: Parser
) -> None:
    del message
    for number in range(400):
        noise = hashlib.shake_256(b"%d" % number).digest(len(data))
        start = number * 7 % len(data)
        damaged = data[:start] + noise[start : start + 1 + number % 9] + data[start + 1 + number % 9 :]
        try:
            parse(damaged)
        except Violation:
            continue


def test_the_layout_is_the_published_one() -> None:
    """Offsets from docs/protocol.md, "Handshake"."""
    hello = HELLO.encode()
    assert hello[:5] == b"\xc1STT1"
    assert (hello[5:13], hello[13:21], hello[21:53]) == (bytes(8), HERE, NONCE_I)
    assert hello[53:57] == b"\0\x03\0\x01"
    assert hello[57:68] == b"\x04hint\x05token"
    assert hello[68:77] == b"\x02STT1\0\0\0\x07"
    assert hello[77:] == bytes(256 - 77)

    challenge = CHALLENGE.encode()
    assert len(challenge) == 142
    assert challenge[:21] == b"\xc2STT1" + HERE + THERE
    assert challenge[21:53] == NONCE_R
    assert challenge[53:85] == b"Y" * 32
    assert challenge[85:89] == b"\0\x01\0\x01"
    assert challenge[89:] == bytes(range(53))

    assert len(PROOF.head()) == 206
    assert len(PROOF_BYTES) == 1200
    assert PROOF_BYTES[:21] == b"\xc3STT1" + THERE + HERE
    assert PROOF_BYTES[21:89] == NONCE_I + NONCE_R + b"\0\x01\0\x01"
    assert PROOF_BYTES[89:142] == bytes(range(53))
    assert PROOF_BYTES[142:238] == b"Y" * 32 + b"y" * 32 + b"T" * 32
    assert PROOF_BYTES[238:240] == (960).to_bytes(2, "big")

    assert len(FINAL.head()) == 22
    assert len(FINAL_BYTES) == 1200
    assert FINAL_BYTES[:54] == b"\xc4STT1" + HERE + THERE + b"\0" + b"T" * 32
    assert FINAL_BYTES[54:56] == (1144).to_bytes(2, "big")

    assert RETRY.encode() == b"\xc5STT1" + HERE + bytes(8) + NONCE_I + bytes(range(21))
    assert REJECT.encode() == b"\xc6STT1" + HERE + THERE + b"\x02" + bytes(range(16))
    assert VERSIONS.encode() == b"\xc7\0\0\0\x09" + HERE + bytes(8) + NONCE_I + b"\x02STT1\0\0\0\x07"


def test_sealed_parts_of_full_datagrams_have_the_room_they_should() -> None:
    assert packet.PROOF_ROOM == 944
    assert packet.FINAL_ROOM == 1128


@pytest.mark.parametrize(
    ("first", "last", "family"),
    [
        (0x00, 0x3F, Family.DHT),
        (0x40, 0x7F, Family.PROTECTED),
        (0x80, 0xC0, Family.UNKNOWN),
        (0xC1, 0xC7, Family.HANDSHAKE),
        (0xC8, 0xFF, Family.UNKNOWN),
    ],
)
def test_the_first_byte_says_what_a_datagram_is(first: int, last: int, family: Family) -> None:
    assert {packet.classify(byte) for byte in range(first, last + 1)} == {family}


def test_a_header_is_read_whatever_the_version() -> None:
    header = packet.parse_header_untrusted(VERSIONS.encode())
    assert header == (HandshakeType.VERSIONS, 9, HERE, packet.NO_CID)
    with pytest.raises(Violation):
        packet.parse_header_untrusted(b"\xc8" + HELLO.encode()[1:])


@pytest.mark.parametrize(
    "damaged",
    [
        HELLO.encode()[:57] + b"\x21" + HELLO.encode()[58:],
        HELLO.encode()[:62] + b"\x41" + HELLO.encode()[63:],
        HELLO.encode()[:68] + b"\x00" + HELLO.encode()[69:],
        HELLO.encode()[:68] + b"\xff" + HELLO.encode()[69:],
    ],
    ids=["hint too long", "token too long", "no versions", "versions cut short"],
)
def test_hello_fields_out_of_bounds_are_dropped(damaged: bytes) -> None:
    with pytest.raises(Violation):
        packet.parse_hello_untrusted(damaged)


@pytest.mark.parametrize("code", [0, 4, 255])
def test_an_unknown_reject_code_is_dropped(code: int) -> None:
    data = REJECT.encode()
    with pytest.raises(Violation):
        packet.parse_reject_untrusted(data[:21] + bytes((code,)) + data[22:])


def test_a_sealed_part_that_does_not_end_with_the_datagram_is_dropped() -> None:
    for length in (0, 959, 961, 65535):
        with pytest.raises(Violation):
            packet.parse_auth_proof_untrusted(PROOF_BYTES[:238] + length.to_bytes(2, "big") + PROOF_BYTES[240:])


def test_finals_reserved_byte_is_zero() -> None:
    with pytest.raises(Violation):
        packet.parse_final_untrusted(FINAL_BYTES[:21] + b"\x01" + FINAL_BYTES[22:])


def test_the_version_chosen_is_the_most_preferred_of_those_in_common() -> None:
    assert packet.choose_version((3, 2, 1), (1, 2)) == 2
    assert packet.choose_version((3,), (1, 2)) is None
