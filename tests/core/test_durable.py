from __future__ import annotations

import random

import pytest

from stt_core.durable import CHUNK, DurableSink, DurableSource, MemoryLog
from stt_core.errors import ErrorCode, StateError, Violation


def told(source: DurableSource, *positions: int) -> None:
    source.receive_untrusted(b"".join(position.to_bytes(8, "big") for position in positions))


def filled(size: int) -> MemoryLog:
    log = MemoryLog()
    log.append(bytes(index % 251 for index in range(size)))
    return log


def test_nothing_is_sent_before_the_peer_has_said_where_to_begin() -> None:
    source = DurableSource(filled(10))
    assert source.next_chunk() is None
    told(source, 4)
    assert source.next_chunk() == bytes(range(4, 10))
    assert source.next_chunk() is None


def test_bytes_are_kept_until_they_are_consumed_whatever_was_sent() -> None:
    log = filled(3 * CHUNK)
    source = DurableSource(log)
    told(source, 0)
    while source.next_chunk():
        pass
    assert (log.base, log.end) == (0, 3 * CHUNK)
    told(source, CHUNK)
    assert (log.base, log.end) == (CHUNK, 3 * CHUNK)
    again = DurableSource(log)
    told(again, CHUNK + 5)
    assert again.next_chunk() == log.read(CHUNK + 5, CHUNK)


def test_it_is_complete_once_all_there_will_be_is_consumed() -> None:
    log = filled(10)
    source = DurableSource(log)
    told(source, 0)
    source.next_chunk()
    told(source, 10)
    before = source.complete
    log.finish()
    assert (before, source.complete) == (False, True)
    again = DurableSource(log)
    before = again.complete  # whoever was killed meanwhile is told once more that there is nothing
    told(again, 10)
    assert (before, again.complete, again.exhausted) == (False, True, True)


@pytest.mark.parametrize(
    ("first", "then", "code"),
    [
        ([11], [], ErrorCode.PROTOCOL_VIOLATION),
        ([2], [], ErrorCode.RESUME_GAP),
        ([5], [4], ErrorCode.PROTOCOL_VIOLATION),
        ([5], [6], ErrorCode.PROTOCOL_VIOLATION),
        ([2**64 - 1], [], ErrorCode.PROTOCOL_VIOLATION),
    ],
    ids=["never appended", "gone", "less than before", "never sent", "huge"],
)
def test_positions_that_cannot_be_are_refused_and_free_nothing(first: list[int], then: list[int], code: int) -> None:
    log = filled(10)
    log.release(3)
    source = DurableSource(log)
    with pytest.raises(Violation) as raised:  # noqa: PT012 - the first may be the one
        told(source, *first)
        told(source, *then)
    assert raised.value.code == code
    assert log.base == (5 if then else 3)


def test_positions_come_in_any_pieces() -> None:
    log = filled(10)
    source = DurableSource(log)
    data = b"".join(position.to_bytes(8, "big") for position in (0, 0))
    for at in range(len(data)):
        source.receive_untrusted(data[at : at + 1])
    assert source.next_chunk() is not None
    source.receive_untrusted((7).to_bytes(8, "big")[:3])
    assert log.base == 0
    source.receive_untrusted((7).to_bytes(8, "big")[3:])
    assert log.base == 7


def test_a_log_takes_no_more_than_there_is_room_for_and_nothing_after_its_end() -> None:
    log = MemoryLog(limit=10)
    log.append(bytes(6))
    with pytest.raises(StateError, match="room for 4"):
        log.append(bytes(5))
    log.release(3)
    log.append(bytes(7))
    log.finish()
    with pytest.raises(StateError, match="finished"):
        log.append(b"x")
    assert (log.base, log.end, log.room) == (3, 13, 0)


def test_a_receiver_says_what_it_has_consumed_and_no_more_than_it_has() -> None:
    sink = DurableSink(7)
    assert sink.hello() == (7).to_bytes(8, "big")
    sink.received += 5
    for position in (6, 13):
        with pytest.raises(StateError):
            sink.consume(position)
    assert sink.consume(9) == (9).to_bytes(8, "big")
    assert sink.consume() == (12).to_bytes(8, "big")
    with pytest.raises(StateError):
        DurableSink(-1)


@pytest.mark.parametrize("seed", range(20))
def test_bytes_are_equal_wherever_either_side_forgets_the_session(seed: int) -> None:
    choose = random.Random(seed)
    whole = choose.randbytes(3 * CHUNK)
    log, kept, written = MemoryLog(CHUNK), bytearray(), 0
    finished = False
    while not finished:
        source, sink = DurableSource(log), DurableSink(len(kept))
        source.receive_untrusted(sink.hello())
        under_way = b""
        for _ in range(choose.randrange(20)):
            size = min(choose.randrange(CHUNK), log.room, len(whole) - written)
            if size and not log.finished:
                log.append(whole[written : written + size])
                written += size
            if written == len(whole):
                log.finish()
            if choose.random() < 0.7:
                under_way += source.next_chunk() or b""
            taken = choose.randrange(len(under_way) + 1)
            sink.received += taken
            fresh, under_way = under_way[:taken], under_way[taken:]
            kept += fresh
            if choose.random() < 0.5:
                source.receive_untrusted(sink.consume())
        finished = source.complete
    assert kept == whole
