"""The life of streams in a session: opening, agreeing, ending, forgetting."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest

from stt_core import frames
from stt_core.errors import (
    ErrorCode,
    StateError,
    StreamClosedError,
    StreamLimitError,
    StreamResetError,
    Violation,
)
from stt_core.events import (
    StreamAcknowledged,
    StreamFinished,
    StreamOpened,
    StreamReadable,
    StreamsAvailable,
    StreamStopped,
    StreamWritable,
)
from stt_core.streams import STREAM_FRAMES
from stt_core.types import StreamMode
from tests.core.stream_pair import KEY, End, Pair, frames_of

SHARED = 1 << 20


@pytest.fixture
def pair() -> Pair:
    return Pair()


def finish_both(pair: Pair, stream_id: int) -> None:
    """Let both sides finish the stream and read its end."""
    for end in pair.ends:
        end.map.finish(stream_id)
    pair.settle()
    for end in pair.ends:
        if end.map.info(stream_id).mode is StreamMode.BYTES:
            end.read_all(stream_id)
        else:
            end.messages(stream_id)
            assert end.map.at_end(stream_id)
    pair.settle()


# --- opening


def test_automatic_ids_lie_above_the_shared_ones_even_for_the_initiator_odd_for_the_responder(pair: Pair) -> None:
    assert [pair.initiator.map.open() for _ in range(3)] == [SHARED + 2, SHARED + 4, SHARED + 6]
    assert [pair.responder.map.open() for _ in range(3)] == [SHARED + 1, SHARED + 3, SHARED + 5]


def test_opening_alone_tells_the_peer_everything_about_the_stream(pair: Pair) -> None:
    stream_id = pair.initiator.open_bytes(purpose="видео", priority=1)
    pair.settle()
    assert pair.responder.take(StreamOpened) == [StreamOpened(KEY, stream_id, StreamMode.BYTES, "видео", 1)]
    info = pair.responder.map.info(stream_id)
    assert (info.peer_opened, info.opened, info.purpose, info.priority) == (True, False, "видео", 1)
    assert not pair.initiator.map.has_unacknowledged


def test_both_ends_that_open_one_id_hold_the_same_stream_and_the_initiator_names_it(pair: Pair) -> None:
    for end, purpose in zip(pair.ends, ("mine", "theirs"), strict=True):
        assert end.map.open(stream_id=1, purpose=purpose) == 1
        assert end.map.send_message(1, purpose.encode())
    pair.settle()
    assert pair.initiator.messages(1) == [b"theirs"]
    assert pair.responder.messages(1) == [b"mine"]
    assert {end.map.info(1).purpose for end in pair.ends} == {"mine"}
    assert not pair.initiator.take(StreamOpened)
    assert [event.purpose for event in pair.responder.take(StreamOpened)] == ["mine"], "its own was another"


def test_a_stream_the_peer_opened_can_be_joined_once(pair: Pair) -> None:
    pair.initiator.map.open(stream_id=5, purpose="first")
    pair.settle()
    with pytest.raises(ValueError, match="another mode"):
        pair.responder.open_bytes(stream_id=5)
    assert pair.responder.map.open(stream_id=5, purpose="second") == 5
    assert pair.responder.map.info(5).purpose == "first"
    with pytest.raises(StateError):
        pair.responder.map.open(stream_id=5)


def test_opening_one_id_in_two_modes_resets_the_stream_both_ways_and_only_that(pair: Pair) -> None:
    pair.initiator.map.open(stream_id=1)
    pair.initiator.map.send_message(1, b"m" * 50)
    pair.responder.open_bytes(stream_id=1)
    pair.responder.write_all(1, b"bytes")
    other = pair.initiator.map.open()
    pair.settle()
    for end, read in ((pair.initiator, end_read_message), (pair.responder, end_read)):
        with pytest.raises(StreamResetError) as caught:
            read(end, 1)
        assert caught.value.code == ErrorCode.MODE_MISMATCH
    pair.settle()
    assert len(pair.initiator.map) == len(pair.responder.map) == 1
    assert pair.responder.map.info(other).peer_opened


def end_read(end: End, stream_id: int) -> Any:
    return end.map.read(stream_id)


def end_read_message(end: End, stream_id: int) -> Any:
    return end.map.read_message(stream_id)


@pytest.mark.parametrize(
    "arguments",
    [
        {"stream_id": 0},
        {"stream_id": SHARED + 1},
        {"priority": 8},
        {"priority": -1},
        {"purpose": "é" * 128},
        {"mode": 2},
    ],
    ids=str,
)
def test_an_open_with_bad_arguments_raises_and_changes_nothing(pair: Pair, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        pair.initiator.map.open(**arguments)
    assert len(pair.initiator.map) == 0
    assert not pair.initiator.map.wants_to_send
    assert pair.initiator.map.open() == SHARED + 2


def test_every_batch_with_data_announces_the_stream_until_the_peer_has_acknowledged_that(pair: Pair) -> None:
    stream_id = pair.initiator.open_bytes()
    pair.initiator.write_all(stream_id, bytes(9000))
    first = pair.initiator.fill(limit=2)
    second = pair.initiator.fill(limit=2)
    assert isinstance(first[0].frames[0], frames.StreamOpen)
    assert isinstance(second[0].frames[0], frames.StreamOpen)
    assert len(frames_of(first + second, frames.StreamOpen)) == 2
    pair.initiator.acked(first)
    assert not frames_of(pair.initiator.fill(limit=2), frames.StreamOpen)


def test_data_that_overtakes_its_stream_open_is_held_until_the_mode_is_known(pair: Pair) -> None:
    stream_id = pair.initiator.open_bytes()
    pair.initiator.write_all(stream_id, b"x" * 3000)
    opening, *rest = pair.initiator.fill()
    pair.responder.receive(rest)
    assert not pair.responder.events
    with pytest.raises(StateError):
        pair.responder.map.read(stream_id)
    pair.responder.receive([opening])
    assert [type(event) for event in pair.responder.events] == [StreamOpened, StreamReadable]
    assert pair.responder.read_all(stream_id) == b"x" * 3000


def test_a_stop_that_overtakes_the_stream_open_is_told_after_it(pair: Pair) -> None:
    pair.responder.map.receive_frame(frames.StreamStop(9, 77), 0.0)
    assert not pair.responder.events
    pair.responder.map.receive_frame(frames.StreamOpen(9, StreamMode.BYTES, 3, ""), 0.0)
    assert [type(event) for event in pair.responder.events] == [StreamOpened, StreamStopped]


def test_a_lost_stream_open_is_sent_again_and_a_late_copy_changes_nothing(pair: Pair) -> None:
    stream_id = pair.initiator.map.open(purpose="p")
    lost = pair.initiator.fill()
    pair.initiator.lost(lost)
    pair.settle()
    pair.responder.receive(lost)
    assert len(pair.responder.take(StreamOpened)) == 1
    assert pair.responder.map.info(stream_id).purpose == "p"


# --- limits


def test_the_peers_limit_on_automatic_streams_is_kept_and_moves_as_streams_end() -> None:
    pair = Pair(max_streams=4)
    ids = [pair.initiator.map.open() for _ in range(4)]
    with pytest.raises(StreamLimitError):
        pair.initiator.map.open()
    pair.settle()
    assert not pair.initiator.take(StreamsAvailable)
    finish_both(pair, ids[0])
    assert len(pair.initiator.take(StreamsAvailable)) == 1
    assert pair.initiator.map.open() == SHARED + 2 + 8
    with pytest.raises(StreamLimitError):
        pair.initiator.map.open()


def test_128_shared_ids_may_be_open_at_once(pair: Pair) -> None:
    for stream_id in range(1, 129):
        pair.initiator.map.open(stream_id=stream_id)
    with pytest.raises(StreamLimitError):
        pair.initiator.map.open(stream_id=129)
    pair.settle()
    finish_both(pair, 1)
    assert len(pair.initiator.take(StreamsAvailable)) == 1
    assert pair.initiator.map.open(stream_id=129) == 129


def test_shared_ids_opened_by_both_at_once_do_not_use_up_the_limit_for_ever(pair: Pair) -> None:
    """Both count a stream that both opened; whichever frames come late, both get its place back."""
    for stream_id in range(1, 1000):
        for end in pair.ends:
            end.map.open(stream_id=stream_id)
            end.map.finish(stream_id)
        # One STREAM_OPEN arrives after the stream is over at its receiver.
        late = pair.responder.fill(pair.now)
        pair.initiator.receive(late)
        pair.move(pair.initiator, pair.responder)
        pair.responder.acked(late)
        for end in pair.ends:
            end.messages(stream_id)
        pair.settle()
        assert len(pair.initiator.map) == len(pair.responder.map) == 0


def test_100_000_streams_pass_through_one_session_and_leave_nothing_behind() -> None:
    """Ends are read, ids are used up, and what is remembered of them doesn't grow."""
    pair = Pair()
    held = []
    for batch in range(1000):
        if batch == 899:
            tracemalloc.start()
        ids = [pair.initiator.map.open() for _ in range(100)]
        for stream_id in ids:
            pair.initiator.map.send_message(stream_id, b"?")
            pair.initiator.map.finish(stream_id)
        pair.settle(limit=64)
        for stream_id in ids:
            assert pair.responder.messages(stream_id) == [b"?"]
            pair.responder.map.finish(stream_id)
        pair.settle(limit=64)
        for stream_id in ids:
            assert pair.initiator.messages(stream_id) == []
        pair.settle(limit=64)
        assert len(pair.initiator.map) == len(pair.responder.map) == 0
        for end in pair.ends:
            assert len(end.take(StreamFinished)) == 100
            end.events.clear()
        if batch in (900, 999):
            gc.collect()  # the interpreter's free lists, too
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[1] - held[0] < 8 * 1024


