"""Frames: written as RFC 6455 says, read whole or a byte at a time, and refused where they break it or our limits."""

from __future__ import annotations

import random
import sys
import tracemalloc

import pytest

from stt_backends.websocket.errors import CloseCode, FrameViolation
from stt_backends.websocket.framing import MAX_ASIDES, MAX_FRAME, Datagram, Framing
from stt_backends.websocket.masking import Mask, masked, masker
from stt_core.config import MAX_DATAGRAM
from tests.backends.websocket_bytes import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    NOT_LAST,
    PING,
    PONG,
    TEXT,
    feed,
    frame,
    under,
)

SIZES = (0, 1, 3, 125, 126, 127, 400, 401, 1200, 65_000, MAX_DATAGRAM)


def server() -> Framing:
    return Framing(client=False)


def client() -> Framing:
    return Framing(client=True)


def violation(framing: Framing, data: bytes, piece: int | None = None) -> FrameViolation:
    with pytest.raises(FrameViolation) as raised:
        feed(framing, data, piece)
    return raised.value


@pytest.mark.parametrize("mask", [masked, masker()])
@pytest.mark.parametrize("size", SIZES)
def test_masking_is_the_rfcs(mask: Mask, size: int) -> None:
    data = random.Random(size).randbytes(size)
    for kind in (bytes, bytearray, memoryview):
        assert mask(kind(data), KEY) == under(KEY, data)
    assert mask(memoryview(mask(data, KEY)), KEY) == data


def test_masking_takes_the_c_function_where_it_is_installed_and_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    assert masker() is not masked  # the tests' environment has it, for the websockets library is in it
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    assert masker.__wrapped__() is masked


def test_the_rfcs_examples_are_read() -> None:
    # Section 5.7 has them as text; what is said of binary messages is the same but for the opcode.
    assert feed(server(), bytes.fromhex("8285 37fa213d 7f9f4d5158")) == [b"Hello"]
    assert feed(client(), bytes.fromhex("8205 48656c6c6f")) == [b"Hello"]
    assert feed(client(), bytes.fromhex("0203 48656c 8002 6c6f")) == [b"Hello"]


@pytest.mark.parametrize("size", SIZES)
def test_what_one_side_writes_the_other_reads(size: int) -> None:
    data = random.Random(size).randbytes(size)
    for writer, reader in ((client(), server()), (server(), client())):
        assert feed(reader, b"".join(writer.encode(data))) == [data]


def test_a_client_draws_each_masking_key_from_the_entropy_it_was_given_and_none_twice() -> None:
    draws: list[bytes] = []

    def entropy(size: int) -> bytes:
        draws.append(random.Random(len(draws)).randbytes(size))
        return draws[-1]

    framing = Framing(client=True, entropy=entropy)
    keys = [framing.encode(b"")[0][2:] for _ in range(200)]
    assert len(set(keys)) == 200
    assert b"".join(draws).startswith(b"".join(keys))


@pytest.mark.parametrize("piece", [1, 2, 7, 4096])
def test_frames_in_any_pieces_give_the_same(piece: int) -> None:
    messages = [b"", b"a", b"b" * 126, b"c" * 5000]
    wire = b"".join(frame(BINARY, message) for message in messages) + frame(PING, b"?")
    framing = server()
    assert feed(framing, wire + wire, piece) == messages + messages
    assert framing.rest == b""


def test_what_is_not_whole_waits() -> None:
    framing = server()
    whole = frame(BINARY, b"datagram")
    assert feed(framing, whole + whole[:-1]) == [b"datagram"]
    assert framing.rest == whole[:-1]
    assert feed(framing, whole[-1:] + whole) == [b"datagram", b"datagram"]


def test_a_message_in_fragments_is_put_together_with_control_frames_between() -> None:
    framing = server()
    wire = frame(BINARY & NOT_LAST, b"one ") + frame(PING, b"?") + frame(CONTINUATION & NOT_LAST, b"two ")
    assert feed(framing, wire) == []
    assert feed(framing, frame(CONTINUATION, b"three") + frame(BINARY, b"next")) == [b"one two three", b"next"]
    assert framing.take_pong() == frame(PONG, b"?", masked=False)


def test_the_newest_ping_is_answered_and_the_others_are_not() -> None:
    framing = client()
    feed(framing, b"".join(frame(PING, bytes((number,)), masked=False) for number in range(100)))
    pong = framing.take_pong()
    assert pong is not None
    assert pong[:2] == bytes((PONG, 0x80 | 1))
    assert under(pong[2:6], pong[6:]) == bytes((99,))
    assert framing.take_pong() is None


def test_an_unasked_pong_is_passed_over() -> None:
    assert feed(server(), frame(PONG, b"!") + frame(BINARY, b"datagram")) == [b"datagram"]


