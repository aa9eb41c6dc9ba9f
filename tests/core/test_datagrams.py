"""The two bounded queues of unreliable messages."""

from __future__ import annotations

from stt_core.datagrams import DATAGRAM_OVERHEAD, Datagrams
from stt_core.frames import Datagram, parse_frames_untrusted
from stt_core.packing import Batch

LIMIT = 10_000


def test_boundaries_and_order_are_kept() -> None:
    queue = Datagrams(LIMIT)
    sent = [b"", b"a", bytes(500), b"last"]
    assert all(queue.send(data) for data in sent)
    batch = Batch(1000, 4)
    queue.fill(batch)
    batch.end_packet(pad=False)
    got = [
        frame.data for plain in batch.plains for frame in parse_frames_untrusted(plain) if isinstance(frame, Datagram)
    ]
    assert got == sent
    assert not queue.outgoing


def test_what_does_not_fit_now_waits() -> None:
    queue = Datagrams(LIMIT)
    for _ in range(5):
        queue.send(bytes(900))
    batch = Batch(1000, 2)
    queue.fill(batch)
    assert queue.outgoing is not None
    assert len(queue.outgoing) == 3


def test_one_that_the_path_cannot_carry_any_more_is_dropped_and_holds_nobody_up() -> None:
    queue = Datagrams(LIMIT)
    queue.send(bytes(1000))
    queue.send(b"small")
    batch = Batch(1000, 2)
    queue.fill(batch)
    batch.end_packet(pad=False)
    assert batch.plains == [Datagram(b"small").encode()]
    assert len(batch.plains[0]) - len(b"small") == DATAGRAM_OVERHEAD


def test_the_queue_out_is_bounded_and_drains() -> None:
    queue = Datagrams(LIMIT)
    accepted = 0
    while queue.send(bytes(436)):
        accepted += 1
    assert accepted == LIMIT // 500
    for _ in range(3):
        batch = Batch(1000, 64)
        queue.fill(batch)
        for _ in range(accepted):
            assert queue.send(bytes(436))
        assert not queue.send(bytes(436))


def test_the_queue_in_is_bounded_drops_the_newest_and_counts_them() -> None:
    queue = Datagrams(LIMIT)
    first = [queue.receive(bytes((number,)) * 436) for number in range(30)]
    assert first == [True] + [False] * 29  # told once: the first that waits
    assert queue.dropped == 10
    got = []
    while (data := queue.read()) is not None:
        got.append(data[0])
    assert got == list(range(20))
    assert queue.receive(b"again")


def test_empty_ones_are_not_free() -> None:
    queue = Datagrams(LIMIT)
    for _ in range(10_000):
        queue.receive(b"")
    assert queue.dropped > 9000


def test_an_unused_pair_of_queues_costs_next_to_nothing() -> None:
    queue = Datagrams(LIMIT)
    queue.fill(Batch(1000, 1))
    assert queue.read() is None
    assert queue.outgoing is None
