"""Targets: the parsers. They raise Violation and nothing else, and what they accept can be written and read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from fuzz.entropy import entropy_of
from stt_backends.pyca import PycaCrypto
from stt_core import packet
from stt_core.errors import Violation
from stt_core.forwarding import parse_request_untrusted
from stt_core.frames import Error, Frame, SessionClose, parse_frames_untrusted
from stt_core.handshake.identity import Binding, Identity
from stt_core.handshake.sealed import parse_sealed_untrusted, seal_content
from stt_core.parameters import encode_tlvs, parse_parameters_untrusted, parse_tlvs_untrusted
from stt_core.streams.messages import length_prefix, parse_length_untrusted
from stt_core.types import Role

PACKETS: Final[tuple[Callable[[bytes], object], ...]] = (
    packet.parse_header_untrusted,
    packet.parse_hello_untrusted,
    packet.parse_challenge_untrusted,
    packet.parse_auth_proof_untrusted,
    packet.parse_final_untrusted,
    packet.parse_retry_untrusted,
    packet.parse_reject_untrusted,
    packet.parse_versions_untrusted,
)

_CRYPTO: Final = PycaCrypto()
_BINDING: Final = Binding(b"t" * 32, b"a" * 32, b"b" * 32)


def _encode(frames: Sequence[Frame]) -> bytes:
    return b"".join(frame.encode() for frame in frames)


def target_frames(data: bytes) -> None:
    """The frames of an opened packet: there is one way to write each, and nothing of the packet is left unread."""
    try:
        frames = parse_frames_untrusted(data)
    except Violation:
        return
    if not frames:
        assert data
        assert not data.strip(b"\0")
        return
    encoded = _encode(frames)
    if not any(isinstance(frame, SessionClose | Error) for frame in frames):
        assert data == encoded.ljust(len(data), b"\0")
        return
    # A reason that is too long or no text is cut and mended, once.
    again = parse_frames_untrusted(encoded)
    assert [type(frame) for frame in again] == [type(frame) for frame in frames]
    assert parse_frames_untrusted(_encode(again)) == again


def target_packet(data: bytes) -> None:
    """Every message of the handshake, by every parser, whatever its first byte says."""
    for parse in PACKETS:
        with suppress(Violation):
            parse(data)


def target_parameters(data: bytes) -> None:
    """The TLVs of an introduction and the transport parameters in them."""
    try:
        values = parse_tlvs_untrusted(data)
    except Violation:
        return
    assert parse_tlvs_untrusted(encode_tlvs(values)) == values
    try:
        parameters = parse_parameters_untrusted(values)
    except Violation:
        return
    assert parse_parameters_untrusted(parse_tlvs_untrusted(parameters.encode())) == parameters


def target_introduction(data: bytes) -> None:
    """The sealed part of AUTH_PROOF and FINAL, sealed by somebody who holds the seed.

    Its first byte says how much of a genuine introduction comes before the fuzzed rest.
    """
    identity = Identity(b"n" * 32, _CRYPTO, entropy_of("introduction"))
    genuine = seal_content(Role.INITIATOR, b"node", parse_parameters_untrusted({}), identity, _BINDING, 0)
    content = genuine[: data[0]] + data[1:] if data else b""
    with suppress(Violation):
        parse_sealed_untrusted(content, _CRYPTO, Role.INITIATOR, _BINDING)


def target_message_length(data: bytes) -> None:
    """The length in front of a message: one encoding each."""
    try:
        found = parse_length_untrusted(data)
    except Violation:
        return
    if found is not None:
        length, size = found
        assert length_prefix(length) == data[:size]


def target_forward_request(data: bytes) -> None:
    """What a stream asks to be connected to: one spelling for each target."""
    try:
        purpose = data.decode()
        target = parse_request_untrusted(purpose)
    except (UnicodeDecodeError, Violation):
        return
    assert target.purpose == purpose
    assert len(data) <= 255
    target.host.encode("idna")  # which is what the system's resolver does first