@pytest.mark.parametrize(
    ("payload", "meaning"),
    [(b"", (1005, "")), (b"\x03\xe8", (1000, "")), (b"\x0f\xa0bye", (4000, "bye"))],
    ids=["no code", "no reason", "of an application"],
)
def test_a_close_frame_ends_what_is_read(payload: bytes, meaning: tuple[int, str]) -> None:
    framing = server()
    assert feed(framing, frame(BINARY, b"last") + frame(CLOSE, payload) + frame(BINARY, b"too late")) == [b"last"]
    assert framing.closed_by_peer == meaning
    assert framing.rest == b""


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (frame(BINARY, b"x", masked=False), CloseCode.PROTOCOL_ERROR),
        (frame(TEXT, b"text"), CloseCode.UNSUPPORTED_DATA),
        (frame(TEXT & NOT_LAST, b"te"), CloseCode.UNSUPPORTED_DATA),
        (frame(BINARY | 0x40, b"deflated"), CloseCode.PROTOCOL_ERROR),
        (frame(BINARY | 0x10, b"x"), CloseCode.PROTOCOL_ERROR),
        (frame(0x83, b"x"), CloseCode.PROTOCOL_ERROR),
        (frame(0x8B, b"x"), CloseCode.PROTOCOL_ERROR),
        (frame(CONTINUATION, b"of nothing"), CloseCode.PROTOCOL_ERROR),
        (frame(BINARY & NOT_LAST, b"one") + frame(BINARY, b"two"), CloseCode.PROTOCOL_ERROR),
        (frame(PING & NOT_LAST, b"half"), CloseCode.PROTOCOL_ERROR),
        (frame(PING, b"x" * 126), CloseCode.PROTOCOL_ERROR),
        (frame(CLOSE, b"x" * 126), CloseCode.PROTOCOL_ERROR),
        (frame(CLOSE, b"\x03"), CloseCode.PROTOCOL_ERROR),
        (frame(CLOSE, b"\x03\xed"), CloseCode.PROTOCOL_ERROR),
        (frame(CLOSE, b"\x00\x01"), CloseCode.PROTOCOL_ERROR),
        (frame(CLOSE, b"\x03\xe8\xff\xfe"), CloseCode.INVALID_PAYLOAD),
        (frame(BINARY, b"x", length=b"\x7e\x00\x01"), CloseCode.PROTOCOL_ERROR),
        (frame(BINARY, b"x", length=b"\x7f" + (126).to_bytes(8, "big")), CloseCode.PROTOCOL_ERROR),
        (frame(BINARY, length=b"\x7f" + (1 << 63).to_bytes(8, "big")), CloseCode.MESSAGE_TOO_BIG),
        (frame(BINARY, length=b"\x7f" + (MAX_DATAGRAM + 1 << 20).to_bytes(8, "big")), CloseCode.MESSAGE_TOO_BIG),
        (frame(BINARY, length=b"\x7e" + (MAX_DATAGRAM + 1).to_bytes(2, "big")), CloseCode.MESSAGE_TOO_BIG),
    ],
    ids=[
        *("not masked", "text", "text in fragments", "deflated", "reserved bit", "unknown opcode", "unknown control"),
        *("continuation of nothing", "two messages at once", "ping in fragments", "long ping", "long close"),
        *("half a close code", "close code 1005", "close code 1", "bad UTF-8", "length in two bytes"),
        *("length in eight bytes", "2^63 bytes", "too large", "one too large"),
    ],
)
def test_what_breaks_the_rules_ends_the_connection_with_the_right_code(wire: bytes, code: CloseCode) -> None:
    assert violation(server(), wire).close_code == code
    assert violation(server(), frame(BINARY, b"before") + wire, piece=1).close_code == code


def test_a_server_that_masks_is_refused() -> None:
    assert violation(client(), frame(BINARY, b"x")).close_code == CloseCode.PROTOCOL_ERROR


def test_what_came_before_a_violation_is_delivered() -> None:
    framing = server()
    buffer = bytearray(frame(BINARY, b"good") + frame(TEXT, b"bad"))
    found: list[Datagram] = []
    with pytest.raises(FrameViolation):
        framing.receive_untrusted(buffer, len(buffer), found)
    assert [bytes(datagram) for datagram in found] == [b"good"]


def test_a_huge_frame_is_refused_by_its_header_alone() -> None:
    assert violation(server(), bytes((BINARY, 0xFF)) + (1 << 40).to_bytes(8, "big")).close_code == 1009


def test_fragments_that_add_up_to_too_much_are_refused_when_they_do() -> None:
    framing = server()
    assert feed(framing, frame(BINARY & NOT_LAST, b"x" * MAX_DATAGRAM)) == []
    assert violation(framing, frame(CONTINUATION, b"x")).close_code == CloseCode.MESSAGE_TOO_BIG


@pytest.mark.parametrize("kind", [PING, PONG, CONTINUATION & NOT_LAST], ids=["pings", "pongs", "empty fragments"])
def test_a_flood_without_a_datagram_is_ended_and_takes_no_memory(kind: int) -> None:
    framing = server()
    feed(framing, frame(BINARY & NOT_LAST, b""))
    tracemalloc.start()
    try:
        feed(framing, frame(kind) * (MAX_ASIDES - 1))
        assert tracemalloc.get_traced_memory()[0] < MAX_FRAME
    finally:
        tracemalloc.stop()
    assert violation(framing, frame(kind)).close_code == CloseCode.POLICY_VIOLATION


def test_pings_between_datagrams_are_no_flood() -> None:
    framing = server()
    for _ in range(3):
        assert feed(framing, frame(PING) * (MAX_ASIDES // 2) + frame(BINARY, b"datagram")) == [b"datagram"]


def test_a_close_frame_of_ours_says_why_and_is_never_too_long() -> None:
    whole = server().close(CloseCode.MESSAGE_TOO_BIG, "ü" * 200)
    assert whole[:2] == bytes((CLOSE, 2 + 122))
    assert whole[2:4] == (1009).to_bytes(2, "big")
    assert whole[4:].decode() == "ü" * 61