# --- ends


def test_an_empty_stream_can_be_finished(pair: Pair) -> None:
    stream_id = pair.initiator.open_bytes()
    pair.initiator.map.finish(stream_id)
    pair.settle()
    assert pair.responder.map.read(stream_id) == b""
    assert pair.responder.map.at_end(stream_id)


def test_finishing_ends_one_direction_and_the_stream_is_freed_when_both_have(pair: Pair) -> None:
    stream_id = pair.initiator.open_bytes()
    pair.initiator.write_all(stream_id, b"question")
    pair.initiator.map.finish(stream_id)
    pair.initiator.map.finish(stream_id)
    with pytest.raises(StreamClosedError):
        pair.initiator.map.write(stream_id, b"more")
    pair.settle()
    assert pair.responder.read_all(stream_id) == b"question"
    pair.responder.write_all(stream_id, b"answer")
    pair.responder.map.finish(stream_id)
    pair.settle()
    assert not pair.initiator.take(StreamFinished)
    assert pair.initiator.read_all(stream_id) == b"answer"
    assert (
        pair.initiator.take(StreamFinished) == pair.responder.take(StreamFinished) == [StreamFinished(KEY, stream_id)]
    )
    for end in pair.ends:
        assert end.map.at_end(stream_id)
        for call in (end.map.read, end.map.finish, end.map.info, end.map.watch):
            with pytest.raises(StreamClosedError):
                call(stream_id)


