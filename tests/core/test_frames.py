"""Frames: every layout byte for byte, and nothing but a Violation from bytes that are no frames."""

from __future__ import annotations

import pytest

from stt_core import frames
from stt_core.errors import ErrorCode, Violation
from stt_core.frames import FrameType, encode_ack, encode_data, is_ack_eliciting, is_probing, parse_frames_untrusted
from stt_core.types import StreamMode

# One of each, with its bytes written out: these are the wire, not what encode() happens to give.
LAYOUTS: list[tuple[frames.Frame, str]] = [
    (frames.Data(7, 9, b"hi", False), "10 00000007 0000000000000009 0002 6869"),
    (frames.Data(7, 2**64 - 1, b"", True), "90 00000007 ffffffffffffffff 0000"),
    (frames.Ack(((5, 5),), 0.025, None), "11 0000000000000005 000061a8 00 00000000"),
    (
        frames.Ack(((90, 100), (70, 79), (0, 3)), 0.0, None),
        "11 0000000000000064 00000000 02 0000000a 00000009 00000009 00000041 00000003",
    ),
    (
        frames.Ack(((4, 5),), 1e-6, (1, 2, 3)),
        "12 0000000000000005 00000001 00 00000001 0000000000000001 0000000000000002 0000000000000003",
    ),
    (frames.KeepAlive(0x01020304), "13 01020304"),
    (frames.KeepAliveAck(5), "14 00000005"),
    (frames.Datagram(b"abc"), "16 0003 616263"),
    (frames.StreamOpen(1, StreamMode.BYTES, 3, "vidéo"), "20 00000001 01 03 06 766964c3a96f"),
    (frames.StreamOpen(2, StreamMode.MESSAGES, 7, ""), "20 00000002 00 07 00"),
    (frames.StreamClose(2, 0x10, 300), "21 00000002 0010 000000000000012c"),
    (frames.StreamStop(2, 0x11), "22 00000002 0011"),
    (frames.MaxData(2**40), "24 0000010000000000"),
    (frames.MaxStreamData(3, 65536), "25 00000003 0000000000010000"),
    (frames.MaxStreams(128, 64), "26 00000080 00000040"),
    (frames.Blocked(frames.BlockedKind.STREAM, 3, 65536), "27 01 00000003 0000000000010000"),
    (frames.SessionClose(0x02, "why"), "30 0002 0003 776879"),
    (frames.SessionCloseAck(), "31"),
    (frames.NewCid(3, 2, b"cid-cid-", b"t" * 16), "40 00000003 00000002 6369642d6369642d" + "74" * 16),
    (frames.RetireCid(2), "41 00000002"),
    (frames.PathChallenge(b"12345678"), "42 3132333435363738"),
    (frames.PathResponse(b"12345678", frames.PathTransport.WEBSOCKET), "43 3132333435363738 01"),
    (frames.Ticket(86400, b"i" * 16, b"tick"), "50 00015180" + "69" * 16 + "0004 7469636b"),
    (frames.AddressToken(b"tok"), "51 03 746f6b"),
    (frames.ResumeState(1, 3, b"xy"), "52 01 0003 0002 7879"),
    (frames.Dht(b"rpc"), "60 0003 727063"),
    (frames.Error(0x16, ""), "ff 0016 0000"),
]


def refused(plain: bytes) -> str:
    with pytest.raises(Violation) as caught:
        parse_frames_untrusted(plain)
    assert caught.value.code is ErrorCode.FRAME_ENCODING
    return caught.value.reason


@pytest.mark.parametrize(("frame", "layout"), LAYOUTS, ids=lambda value: type(value).__name__)
def test_layout(frame: frames.Frame, layout: str) -> None:
    wire = bytes.fromhex(layout)
    assert frame.encode() == wire
    assert parse_frames_untrusted(wire) == [frame]


def test_every_type_of_the_table_has_a_layout_here() -> None:
    assert {bytes.fromhex(layout)[0] for _, layout in LAYOUTS} == set(FrameType) - {FrameType.PADDING}


def test_frames_follow_each_other_until_the_padding() -> None:
    wire = b"".join(frame.encode() for frame, _ in LAYOUTS)
    assert parse_frames_untrusted(wire + bytes(100)) == [frame for frame, _ in LAYOUTS]


@pytest.mark.parametrize(("frame", "layout"), LAYOUTS, ids=lambda value: type(value).__name__)
def test_a_frame_cut_anywhere_is_refused(frame: frames.Frame, layout: str) -> None:
    wire = bytes.fromhex(layout)
    for cut in range(1, len(wire)):
        assert refused(wire[:cut]) == "a frame is cut short"
        assert refused(b"\x31" + wire[:cut]) == "a frame is cut short"


def test_a_packet_without_frames_is_refused() -> None:
    assert refused(b"") == "a packet without frames"


def test_a_packet_of_padding_alone_is_no_frame_and_no_error() -> None:
    assert parse_frames_untrusted(bytes(1)) == []
    assert parse_frames_untrusted(bytes(1171)) == []


def test_padding_must_be_zero_to_the_end() -> None:
    assert refused(bytes(20) + b"\x31") == "padding is not zero"


