"""Flow control: windows that follow the reader, and the pool that messages longer than a window share."""

from __future__ import annotations

import pytest

from stt_core import frames
from stt_core.frames import BlockedKind
from stt_core.streams.flow import MessagePool, ReceiveWindow
from tests.core.stream_pair import Pair, frames_of


def test_credit_is_given_for_what_was_read_not_for_what_came() -> None:
    pair = Pair(stream_window=8192, session_window=16_384)
    stream_id = pair.initiator.open_bytes()
    pair.initiator.write_all(stream_id, bytes(50_000))
    pair.settle()
    assert pair.responder.map.info(stream_id).received == 8192
    assert not pair.responder.map.wants_to_send
    pair.responder.map.read(stream_id, 4095)
    assert not pair.responder.map.wants_to_send
    pair.responder.map.read(stream_id, 1)
    sent = pair.move(pair.responder, pair.initiator)
    assert frames_of(sent, frames.MaxStreamData) == [frames.MaxStreamData(stream_id, 8192 + 4096)]


def test_a_window_drained_within_two_round_trips_doubles_up_to_its_maximum_and_a_slow_one_does_not() -> None:
    for pause, sizes in ((0.05, [1000, 2000, 4000, 4000]), (0.5, [1000, 1000, 1000, 1000])):
        window = ReceiveWindow(1000, 4000)
        seen = []
        for step in range(4):
            window.consumed = window.limit
            window.grant(step * pause, 0.1)
            seen.append(window.size)
        assert seen == sizes


def test_a_sender_that_stands_at_a_limit_says_so_once_and_is_otherwise_silent() -> None:
    pair = Pair(stream_window=8192, session_window=16_384)
    ids = [pair.initiator.open_bytes() for _ in range(3)]
    for stream_id in ids:
        pair.initiator.write_all(stream_id, bytes(50_000))
    said = frames_of([p for _ in range(5) for p in pair.move(pair.initiator, pair.responder)], frames.Blocked)
    assert {(frame.kind, frame.limit) for frame in said} >= {(BlockedKind.SESSION, 16_384), (BlockedKind.STREAM, 8192)}
    assert len(said) <= 3
    assert not pair.initiator.map.wants_to_send
    pair.initiator.write_all(ids[0], b"more")
    assert not pair.move(pair.initiator, pair.responder)


@pytest.mark.parametrize("resumable", [False, True])
def test_a_stream_that_was_fast_and_is_read_no_more_holds_up_no_other(resumable: bool) -> None:
    pair = Pair(stream_window=8192, session_window=65_536, max_stream_window=16_384, resumable=resumable)
    fast = pair.initiator.open_bytes()
    pair.initiator.write_all(fast, bytes(1 << 20))
    read = 0
    while read < 1 << 19:
        pair.settle()
        read += len(pair.responder.read_all(fast))
    pair.settle()
    assert pair.responder.map.info(fast).received - read == 16_384
    other = pair.initiator.open_bytes()
    pair.initiator.write_all(other, bytes(8192))
    pair.settle()
    assert len(pair.responder.read_all(other)) == 8192


def test_one_unread_stream_does_not_hold_up_another() -> None:
    pair = Pair(stream_window=8192, session_window=32_768)
    unread, read = pair.initiator.open_bytes(), pair.initiator.open_bytes()
    pair.initiator.write_all(unread, bytes(100_000))
    pair.initiator.write_all(read, bytes(100_000))
    total = 0
    for _ in range(50):
        pair.settle()
        total += len(pair.responder.read_all(read))
    assert total == 100_000


@pytest.mark.parametrize("kind", [frames.MaxData, frames.MaxStreamData, frames.MaxStreams])
def test_lost_credit_is_given_again_in_its_newest_form(kind: type) -> None:
    pair = Pair(max_streams=1, stream_window=8192, session_window=8192)
    sent = b""
    lost: list[bytes] = []

    def drop_first(packet: object) -> bool:
        plain = packet.plain  # type: ignore[attr-defined]
        if any(isinstance(frame, kind) for frame in packet.frames) and len(lost) < 3:  # type: ignore[attr-defined]
            lost.append(plain)
            return True
        return False

    for round_ in range(5):
        stream_id = pair.initiator.open_bytes()
        data = bytes([round_]) * 30_000
        pair.initiator.write_all(stream_id, data)
        pair.initiator.map.finish(stream_id)
        received = b""
        for _ in range(100):
            pair.settle(drop=drop_first)
            received += pair.responder.map.read(stream_id) or b""
            if len(received) == 30_000:
                break
        assert received == data
        pair.responder.read_all(stream_id)
        pair.responder.map.finish(stream_id)
        pair.settle(drop=drop_first)
        pair.initiator.read_all(stream_id)
        pair.settle(drop=drop_first)
        sent += data
    assert lost