def test_frames_on_a_stream_that_is_over_are_ignored(pair: Pair) -> None:
    for wanted in (None, 3):
        stream_id = pair.initiator.map.open(stream_id=wanted)
        pair.settle()
        finish_both(pair, stream_id)
        for frame in (
            frames.Data(stream_id, 0, b"late", False),
            frames.StreamOpen(stream_id, StreamMode.BYTES, 3, ""),
            frames.StreamClose(stream_id, 1, 100),
            frames.StreamStop(stream_id, 1),
            frames.MaxStreamData(stream_id, 1 << 40),
        ):
            pair.responder.map.receive_frame(frame, 0.0)
        assert len(pair.responder.map) == 0
        with pytest.raises(StreamClosedError):
            pair.initiator.map.reset(stream_id)
    with pytest.raises(StreamClosedError):
        pair.initiator.map.open(stream_id=3)


def test_a_reset_reaches_the_reader_even_if_lost_and_drops_what_was_not_read(pair: Pair) -> None:
    stream_id = pair.initiator.open_bytes()
    pair.initiator.write_all(stream_id, bytes(5000))
    pair.move(pair.initiator, pair.responder)
    pair.initiator.map.reset(stream_id, 99)
    pair.initiator.map.reset(stream_id, 98)
    pair.initiator.lost(pair.initiator.fill())
    with pytest.raises(StreamClosedError):
        pair.initiator.map.write(stream_id, b"more")
    unacknowledged = [pair.initiator.map.has_unacknowledged]
    pair.settle()
    unacknowledged.append(pair.initiator.map.has_unacknowledged)
    assert unacknowledged == [True, False]
    for _ in range(2):
        with pytest.raises(StreamResetError) as caught:
            pair.responder.map.read(stream_id)
        assert caught.value.code == 99
    pair.responder.map.finish(stream_id)
    pair.settle()
    assert pair.initiator.map.read(stream_id) == b""
    assert len(pair.initiator.map) == len(pair.responder.map) == 0


def test_a_reset_forgets_lost_data_and_acknowledgements_that_come_after_it_do_no_harm(pair: Pair) -> None:
    stream_id = pair.initiator.open_bytes()
    pair.initiator.write_all(stream_id, bytes(9000))
    sent = pair.initiator.fill(limit=4)
    pair.initiator.map.reset(stream_id, 1)
    pair.initiator.acked(sent[:2])
    pair.initiator.lost(sent[2:])
    assert not frames_of(pair.initiator.fill(), frames.Data)


