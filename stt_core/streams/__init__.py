"""Streams: send buffers, reassembly, flow control, message boundaries, and the map of a session's streams."""

from __future__ import annotations

from stt_core.streams.lasting import LastingStreams
from stt_core.streams.map import STREAM_FRAMES, StreamMap
from stt_core.streams.receive import READ_SIZE, ReceiveHalf
from stt_core.streams.stream import StreamInfo

__all__ = ["READ_SIZE", "STREAM_FRAMES", "LastingStreams", "ReceiveHalf", "StreamInfo", "StreamMap"]
