"""Threat: a peer that holds the seed and wants our memory: sparse frames, floods of streams, huge ids, messages that
never end, lies about where a stream ends.

Defence: everything it makes us keep is bought with credit we gave, overhead included, and what is beyond is a
violation that ends the session. Measured with tracemalloc. And no limit may turn into a deadlock for the honest.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest

from stt_core import frames
from stt_core.config import KIB, MIB
from stt_core.errors import ErrorCode, StreamError, Violation
from stt_core.events import StreamReadable
from stt_core.streams.flow import UNFINISHED_LIMIT, MessagePool
from stt_core.streams.messages import length_prefix
from stt_core.types import StreamMode
from tests.core.stream_pair import End, Pair

SHARED = 1 << 20
FIRST = SHARED + 2
"""The first id of the initiator, who attacks; the responder is the victim."""


@contextmanager
def peak_below(limit: int) -> Iterator[None]:
    """Fails where more than ``limit`` bytes more than before are held at any time."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < limit


@pytest.fixture
def victim() -> End:
    return Pair().responder


def opened(victim: End, count: int, mode: StreamMode = StreamMode.BYTES) -> list[int]:
    """``count`` streams, opened by the attacker."""
    ids = [FIRST + 2 * index for index in range(count)]
    for stream_id in ids:
        victim.map.receive_frame(frames.StreamOpen(stream_id, mode, 3, ""), 0.0)
    return ids


def until_violation(attack: Callable[[int], None], most: int) -> ErrorCode | None:
    for step in range(most):
        try:
            attack(step)
        except Violation as violation:
            return violation.code
    return None


