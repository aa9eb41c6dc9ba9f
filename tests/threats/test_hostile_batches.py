"""Threat: a peer that holds the seed and sends batches made to trip what takes them in by columns.

Defence: a batch is taken in at once only where it is exactly what a packet after the other would have been; all else
goes packet by packet. Either way, what breaks the rules ends the session with a violation and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

from stt_core.channel import Channel
from stt_core.errors import CloseReason, ErrorCode
from stt_core.events import SessionClosed, SessionEstablished
from stt_core.frames import FrameType, pack_data
from stt_core.types import StreamMode
from tests.core.pair import Pair, channel_of, sealed

FIRST = (1 << 20) + 2
"""The first id the initiator takes by itself."""


def data(stream_id: int, offset: int, body: bytes, kind: int = FrameType.DATA) -> bytes:
    return pack_data(kind, stream_id, offset, len(body)) + body


def struck(plains: Sequence[bytes]) -> Pair:
    """Bob, after one batch of these from a genuine Alice."""
    pair = Pair()
    ours, _ = pair.connect()
    stream = ours.open_stream(mode=StreamMode.BYTES)
    ours.write(stream, b"open")
    pair.rest()
    packets = sealed(ours, *plains, now=pair.now)
    pair.bob.endpoint.receive_datagrams(b"".join(packets), len(packets[0]), pair.alice.path, pair.now)
    pair.settle()
    return pair


@pytest.mark.parametrize("start", [2**64 - 1, 2**64 - 1000, 2**63])
@pytest.mark.parametrize("count", [2, 64])
def test_a_batch_whose_offsets_leave_the_field_ends_the_session_alone(start: int, count: int) -> None:
    """The last packet's offset, worked out from the first one's, has no place in 64 bits."""
    pair = struck([data(FIRST, start, bytes(1000))] * count)
    (closed,) = pair.bob.told(SessionClosed)
    assert (closed.reason, closed.code) == (CloseReason.ERROR, ErrorCode.FLOW_CONTROL)
    assert pair.connect()


def outcome(plains: Sequence[bytes]) -> tuple[list[object], bytes]:
    """What Bob's application has in the end, and how far his windows and acknowledgements are."""
    pair = struck(plains)
    session = pair.bob.endpoint.session(pair.bob.told(SessionEstablished)[0].session_key)
    channel = channel_of(session)
    reasons: list[object] = [(event.reason, event.code) for event in pair.bob.told(SessionClosed)]
    read = b""
    if not reasons:
        while chunk := session.read(FIRST):
            read += chunk
    window = channel.streams._window
    return [reasons, window.received, window.consumed, channel.acks.packets.newest(256)], read


def in_order(random: Random, count: int, size: int) -> list[bytes]:
    return [data(FIRST, 4 + index * size, random.randbytes(size)) for index in range(count)]


def _swapped(random: Random, plains: list[bytes]) -> None:
    one, other = random.randrange(len(plains)), random.randrange(len(plains))
    plains[one], plains[other] = plains[other], plains[one]


def _patched(random: Random, plains: list[bytes]) -> None:
    """One byte of a header is another: kind, stream, offset or length."""
    index, at = random.randrange(len(plains)), random.randrange(15)
    plain = bytearray(plains[index])
    plain[at] ^= 1 << random.randrange(8)
    plains[index] = bytes(plain)


def _doubled(random: Random, plains: list[bytes]) -> None:
    plains[random.randrange(len(plains))] = plains[random.randrange(len(plains))]


def _padded(random: Random, plains: list[bytes]) -> None:
    """A frame that ends before its packet does."""
    index = random.randrange(len(plains))
    kind, stream_id, offset = plains[index][0], plains[index][1:5], plains[index][5:13]
    size = len(plains[index]) - 15
    cut = random.randrange(size)
    frame = bytes((kind,)) + stream_id + offset + cut.to_bytes(2, "big") + plains[index][15 : 15 + cut]
    plains[index] = frame + bytes(size - cut)


BENDS: list[Callable[[Random, list[bytes]], None]] = [_swapped, _patched, _doubled, _padded]


def test_a_batch_comes_to_the_same_as_its_packets_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(5)
    for _ in range(150):
        plains = in_order(random, random.randint(2, 12), random.choice((1, 2, 100, 1000)))
        for _ in range(random.choice((0, 1, 1, 2))):
            random.choice(BENDS)(random, plains)
        by_columns = outcome(plains)
        with monkeypatch.context() as patched:
            patched.setattr(Channel, "_take_columns", lambda *_: False)
            assert outcome(plains) == by_columns, plains
