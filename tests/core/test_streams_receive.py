"""The receiving half: reassembly from any order, final sizes, and reading."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random

import pytest

from stt_core.errors import ErrorCode, StreamResetError, Violation
from stt_core.state import ReceiveState
from stt_core.streams.flow import ReceiveWindow, SessionWindow
from stt_core.streams.receive import JOIN, ByteQueue, ReceiveHalf
from stt_core.types import StreamMode

WINDOW = 1 << 18


def half(mode: StreamMode = StreamMode.BYTES, window: int = WINDOW) -> ReceiveHalf:
    return ReceiveHalf(5, mode, ReceiveWindow(window, window), SessionWindow(WINDOW, WINDOW), 1 << 24)


def drain(receive: ReceiveHalf) -> bytes:
    data = b""
    while part := receive.read(1 << 20):
        data += part
    return data


def test_pieces_in_every_order_give_the_same_bytes() -> None:
    data = bytes(range(50))
    cuts = [(0, 10), (10, 20), (20, 35), (35, 50), (15, 40)]
    for order in itertools.permutations(cuts):
        receive = half()
        for start, stop in order:
            receive.receive(start, data[start:stop], False)
        assert drain(receive) == data
        assert not receive._starts
        assert receive._session.overhead == 0


@pytest.mark.parametrize("seed", range(20))
def test_random_overlapping_pieces_give_the_same_bytes(seed: int) -> None:
    random = Random(seed)
    data = random.randbytes(40_000)
    receive = half()
    got = b""
    size = random.choice([30, 1000, 9000])
    while receive.state is not ReceiveState.DATA_READ:
        start = random.randrange(len(data))
        if random.random() < 0.2:
            start = receive.expected
        stop = min(len(data), start + random.randrange(1, size))
        receive.receive(start, data[start:stop], stop == len(data))
        assert all(
            a + len(p) <= b for a, p, b in zip(receive._starts, receive._pieces, receive._starts[1:], strict=False)
        )
        got += drain(receive)
    assert got == data


def test_small_neighbours_behind_a_gap_are_kept_as_one() -> None:
    for offsets in (range(1, 3000), range(2999, 0, -1)):
        receive = half()
        for offset in offsets:
            receive.receive(offset, b"x", False)
        assert len(receive._starts) <= 2 * 3000 // JOIN + 1
        receive.receive(0, b"x", False)
        assert drain(receive) == b"x" * 3000


def test_a_whole_chunk_is_read_as_it_came() -> None:
    receive = half()
    chunk = bytes(5000)
    receive.commit([chunk], 5000)
    assert receive.read(60_000) is chunk


def test_a_read_takes_at_most_what_was_asked_for() -> None:
    queue = ByteQueue()
    queue.push([b"a" * 5000, b"b" * 5000, b"c" * 5000], 15_000)
    assert queue.take(1) == b"a"
    assert queue.take(6000) == b"a" * 4999 + b"b" * 1001
    assert queue.peek(5) == b"bbbbb"
    assert queue.take(3999) == b"b" * 3999
    assert queue.take(5000) == b"c" * 5000
    assert queue.size == 0


def test_many_tiny_chunks_are_not_kept_one_by_one() -> None:
    queue = ByteQueue()
    for _ in range(10_000):
        queue.push([b"ab"], 2)
    assert len(queue._chunks) <= 20_000 // (JOIN // 2) + 1
    queue.push([b"cd"] * 10_000, 20_000)
    assert queue.take(40_000) == b"ab" * 10_000 + b"cd" * 10_000


@pytest.mark.parametrize(
    ("before", "then"),
    [
        ([(0, b"abc", True)], (0, b"abcd", False)),  # beyond the end
        ([(0, b"abc", True)], (0, b"ab", True)),  # another end
        ([(0, b"abc", True)], (0, b"abcd", True)),
        ([(5, b"abc", False)], (0, b"abc", True)),  # an end below what was seen
    ],
)
def test_a_final_size_stands(before: list[tuple[int, bytes, bool]], then: tuple[int, bytes, bool]) -> None:
    receive = half()
    for frame in before:
        receive.receive(*frame)
    with pytest.raises(Violation) as caught:
        receive.receive(*then)
    assert caught.value.code is ErrorCode.FINAL_SIZE


@pytest.mark.parametrize("final", [2, 4])
def test_a_reset_may_not_change_the_final_size(final: int) -> None:
    receive = half()
    receive.receive(0, b"abc", True)
    with pytest.raises(Violation) as caught:
        receive.receive_reset(0, final)
    assert caught.value.code is ErrorCode.FINAL_SIZE


def test_a_reset_below_what_arrived_is_a_lie() -> None:
    receive = half()
    receive.receive(10, b"abc", False)
    with pytest.raises(Violation) as caught:
        receive.receive_reset(0, 12)
    assert caught.value.code is ErrorCode.FINAL_SIZE


def test_a_reset_after_everything_came_does_not_take_it_away() -> None:
    receive = half()
    receive.receive(0, b"abc", True)
    receive.receive_reset(9, 3)
    assert drain(receive) == b"abc"
    assert receive.terminal


def test_a_reset_ends_reading_at_once_and_counts_as_consumed() -> None:
    receive = half()
    receive.receive(0, b"abc", False)
    receive.receive(10, b"abc", False)
    receive.receive_reset(9, 1000)
    assert receive._session.consumed == receive._session.received == 1000
    with pytest.raises(StreamResetError):
        receive.read(10)
    assert receive.terminal


@pytest.mark.parametrize(("window", "limit"), [(1000, 1000), (2 * WINDOW, WINDOW)], ids=["stream", "session"])
@pytest.mark.parametrize("how", ["data", "reset", "fast"])
def test_data_beyond_either_window_is_a_violation(window: int, limit: int, how: str) -> None:
    receive = half(window=window)
    receive.commit([bytes(limit)], limit)
    beyond: dict[str, Callable[[], None]] = {
        "data": lambda: receive.receive(limit, b"x", False),
        "reset": lambda: receive.receive_reset(0, limit + 1),
        "fast": lambda: receive.commit([b"x"], limit + 1),
    }
    with pytest.raises(Violation) as caught:
        beyond[how]()
    assert caught.value.code is ErrorCode.FLOW_CONTROL


def test_gaps_and_ends_are_not_for_the_fast_path() -> None:
    receive = half()
    in_order = [receive.in_order]
    for frame in ((5, b"x", False), (0, b"01234", False), (6, b"", True)):
        receive.receive(*frame)
        in_order.append(receive.in_order)
    assert in_order == [True, False, True, False]


def test_reading_messages_across_any_chunks() -> None:
    messages = [b"", b"a", b"b" * 127, b"c" * 128, b"d" * 20_000, b"", b"e"]
    wire = b"\x00\x01a\x7f" + b"b" * 127 + b"\x80\x01" + b"c" * 128 + b"\xa0\x9c\x01" + b"d" * 20_000 + b"\x00\x01e"
    for step in (1, 2, 3, 1000, len(wire)):
        receive = half(StreamMode.MESSAGES)
        got = []
        for at in range(0, len(wire), step):
            chunk = wire[at : at + step]
            receive.commit([chunk], at + len(chunk))
            while (message := receive.read_message()) is not None:
                got.append(message)
        receive.receive(len(wire), b"", True)
        assert receive.read_message() is None
        assert receive.at_end()
        assert got == messages


def test_bytes_of_an_unfinished_message_count_as_consumed_those_of_a_whole_one_when_it_is_read() -> None:
    receive = half(StreamMode.MESSAGES)
    receive.commit([b"\x84\x01" + b"x" * 100], 102)
    assert receive.window.consumed == 102
    receive.commit([b"x" * 32 + b"\x02yy"], 137)
    assert receive.window.consumed == 102
    assert receive.read_message() == b"x" * 132
    assert receive.window.consumed == 134
    assert receive.read_message() == b"yy"
    assert receive.window.consumed == receive._session.consumed == 137


def test_an_empty_frame_ahead_of_everything_is_not_taken_back_by_what_follows_in_order() -> None:
    receive = half()
    receive.receive(1000, b"", False)
    receive.receive(0, bytes(100), False)
    assert receive.window.received == receive._session.received == 1000
    receive.receive(100, bytes(1000), False)
    assert receive.window.received == receive._session.received == 1100