@pytest.mark.parametrize("streams", [1, 128])
@pytest.mark.parametrize("size", [1, 2, 40])
def test_peer_sparse_frames(victim: End, streams: int, size: int) -> None:
    """Every other byte: one byte of payload that would cost a hundred."""
    ids = opened(victim, streams)

    def attack(step: int) -> None:
        offset = (size + 1) * (step // streams) + 1
        victim.map.receive_data(ids[step % streams], offset, bytes(size), False, 0.0)

    with peak_below(3 * MIB):
        assert until_violation(attack, 1_000_000) is ErrorCode.FLOW_CONTROL


def test_peer_sparse_frames_in_random_order(victim: End) -> None:
    (stream_id,) = opened(victim, 1)
    random = Random(1)
    with peak_below(3 * MIB):
        until_violation(
            lambda step: victim.map.receive_data(stream_id, random.randrange(1, 262_000), b"xy", False, 0.0), 40_000
        )


@pytest.mark.parametrize("size", [1, 2, 100])
def test_peer_tiny_frames_that_nobody_reads(victim: End, size: int) -> None:
    """In order, so nothing is a gap; each frame alone would be mostly header in our memory."""
    ids = opened(victim, 4)

    def attack(step: int) -> None:
        victim.map.receive_data(ids[step % 4], step // 4 * size, bytes(size), False, 0.0)

    def attack_fast(step: int) -> None:
        half = victim.map.fast(ids[step % 4])
        assert half is not None
        chunks = [bytes(size) for _ in range(50)]
        victim.map.commit(half, chunks, half.expected + 50 * size, 0.0)

    with peak_below(3 * MIB):
        until_violation(attack, 50_000)
        assert until_violation(attack_fast, 1_000_000) is ErrorCode.FLOW_CONTROL


def test_peer_stream_flood(victim: End) -> None:
    """Opening without end: a violation at the limit, and little memory up to there."""

    def automatic(step: int) -> None:
        victim.map.receive_frame(frames.StreamOpen(FIRST + 2 * step, StreamMode.BYTES, 3, "p" * 255), 0.0)

    def explicit(step: int) -> None:
        victim.map.receive_frame(frames.Data(1 + step, 5, b"x", False), 0.0)

    with peak_below(1 * MIB):
        for attack in (automatic, explicit):
            assert until_violation(attack, 1_000_000) is ErrorCode.STREAM_LIMIT
        assert len(victim.map) == 256
        assert len(victim.events) <= 256


def test_peer_stream_flood_of_streams_that_end_at_once(victim: End) -> None:
    """Ended on the peer's side, they still count until the application has let them go."""

    def attack(step: int) -> None:
        stream_id = FIRST + 2 * step
        victim.map.receive_frame(frames.StreamClose(stream_id, 1, 0), 0.0)
        victim.map.receive_frame(frames.StreamStop(stream_id, 1), 0.0)
        victim.acked(victim.fill())

    with peak_below(1 * MIB):
        assert until_violation(attack, 100_000) is ErrorCode.STREAM_LIMIT


def test_peer_huge_ids(victim: End) -> None:
    for stream_id in (0xFFFF_FFFE, 0xFFFF_FFFF, SHARED + 2 + 2 * 128):
        for frame in (
            frames.Data(stream_id, 0, b"", True),
            frames.StreamOpen(stream_id, StreamMode.BYTES, 3, ""),
            frames.MaxStreamData(stream_id, 1),
        ):
            with pytest.raises(Violation) as caught:
                victim.map.receive_frame(frame, 0.0)
            assert caught.value.code in (ErrorCode.STREAM_LIMIT, ErrorCode.STREAM_STATE)
    assert len(victim.map) == 0


def test_peer_ids_scattered_over_the_whole_name_space(victim: End) -> None:
    """Used-up ids must be remembered; scattered as widely as can be, they still fit a bitmap."""
    with peak_below(512 * KIB):
        for index in range(20_000):
            stream_id = 1 + (index * 52_429) % SHARED  # each once, neighbours far apart
            victim.map.receive_frame(frames.StreamOpen(stream_id, StreamMode.BYTES, 3, ""), 0.0)
            victim.map.receive_frame(frames.StreamClose(stream_id, 0, 0), 0.0)
            victim.map.receive_frame(frames.StreamStop(stream_id, 0), 0.0)
            with pytest.raises(StreamError):
                victim.map.read(stream_id)
            victim.acked(victim.fill())
            victim.events.clear()
        assert len(victim.map) == 0


class Hoarder:
    """Begins a message on each of 64 streams, and sends of each as much as it gets credit for."""

    def __init__(self, victim: End, message: int) -> None:
        self.victim = victim
        self.total = message + len(length_prefix(message))
        self.ids = [*opened(victim, 32, StreamMode.MESSAGES), *range(1, 33)]
        for stream_id in self.ids[32:]:
            victim.map.receive_frame(frames.StreamOpen(stream_id, StreamMode.MESSAGES, 3, ""), 0.0)
        self.limits = dict.fromkeys(self.ids, victim.config.stream_window)
        self.sent = dict.fromkeys(self.ids, 0)
        self.credit = victim.config.session_window
        for stream_id in self.ids:
            self._send(stream_id, length_prefix(message))

    def _send(self, stream_id: int, data: bytes) -> None:
        self.victim.map.receive_data(stream_id, self.sent[stream_id], data, False, 0.0)
        self.sent[stream_id] += len(data)
        self.credit -= len(data)

    def push(self, upto: int) -> bool:
        """Send up to ``upto`` bytes of each stream, a bit of each in turn; whether anything moved."""
        before = sum(self.sent.values()) + sum(self.limits.values())
        for stream_id in self.ids:
            size = min(self.limits[stream_id], upto) - self.sent[stream_id]
            size = min(size, self.credit, 32 * KIB)
            if size > 0:
                self._send(stream_id, bytes(size))
            packets = self.victim.fill(0.0)
            self.victim.acked(packets)
            for frame in (frame for packet in packets for frame in packet.frames):
                if isinstance(frame, frames.MaxData):
                    self.credit = max(self.credit, frame.limit - sum(self.sent.values()))
                elif isinstance(frame, frames.MaxStreamData):
                    self.limits[frame.stream_id] = max(self.limits[frame.stream_id], frame.limit)
        return before != sum(self.sent.values()) + sum(self.limits.values())


def test_peer_huge_unfinished_messages() -> None:
    """On every stream a message that doesn't end. Memory stays within the pool, and in the end each gets through."""
    windows, message, pool = 16 * KIB, 256 * KIB, 2 * MIB
    victim = Pair(stream_window=windows, session_window=64 * KIB, max_window=256 * KIB, max_message=message).responder
    victim.map.outgoing._pool.limit = pool
    victim.map.outgoing.rtt_hint = 10.0
    with peak_below(pool + message + 64 * windows + 1 * MIB):
        peer = Hoarder(victim, message)
        while peer.push(message):
            pass
        assert not victim.take(StreamReadable)
        assert sum(peer.sent.values()) > pool
        assert peer.credit > 0, "streams are what is held up, the session isn't"
        left = set(peer.ids)
        while left:
            assert peer.push(peer.total)
            for stream_id in {event.stream_id for event in victim.take(StreamReadable)}:
                assert victim.map.read_message(stream_id) == bytes(message)
                left.remove(stream_id)


def test_unfinished_messages_share_64_mib_by_default() -> None:
    assert MessagePool().limit == UNFINISHED_LIMIT == 64 * MIB


@pytest.mark.parametrize(
    ("told", "lie", "code"),
    [
        ([], frames.StreamClose(FIRST, 0, 1 << 63), ErrorCode.FLOW_CONTROL),
        ([], frames.Data(FIRST, (1 << 64) - 1, b"x", True), ErrorCode.FLOW_CONTROL),
        ([], frames.Data(FIRST, 262_144, b"", True), None),
        ([], frames.Data(FIRST, 262_145, b"", True), ErrorCode.FLOW_CONTROL),
        ([(0, b"abc", False)], frames.StreamClose(FIRST, 0, 2), ErrorCode.FINAL_SIZE),
        ([(0, b"abc", True)], frames.StreamClose(FIRST, 0, 4), ErrorCode.FINAL_SIZE),
        ([(9, b"abc", False)], frames.Data(FIRST, 0, b"abc", True), ErrorCode.FINAL_SIZE),
        ([(9, b"", True)], frames.Data(FIRST, 9, b"x", False), ErrorCode.FINAL_SIZE),
        ([(9, b"", True)], frames.Data(FIRST, 10, b"", True), ErrorCode.FINAL_SIZE),
    ],
    ids=str,
)
@pytest.mark.parametrize("stopped", [False, True], ids=["read", "stopped"])
def test_peer_lies_about_final_size(
    victim: End, told: list[tuple[int, bytes, bool]], lie: frames.Frame, code: ErrorCode | None, stopped: bool
) -> None:
    opened(victim, 1)
    if stopped and not any(fin for _, _, fin in told):
        victim.map.stop(FIRST)
    for offset, data, fin in told:
        victim.map.receive_data(FIRST, offset, data, fin, 0.0)
    if code is None:
        victim.map.receive_frame(lie, 0.0)
        return
    with pytest.raises(Violation) as caught:
        victim.map.receive_frame(lie, 0.0)
    assert caught.value.code is code


def test_peer_lies_about_final_size_give_no_credit(victim: End) -> None:
    """Resets that claim bytes never sent use up the session's window like bytes; claiming more is a violation."""
    for stream_id in opened(victim, 4):
        victim.map.receive_frame(frames.StreamClose(stream_id, 0, 262_144), 0.0)
    window = victim.map._window
    assert window.received == 4 * 262_144 == window.consumed
    opened(victim, 5)
    with pytest.raises(Violation) as caught:
        victim.map.receive_data(FIRST + 8, 0, b"x", False, 0.0)
    assert caught.value.code is ErrorCode.FLOW_CONTROL


def test_peer_large_packets_that_say_nearly_everything_twice(victim: End) -> None:
    """Of each 60,000 bytes 4096 or one are new: to keep views of their packets would be to keep the packets."""
    ids = opened(victim, 4)
    size = 60_000

    def say(stream_id: int, end: int) -> None:
        packet = bytes(frames.DATA_OVERHEAD + size)
        victim.map.receive_data(stream_id, end - size, memoryview(packet)[frames.DATA_OVERHEAD :], False, 0.0)

    with peak_below(2 * MIB):
        for stream_id in ids:
            end = size
            say(stream_id, end)
            while end + 4097 <= 256 * KIB:
                say(stream_id, end + 4096)
                say(stream_id, end + 4097)
                end += 4097


def test_peer_large_packets_that_leave_one_byte_of_each_behind_a_gap(victim: End) -> None:
    """Pieces with holes of one byte between them, which packets fill that overlap both."""
    (stream_id,) = opened(victim, 1)
    size = 20_000

    def say(start: int) -> None:
        packet = bytes(frames.DATA_OVERHEAD + size)
        victim.map.receive_data(stream_id, start, memoryview(packet)[frames.DATA_OVERHEAD :], False, 0.0)

    with peak_below(320 * KIB):
        for start in range(1, 256 * KIB - size, size + 1):
            say(start)
        for start in range(1 + size, 220 * KIB, size + 1):
            say(start - size // 2)