def test_a_stop_makes_the_peer_reset_and_tells_it_why(pair: Pair) -> None:
    stream_id = pair.initiator.open_bytes()
    pair.initiator.write_all(stream_id, bytes(5000))
    pair.move(pair.initiator, pair.responder)
    pair.responder.map.stop(stream_id, 55)
    with pytest.raises(StreamClosedError):
        pair.responder.map.read(stream_id)
    pair.settle()
    assert pair.initiator.take(StreamStopped) == [StreamStopped(KEY, stream_id, 55)]
    for call in (lambda: pair.initiator.map.write(stream_id, b"x"), lambda: pair.initiator.map.finish(stream_id)):
        with pytest.raises(StreamResetError) as caught:
            call()
        assert caught.value.code == 55
    pair.responder.map.finish(stream_id)
    pair.settle()
    assert pair.initiator.map.read(stream_id) == b""
    assert len(pair.initiator.map) == len(pair.responder.map) == 0


def test_a_stop_after_the_whole_stream_came_needs_no_answer(pair: Pair) -> None:
    stream_id = pair.initiator.open_bytes()
    pair.initiator.write_all(stream_id, b"all of it")
    pair.initiator.map.finish(stream_id)
    pair.settle()
    pair.responder.map.stop(stream_id)
    pair.responder.map.stop(stream_id)
    pair.settle()
    assert not pair.initiator.take(StreamStopped)
    pair.responder.map.finish(stream_id)
    pair.settle()
    pair.initiator.read_all(stream_id)
    assert len(pair.initiator.map) == len(pair.responder.map) == 0


def test_what_arrives_after_a_stop_gives_the_session_its_credit_back() -> None:
    pair = Pair(stream_window=16384, session_window=32768)
    stopped, other = pair.initiator.open_bytes(), pair.initiator.open_bytes()
    pair.initiator.write_all(stopped, bytes(16384))
    in_flight = pair.initiator.fill(limit=64)
    pair.responder.receive(in_flight[:1])
    pair.responder.map.stop(stopped)
    pair.responder.receive(in_flight[1:])
    pair.initiator.acked(in_flight)
    pair.initiator.write_all(other, bytes(100_000))
    received = 0
    while received < 100_000:
        before = received
        pair.settle()
        received += len(pair.responder.read_all(other))
        assert received > before


# --- events and back-pressure


def test_one_readable_event_stands_until_something_is_read(pair: Pair) -> None:
    stream_id = pair.initiator.open_bytes()
    for _ in range(3):
        pair.initiator.write_all(stream_id, b"some")
        pair.settle()
    assert len(pair.responder.take(StreamReadable)) == 1
    assert pair.responder.map.read(stream_id) == b"somesomesome"
    assert pair.responder.map.read(stream_id) is None
    pair.initiator.write_all(stream_id, b"more")
    pair.settle()
    assert len(pair.responder.take(StreamReadable)) == 1


def test_a_message_is_readable_when_it_is_whole(pair: Pair) -> None:
    stream_id = pair.initiator.map.open()
    pair.initiator.map.send_message(stream_id, bytes(3000))
    packets = pair.initiator.fill()
    pair.responder.receive(packets[:-1])
    assert not pair.responder.take(StreamReadable)
    assert pair.responder.map.read_message(stream_id) is None
    pair.responder.receive(packets[-1:])
    assert len(pair.responder.take(StreamReadable)) == 1
    assert pair.responder.map.read_message(stream_id) == bytes(3000)


def test_writes_are_cut_at_the_send_buffer_and_resume_when_half_of_it_is_free() -> None:
    pair = Pair(send_buffer=8192)
    stream_id = pair.initiator.open_bytes()
    assert pair.initiator.map.write(stream_id, memoryview(bytes(20_000))) == 8192
    assert pair.initiator.map.write(stream_id, b"more") == 0
    pair.move(pair.initiator, pair.responder, limit=2)
    assert not pair.initiator.take(StreamWritable)
    pair.move(pair.initiator, pair.responder, limit=2)
    assert pair.initiator.take(StreamWritable) == [StreamWritable(KEY, stream_id)]
    pair.settle()
    assert not pair.initiator.take(StreamWritable)


def test_who_asks_for_room_is_told_when_there_is_some() -> None:
    pair = Pair(send_buffer=8192)
    stream_id = pair.initiator.open_bytes()
    assert pair.initiator.map.has_room(stream_id)
    assert pair.initiator.map.write(stream_id, bytes(8192)) == 8192  # nothing was turned down
    assert not pair.initiator.map.has_room(stream_id)
    pair.settle()
    assert pair.initiator.take(StreamWritable) == [StreamWritable(KEY, stream_id)]
    assert pair.initiator.map.has_room(stream_id)
    pair.initiator.map.finish(stream_id)
    with pytest.raises(StreamClosedError):
        pair.initiator.map.has_room(stream_id)


