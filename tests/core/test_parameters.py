"""Transport parameters: what one side declares is what the other reads, and nothing out of range gets through."""

from __future__ import annotations

import pytest

from stt_core.errors import ErrorCode, Violation
from stt_core.parameters import (
    Tlv,
    TransportParameters,
    encode_tlvs,
    parse_parameters_untrusted,
    parse_tlvs_untrusted,
)

FULL = TransportParameters(
    initial_max_data=2**62,
    initial_max_stream_data=2**62,
    max_streams=2**31,
    max_udp_payload=65_472,
    receive_buffer_hint=8_388_608,
    ack_delay=0.0125,
    idle_timeout=12.345,
    max_message=2**31,
    reset_token=bytes(range(16)),
)


def read(data: bytes) -> TransportParameters:
    return parse_parameters_untrusted(parse_tlvs_untrusted(data))


@pytest.mark.parametrize("parameters", [FULL, TransportParameters(), TransportParameters(idle_timeout=3, ack_delay=0)])
def test_a_declaration_reads_back_as_it_was_made(parameters: TransportParameters) -> None:
    assert read(parameters.encode()) == parameters


def test_nothing_declared_means_the_defaults() -> None:
    assert read(b"") == TransportParameters()
    assert read(bytes(500)) == TransportParameters()


def test_the_layout_is_the_published_one() -> None:
    data = TransportParameters(initial_max_data=5, reset_token=b"r" * 16).encode()
    assert data[:11] == b"\x01\0\x08" + (5).to_bytes(8, "big")
    assert data[-19:] == b"\x09\0\x10" + b"r" * 16
    assert b"\x06\0\x04" + (25_000).to_bytes(4, "big") in data
    assert b"\x07\0\x04" + (30_000).to_bytes(4, "big") in data


def test_unknown_types_are_ignored() -> None:
    assert read(encode_tlvs({200: b"later", Tlv.MAX_STREAMS: (9).to_bytes(4, "big")})).max_streams == 9


@pytest.mark.parametrize(
    "data",
    [
        encode_tlvs({1: bytes(8)}) * 2,
        encode_tlvs({200: b""}) * 2,
        b"\x01\0",
        b"\x01\0\x08" + bytes(7),
        b"\x01\xff\xff",
        b"\0\0\0\x01",
        bytes(100) + encode_tlvs({1: bytes(8)}),
    ],
    ids=["twice", "unknown twice", "no length", "cut short", "huge", "dirty end", "after the end"],
)
def test_a_malformed_list_is_a_violation(data: bytes) -> None:
    with pytest.raises(Violation):
        parse_tlvs_untrusted(data)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Tlv.INITIAL_MAX_DATA, (2**62 + 1).to_bytes(8, "big")),
        (Tlv.INITIAL_MAX_DATA, bytes(4)),
        (Tlv.MAX_STREAMS, (2**31 + 1).to_bytes(4, "big")),
        (Tlv.MAX_UDP_PAYLOAD, (1199).to_bytes(4, "big")),
        (Tlv.ACK_DELAY, (1_000_001).to_bytes(4, "big")),
        (Tlv.IDLE_TIMEOUT, bytes(4)),
        (Tlv.MAX_MESSAGE, bytes(8)),
        (Tlv.MAX_MESSAGE, b""),
        (Tlv.RESET_TOKEN, bytes(15)),
    ],
)
def test_a_value_out_of_range_or_of_the_wrong_size_is_a_violation(kind: Tlv, value: bytes) -> None:
    with pytest.raises(Violation) as caught:
        read(encode_tlvs({kind: value}))
    assert caught.value.code is ErrorCode.PROTOCOL_VIOLATION


def test_every_prefix_of_a_declaration_is_one_or_a_violation() -> None:
    data = FULL.encode()
    for size in range(len(data)):
        try:
            read(data[:size])
        except Violation:
            continue


def test_the_reset_token_is_not_shown() -> None:
    assert "reset_token" not in repr(FULL)


def test_a_list_cannot_hold_what_its_length_field_cannot_say() -> None:
    with pytest.raises(ValueError, match="65535"):
        encode_tlvs({5: bytes(65_536)})
    with pytest.raises(ValueError, match="type from 1"):
        encode_tlvs({0: b""})
