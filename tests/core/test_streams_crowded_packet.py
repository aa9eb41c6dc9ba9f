"""Credit that finds no room in a packet goes into the next one: it is owed, and nobody would ever ask for it again."""

from __future__ import annotations

import pytest

from stt_core.frames import FrameType, MaxData, MaxStreamData
from stt_core.packing import Batch
from stt_core.types import StreamMode
from tests.core.stream_pair import ROOM, Pair, frames_of

WINDOW = 4096
BOTH = 9 + 13
"""Bytes of MAX_DATA and MAX_STREAM_DATA."""


@pytest.mark.parametrize("free", [0, 3, 8, 9, 12, 13, 21, BOTH])
@pytest.mark.parametrize("mode", StreamMode)
def test_a_limit_that_did_not_fit_is_announced_later(mode: StreamMode, free: int) -> None:
    pair = Pair(stream_window=WINDOW, session_window=WINDOW)
    sender, receiver = pair.ends
    stream = sender.map.open(mode=mode)
    if mode is StreamMode.BYTES:
        sender.write_all(stream, bytes(WINDOW))
        pair.move(sender, receiver)
        receiver.read_all(stream)
    else:
        sender.map.send_message(stream, bytes(WINDOW - 2))
        pair.move(sender, receiver)
        receiver.messages(stream)

    crowded = Batch(ROOM, 1)
    crowded.add(bytes(ROOM - free), (FrameType.KEEP_ALIVE, 0))
    receiver.map.fill(crowded, pair.now)
    crowded.end_packet(pad=False)
    said = [token[0] for _, content in crowded.records if isinstance(content, list) for token in content]
    packets = receiver.fill(pair.now)
    said += [FrameType.MAX_DATA for _ in frames_of(packets, MaxData)]
    said += [FrameType.MAX_STREAM_DATA for _ in frames_of(packets, MaxStreamData)]
    assert sorted(said[1:]) == [FrameType.MAX_DATA, FrameType.MAX_STREAM_DATA]
