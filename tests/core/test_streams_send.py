"""The sending half: what packets it makes of what it was given, and what becomes of losses."""

from __future__ import annotations

from itertools import groupby

import pytest

from stt_core.frames import DATA_OVERHEAD, Data, StreamOpen, parse_frames_untrusted
from stt_core.packing import Batch
from stt_core.streams.send import SendHalf
from tests.core.stream_pair import ROOM, Pair, frames_of

BODY = ROOM - DATA_OVERHEAD


def numbered(size: int) -> bytes:
    """Bytes no two stretches of which are alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(-(-size // 4)))[:size]


def half(*parts: bytes) -> SendHalf:
    send = SendHalf(5, 1 << 40)
    for part in parts:
        send.append(part)
    return send


def fill(send: SendHalf, *, limit: int = 64, credit: int = 1 << 40) -> tuple[Batch, list[Data]]:
    batch = Batch(ROOM, limit)
    send.fill(batch, credit, limit)
    batch.end_packet(pad=False)
    return batch, [f for plain in batch.plains for f in parse_frames_untrusted(plain) if isinstance(f, Data)]


def joined(frames: list[Data]) -> bytes:
    """The stream's bytes, which must be there once and without gaps."""
    data = b""
    for frame in sorted(frames, key=lambda frame: frame.offset):
        assert frame.offset == len(data)
        data += frame.data
    return data


def test_full_packets_of_one_write_are_one_run_and_the_rest_is_a_piece() -> None:
    data = numbered(10 * BODY + 100)
    batch, frames = fill(half(data))
    assert [count for count, _ in batch.records] == [10, 1]
    assert batch.records[0][1] == (5, 0, BODY)
    assert joined(frames) == data


def test_a_run_goes_across_the_edges_of_writes() -> None:
    data = numbered(200_000)
    batch, frames = fill(half(data[:60_000], data[60_000:120_001], data[120_001:]), limit=200)
    assert len(batch.records) == 2
    assert joined(frames) == data