def test_old_credit_that_comes_late_takes_nothing_back() -> None:
    pair = Pair()
    stream_id = pair.initiator.open_bytes()
    for limit in (2_000_000, 10):
        pair.initiator.map.receive_frame(frames.MaxData(limit), 0.0)
        pair.initiator.map.receive_frame(frames.MaxStreamData(stream_id, limit), 0.0)
    pair.initiator.map.receive_frame(frames.MaxStreams(1, 1), 0.0)
    pair.initiator.write_all(stream_id, bytes(1_000_000))
    got = frames_of([p for _ in range(40) for p in pair.initiator.fill()], frames.Data)
    assert sum(len(frame.data) for frame in got) == 1_000_000
    assert len({pair.initiator.map.open() for _ in range(100)}) == 100


def test_the_pool_refuses_past_its_limit_and_favours_one_stream_at_a_time() -> None:
    pool = MessagePool(100)
    pool.charge(1, 70)
    assert pool.available(2) == 30
    assert pool.available(1) == 100
    pool.charge(2, 30)
    assert pool.available(3) == 0
    assert pool.favour(3, 1000)
    assert pool.favour(3, 1000)
    assert not pool.favour(2, 1000)
    assert not pool.settle(3, 999, 0)
    assert pool.settle(3, 1000, 0)
    assert pool.favour(2, 1000)
    assert pool.settle(1, 0, 20)
    assert pool.available(4) == 50
    assert pool.drop(2)
    assert pool.favour(4, 1)


def test_many_messages_at_once_larger_than_the_pool_all_arrive() -> None:
    """Each waits for the others and none for ever, though all together exceed every limit."""
    pair = Pair(stream_window=4096, session_window=16_384, max_window=32_768, max_message=1 << 20)
    pair.responder.map.outgoing._pool.limit = 40_000
    ids = [pair.initiator.map.open() for _ in range(20)]
    messages = {stream_id: bytes([stream_id % 251]) * (60_000 + stream_id % 1000) for stream_id in ids}
    for stream_id in ids:
        assert pair.initiator.map.send_message(stream_id, messages[stream_id])
        assert pair.initiator.map.send_message(stream_id, b"and then this")
    got: dict[int, list[bytes]] = {stream_id: [] for stream_id in ids}
    most = 0
    for _ in range(200):
        pair.settle()
        held = [pair.responder.map._streams[stream_id].receive.queue.size for stream_id in ids]
        most = max(most, sum(held))
        for stream_id in ids:
            got[stream_id] += pair.responder.messages(stream_id)
    assert got == {stream_id: [messages[stream_id], b"and then this"] for stream_id in ids}
    assert most <= 40_000 + 20 * 4096 + 62_000


def test_credit_held_by_idle_streams_starves_no_message() -> None:
    pair = Pair(stream_window=4096, session_window=16_384, max_window=65_536, max_message=1 << 20)
    pair.responder.map.outgoing._pool.limit = 50_000
    pair.responder.map.outgoing.rtt_hint = 10.0  # everything counts as drained fast: windows grow as far as they may
    for _ in range(30):
        stream_id = pair.initiator.map.open()
        for size in (30_000, 100_000, 300_000):
            assert pair.initiator.map.send_message(stream_id, bytes(size))
            pair.settle()
            assert pair.responder.messages(stream_id) == [bytes(size)]


@pytest.mark.parametrize("how", ["stop", "reset"])
def test_a_stream_that_is_stopped_or_reset_gives_the_pool_back_what_it_held(how: str) -> None:
    pair = Pair(stream_window=4096, session_window=16_384, max_message=1 << 20)
    pair.responder.map.outgoing._pool.limit = 20_000
    unread, waiting = pair.initiator.map.open(), pair.initiator.map.open()
    pair.initiator.map.send_message(unread, bytes(50_000))
    pair.settle()
    pair.initiator.map.send_message(waiting, bytes(50_000))
    pair.settle()
    assert pair.responder.messages(waiting) == []
    if how == "stop":
        pair.responder.map.stop(unread)
    else:
        pair.initiator.map.reset(unread)
    pair.settle()
    assert pair.responder.messages(waiting) == [bytes(50_000)]