def test_a_message_is_accepted_whole_or_not_at_all() -> None:
    pair = Pair(send_buffer=4096)
    stream_id = pair.initiator.map.open()
    assert pair.initiator.map.send_message(stream_id, bytes(100_000))
    assert not pair.initiator.map.send_message(stream_id, b"next")
    pair.settle()
    assert pair.initiator.take(StreamWritable)
    assert pair.initiator.map.send_message(stream_id, b"next")
    pair.settle()
    assert pair.responder.messages(stream_id) == [bytes(100_000), b"next"]


def test_a_watched_offset_is_reported_when_everything_before_it_is_acknowledged(pair: Pair) -> None:
    stream_id = pair.initiator.open_bytes()
    pair.initiator.map.watch(stream_id)
    assert pair.initiator.take(StreamAcknowledged) == [StreamAcknowledged(KEY, stream_id, 0)]
    pair.initiator.write_all(stream_id, bytes(4000))
    assert pair.initiator.map.watch(stream_id) == 4000
    pair.initiator.write_all(stream_id, bytes(100))
    pair.initiator.map.finish(stream_id)
    assert pair.initiator.map.watch(stream_id) == 4100
    packets = pair.initiator.fill()
    pair.initiator.acked(packets[1:])
    assert not pair.initiator.take(StreamAcknowledged)
    pair.initiator.acked(packets[:1])
    assert [event.offset for event in pair.initiator.take(StreamAcknowledged)] == [4000, 4100]


def test_messages_and_bytes_do_not_mix(pair: Pair) -> None:
    as_bytes, as_messages = pair.initiator.open_bytes(), pair.initiator.map.open()
    for call in (
        lambda: pair.initiator.map.send_message(as_bytes, b""),
        lambda: pair.initiator.map.read_message(as_bytes),
        lambda: pair.initiator.map.write(as_messages, b""),
        lambda: pair.initiator.map.read(as_messages),
        lambda: pair.initiator.map.info(12345),
        lambda: pair.initiator.map.at_end(0),
    ):
        with pytest.raises(StateError):
            call()
    for bad in (-1, 0x10000):
        with pytest.raises(ValueError, match="code"):
            pair.initiator.map.reset(as_bytes, bad)


# --- what a peer may not do


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (frames.Data(0, 0, b"x", False), ErrorCode.STREAM_STATE),
        (frames.StreamOpen(0, StreamMode.BYTES, 3, ""), ErrorCode.STREAM_STATE),
        (frames.Data(SHARED + 2, 0, b"x", False), ErrorCode.STREAM_STATE),  # ours to open, and we didn't
        (frames.StreamStop(SHARED + 2, 0), ErrorCode.STREAM_STATE),
        (frames.MaxStreamData(SHARED + 2, 0), ErrorCode.STREAM_STATE),
        (frames.Data(SHARED + 1 + 2 * 128, 0, b"x", False), ErrorCode.STREAM_LIMIT),
        (frames.StreamClose(0xFFFF_FFFF, 0, 0), ErrorCode.STREAM_LIMIT),
    ],
    ids=str,
)
def test_a_stream_that_is_not_the_peers_to_open_is_a_violation(
    pair: Pair, frame: frames.Frame, code: ErrorCode
) -> None:
    with pytest.raises(Violation) as caught:
        pair.initiator.map.receive_frame(frame, 0.0)
    assert caught.value.code is code


def test_the_peer_may_not_claim_to_have_opened_our_stream(pair: Pair) -> None:
    stream_id = pair.initiator.map.open()
    with pytest.raises(Violation) as caught:
        pair.initiator.map.receive_frame(frames.StreamOpen(stream_id, StreamMode.BYTES, 3, ""), 0.0)
    assert caught.value.code is ErrorCode.STREAM_STATE


def test_the_map_owns_the_tokens_of_every_frame_it_sends(pair: Pair) -> None:
    tokens = set()
    stream_id = pair.initiator.map.open()
    pair.initiator.map.send_message(stream_id, bytes(700_000))
    for _ in range(50):
        for source, target in (pair.ends, pair.ends[::-1]):
            for packet in pair.move(source, target):
                if isinstance(packet.content, list):
                    tokens |= {token[0] for token in packet.content}
        pair.responder.messages(stream_id)
    assert tokens <= STREAM_FRAMES
    assert len(tokens) >= 4