def test_small_writes_share_packets() -> None:
    data = numbered(5000)
    batch, frames = fill(half(*(data[at : at + 7] for at in range(0, 5000, 7))))
    assert len(batch.plains) == -(-5000 // BODY)
    assert joined(frames) == data


def test_nothing_is_copied_before_it_is_sent_nor_kept_after_it_is_acknowledged() -> None:
    data = bytes(100_000)
    send = half(data)
    fill(send, limit=200)
    assert send._chunks[0] is data
    send.on_acked(0, 100_000)
    assert not send._chunks
    assert not send.unacknowledged


@pytest.mark.parametrize("size", [0, 1, BODY - 1, BODY, BODY + 1, 7 * BODY])
def test_the_end_rides_on_the_last_packet(size: int) -> None:
    send = half(*([numbered(size)] if size else []))
    send.finish()
    batch, frames = fill(send)
    assert [frame.fin for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert len(batch.plains) == max(1, -(-size // BODY))
    assert (send.owes, send.unsent) == (False, 0)


def test_an_end_that_comes_after_the_data_was_sent_is_sent_alone() -> None:
    send = half(b"data")
    fill(send)
    send.finish()
    _, frames = fill(send)
    assert frames == [Data(5, 4, b"", True)]


def test_what_is_lost_is_sent_before_what_is_new_and_what_was_acknowledged_meanwhile_is_not() -> None:
    data = numbered(20 * BODY)
    send = half(data)
    _, first = fill(send, limit=10)
    send.on_acked(4 * BODY, 6 * BODY)
    send.on_lost(2 * BODY, 8 * BODY)
    send.on_acked(7 * BODY, 8 * BODY)
    _, second = fill(send, limit=6)
    lost = [2 * BODY, 3 * BODY, 6 * BODY]
    assert [frame.offset for frame in second] == [*lost, 10 * BODY, 11 * BODY, 12 * BODY]
    _, third = fill(send)
    assert joined(first + [frame for frame in second if frame.offset not in lost] + third) == data


def test_a_lost_run_is_sent_as_a_run() -> None:
    send = half(numbered(30 * BODY))
    fill(send)
    send.on_lost(0, 20 * BODY)
    batch, _ = fill(send)
    assert batch.records == [(20, (5, 0, BODY))]


def test_a_lost_end_is_sent_again_until_it_is_acknowledged() -> None:
    send = half(b"data")
    send.finish()
    fill(send)
    send.on_lost(0, 4, fin=True)
    _, again = fill(send)
    assert again == [Data(5, 0, b"data", True)]
    send.on_acked(0, 4)
    send.on_lost(0, 4, fin=True)
    assert fill(send)[1] == [Data(5, 4, b"", True)]
    assert send.unacknowledged
    send.on_acked(4, 4, fin=True)
    assert send.terminal
    send.on_lost(0, 4, fin=True)
    assert (send.owes, send.unsent) == (False, 0)


def test_acknowledgements_in_any_order_free_everything_in_the_end() -> None:
    send = half(*(numbered(3000) for _ in range(10)))
    fill(send)
    for start in (9000, 3000, 27_000, 0, 15_000, 12_000, 6000, 24_000, 21_000, 18_000):
        assert send.unacknowledged
        send.on_acked(start, start + 3000)
    assert send.base == 30_000
    assert not send._chunks
    assert not send._acked


def test_both_windows_hold_new_data_back_but_never_what_was_lost() -> None:
    send = half(numbered(10_000))
    send.limit = 4000
    assert len(joined(fill(send, credit=3000)[1])) == 3000
    assert (send.owes, send.sent) == (False, 3000)
    assert sum(len(frame.data) for frame in fill(send, credit=9000)[1]) == 1000
    assert (send.owes, send.sent) == (False, send.limit)
    send.on_lost(0, 2000)
    assert send.owes
    assert joined(fill(send, credit=0)[1]) == numbered(2000)


def test_an_open_packet_is_filled_before_a_new_one_is_begun() -> None:
    pair = Pair()
    stream_id = pair.initiator.open_bytes(purpose="p" * 100)
    pair.initiator.write_all(stream_id, bytes(5 * BODY))
    packets = pair.initiator.fill()
    assert len(packets) == 6
    assert [len(packet.plain) for packet in packets[:5]] == [ROOM] * 5
    first = packets[0].frames
    assert isinstance(first[0], StreamOpen)
    assert isinstance(first[1], Data)


@pytest.mark.parametrize("room", [1171, 1423, 16_339, 65_443])
@pytest.mark.parametrize("writes", [[60_000] * 5, [1, 100_000, 3, 16_383, 16_384], [10] * 300 + [70_000]])
def test_packets_of_any_size_carry_the_same_bytes(room: int, writes: list[int]) -> None:
    pair = Pair()
    stream_id = pair.initiator.open_bytes()
    data = numbered(sum(writes))
    at = 0
    received = b""
    for size in writes:
        pair.initiator.write_all(stream_id, data[at : at + size])
        at += size
        pair.settle(room=room, limit=max(1, 65_472 // room))
        received += pair.responder.read_all(stream_id)
    pair.settle(room=room)
    assert received + pair.responder.read_all(stream_id) == data


def test_streams_of_one_urgency_share_by_bytes_and_a_more_urgent_one_goes_first() -> None:
    pair = Pair()
    ids = [pair.initiator.open_bytes() for _ in range(3)]
    urgent = pair.initiator.open_bytes(priority=0)
    for stream_id in ids:
        pair.initiator.write_all(stream_id, bytes(250_000))
    pair.initiator.write_all(urgent, bytes(20_000))
    order: list[int] = []
    sent = dict.fromkeys([urgent, *ids], 0)
    for _ in range(400):
        for frame in frames_of(pair.initiator.fill(limit=1), Data):
            sent[frame.stream_id] += len(frame.data)
            order.append(frame.stream_id)
        if sent[urgent] == 20_000:
            shares = [sent[stream_id] for stream_id in ids]
            assert max(shares) - min(shares) <= 34_000
    assert set(order[:18]) == {urgent}
    assert min(sent.values()) > 0


def test_what_was_lost_goes_before_what_is_new_but_not_before_what_is_more_urgent() -> None:
    pair = Pair()
    first, second = (pair.initiator.open_bytes() for _ in range(2))
    pair.initiator.write_all(first, bytes(5000))
    gone = pair.initiator.fill(limit=2)
    urgent = pair.initiator.open_bytes(priority=0)
    for stream_id in (second, urgent):
        pair.initiator.write_all(stream_id, bytes(2000))
    pair.initiator.lost(gone)
    order = [frame.stream_id for frame in frames_of(pair.initiator.fill(), Data)]
    assert [stream_id for stream_id, _ in groupby(order)] == [urgent, first, second]


def test_streams_that_wait_for_the_sessions_window_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(session_window=20_000, stream_window=10_000, max_streams=500)
    end = pair.initiator
    ids = [end.open_bytes() for _ in range(400)]
    for stream_id in ids:
        end.write_all(stream_id, bytes(3000))
    asked: list[int] = []
    original = SendHalf.fill

    def counted(send: SendHalf, batch: Batch, credit: int, packets: int) -> int:
        asked.append(send.stream_id)
        return original(send, batch, credit, packets)

    monkeypatch.setattr(SendHalf, "fill", counted)
    sent = end.fill(limit=1000)
    assert end.map.outgoing.sent == 20_000
    assert not end.map.wants_to_send
    end.lost(packet for packet in sent if isinstance(packet.content, list))
    assert end.map.outgoing.wants_to_send  # what was lost has its credit
    end.fill(limit=1000)
    for limit in range(30_000, 300_000, 10_000):
        end.map.receive_max_data(limit)
        end.fill(limit=1000)
    assert end.map.outgoing.sent == 290_000
    assert len(asked) < 300  # not 400 each time
