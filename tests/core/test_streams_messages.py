"""Message boundaries: the length prefix, and streams that break it."""

from __future__ import annotations

import pytest

from stt_core import frames
from stt_core.errors import ErrorCode, MessageTooLargeError, StreamError, StreamResetError, Violation
from stt_core.events import StreamReadable, StreamStopped
from stt_core.streams.messages import MAX_LENGTH, length_prefix, parse_length_untrusted
from tests.core.stream_pair import End, Pair


def inject(end: End, stream_id: int, data: bytes) -> None:
    """Send what no application can: bytes of the stream, past the framing."""
    stream = end.map._streams[stream_id]
    stream.send.append(data)
    end.map.outgoing.plan(stream)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 1 << 24, 1 << 31, MAX_LENGTH])
def test_a_length_survives_whole_cut_short_and_with_more_behind_it(length: int) -> None:
    prefix = length_prefix(length)
    assert parse_length_untrusted(prefix) == parse_length_untrusted(prefix + b"\xff\x00") == (length, len(prefix))
    assert all(parse_length_untrusted(prefix[:cut]) is None for cut in range(len(prefix)))


@pytest.mark.parametrize("bad", [b"\x80\x00", b"\xff\x80\x00", b"\x80" * 5, b"\xff" * 9])
def test_a_length_has_one_form_and_an_end(bad: bytes) -> None:
    with pytest.raises(Violation) as caught:
        parse_length_untrusted(bad)
    assert caught.value.code is ErrorCode.FRAME_ENCODING


def test_a_message_above_the_peers_limit_is_refused_at_the_sender_and_changes_nothing() -> None:
    pair = Pair(max_message=1000)
    stream_id = pair.initiator.map.open()
    with pytest.raises(MessageTooLargeError):
        pair.initiator.map.send_message(stream_id, bytes(1001))
    pair.initiator.map.send_message(stream_id, bytes(1000))
    pair.settle()
    assert pair.responder.messages(stream_id) == [bytes(1000)]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\x80\x00", ErrorCode.FRAME_ENCODING),
        (length_prefix((16 << 20) + 1), ErrorCode.MESSAGE_TOO_LARGE),
    ],
)
@pytest.mark.parametrize("first", [b"", b"\x05hello"], ids=["at once", "after a good one"])
def test_broken_framing_fails_the_stream_and_spares_the_session(wire: bytes, code: ErrorCode, first: bytes) -> None:
    pair = Pair()
    stream_id = pair.initiator.map.open()
    inject(pair.initiator, stream_id, first + wire)
    pair.settle()
    assert pair.responder.take(StreamReadable)
    if first:
        assert pair.responder.map.read_message(stream_id) == b"hello"
    with pytest.raises(StreamResetError) as caught:
        pair.responder.map.read_message(stream_id)
    assert caught.value.code == code
    assert [event.code for event in pair.responder.take(StreamStopped)] == [code]
    with pytest.raises(StreamError):
        pair.responder.map.send_message(stream_id, b"")
    pair.settle()
    assert [event.code for event in pair.initiator.take(StreamStopped)] == [code]
    with pytest.raises(StreamResetError):
        pair.initiator.map.read_message(stream_id)


def test_a_stream_that_ends_inside_a_message_gives_the_whole_ones_then_an_error() -> None:
    pair = Pair()
    stream_id = pair.initiator.map.open()
    pair.settle()
    pair.responder.map.receive_frame(frames.Data(stream_id, 0, b"\x02hi\x05cut", True), 0.0)
    assert pair.responder.map.read_message(stream_id) == b"hi"
    with pytest.raises(StreamResetError) as caught:
        pair.responder.map.read_message(stream_id)
    assert caught.value.code == ErrorCode.PROTOCOL_VIOLATION
    assert not pair.responder.map.at_end(stream_id)


def test_a_message_larger_than_every_window_arrives() -> None:
    pair = Pair(stream_window=4096, session_window=8192, max_window=16_384, max_message=1 << 20)
    stream_id = pair.initiator.map.open()
    message = bytes(range(256)) * 4096
    assert pair.initiator.map.send_message(stream_id, message)
    pair.settle()
    assert pair.responder.messages(stream_id) == [message]