def test_every_unknown_type_is_refused() -> None:
    for kind in set(range(256)) - set(FrameType):
        assert refused(bytes((kind,)) + bytes(64)) == f"unknown frame type 0x{kind:02x}"


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ("20 00000001 02 03 00", "unknown stream mode 2"),
        ("20 00000001 00 08 00", "priority 8 is above 7"),
        ("20 00000001 00 03 01 ff", "a stream's purpose is not UTF-8"),
        ("27 03 00000000 0000000000000000", "BLOCKED on unknown kind 3"),
        ("40 00000001 00000002" + "00" * 24, "NEW_CID retires itself"),
        ("43 3132333435363738 02", "PATH_RESPONSE names unknown transport 2"),
        ("11 0000000000000005 00000000 00 00000006", "an ACK reaches below packet number 0"),
        ("11 0000000000000005 00000000 01 00000001 00000003 00000000", "an ACK reaches below packet number 0"),
        ("11 0000000000000009 00000000 01 00000001 00000000 00000007", "an ACK reaches below packet number 0"),
        ("11 00000000000fffff 00000000 20 00000000" + "00000000 00000000" * 32, "an ACK of 33 ranges"),
    ],
)
def test_what_contradicts_itself_is_refused(layout: str, reason: str) -> None:
    assert refused(bytes.fromhex(layout)) == reason


def test_a_close_whose_reason_is_no_text_still_closes() -> None:
    assert parse_frames_untrusted(bytes.fromhex("30 0001 0002 ff41")) == [frames.SessionClose(1, "\ufffdA")]


def test_a_long_reason_is_cut_between_characters() -> None:
    wire = frames.SessionClose(1, "é" * 300 + "x").encode()
    assert parse_frames_untrusted(wire) == [frames.SessionClose(1, "é" * (frames.MAX_REASON // 2))]
    wire = frames.SessionClose(1, "x" + "é" * 300).encode()
    assert parse_frames_untrusted(wire) == [frames.SessionClose(1, "x" + "é" * (frames.MAX_REASON // 2 - 1))]


def acked(wire: bytes) -> frames.Ack:
    (frame,) = parse_frames_untrusted(wire)
    assert isinstance(frame, frames.Ack)
    return frame


def test_an_ack_carries_the_newest_32_ranges() -> None:
    ranges = [(n, n + 2) for n in range(1000, 0, -10)]
    assert acked(encode_ack(ranges, 0)).ranges == tuple(ranges[:32])


def test_an_ack_keeps_what_32_bits_can_say() -> None:
    far = 1 << 40
    assert acked(encode_ack([(0, far)], 0)).ranges == ((far - 0xFFFF_FFFF, far),)
    assert acked(encode_ack([(far, far + 1), (0, 5)], 0)).ranges == ((far, far + 1),)
    near = far - 2 - 0xFFFF_FFFF
    assert acked(encode_ack([(far, far), (near, near)], 0)).ranges == ((far, far), (near, near))
    assert acked(encode_ack([(far, far), (near - 1, near - 1)], 0)).ranges == ((far, far),)


def test_an_ack_cut_in_its_newest_range_still_names_only_received_numbers() -> None:
    far = 1 << 40
    ranges = [(far, far + (1 << 33)), (far - 10, far - 5)]
    assert acked(encode_ack(ranges, 0)).ranges == ((far + (1 << 33) - 0xFFFF_FFFF, far + (1 << 33)),)


def test_an_ack_delay_is_microseconds_and_saturates() -> None:
    assert acked(encode_ack([(1, 1)], 25_000)).delay == 0.025
    assert acked(encode_ack([(1, 1)], 1 << 40)).delay == pytest.approx(4294.967295)
    assert acked(encode_ack([(1, 1)], -5)).delay == 0.0


def test_bulk_data_has_the_layout_of_the_data_frame() -> None:
    assert frames.pack_data(FrameType.DATA, 7, 9, 2) + b"hi" == encode_data(7, 9, b"hi")
    assert encode_data(7, 9, b"hi", fin=True) == frames.Data(7, 9, b"hi", True).encode()
    assert frames.unpack_data(encode_data(7, 9, b"hi")) == (FrameType.DATA, 7, 9, 2)
    assert frames.DATA_OVERHEAD == 15


def test_which_frames_ask_for_an_ack() -> None:
    silent = {"00", "11", "12", "14", "30", "31", "ff"}
    assert {f"{kind:02x}" for kind in set(FrameType) - frames.ACK_ELICITING} == silent
    for frame, layout in LAYOUTS:
        assert is_ack_eliciting([frame]) is (layout[:2] not in silent)
        assert is_ack_eliciting([frames.SessionCloseAck(), frame]) is is_ack_eliciting([frame])
    assert not is_ack_eliciting([])


def test_which_frames_only_probe() -> None:
    for frame, layout in LAYOUTS:
        assert is_probing([frame]) is (layout[:2] in {"42", "43"})
        assert is_probing([frame]) is (bytes.fromhex(layout)[0] in frames.PROBING)
    assert is_probing([])


def test_secrets_stay_out_of_repr() -> None:
    for frame in (frames.NewCid(1, 0, b"c" * 8, b"secret!" * 2 + b"!!"), frames.Ticket(1, b"i" * 16, b"secret!")):
        assert "secret" not in repr(frame)
    assert "secret" not in repr(frames.AddressToken(b"secret!"))
