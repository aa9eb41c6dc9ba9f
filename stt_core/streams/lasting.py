"""Streams that outlive their keys: what happens to them when a session is detached, and when it is resumed.

Rule: while there are no keys, and until the peer has said what it holds, nothing new is accepted to be sent, so that
what a detached session takes is known. What had come can be read all the time.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from stt_core import frames
from stt_core.config import EndpointConfig
from stt_core.events import AnyEvent
from stt_core.parameters import TransportParameters
from stt_core.streams.ids import EXPLICIT_LIMIT
from stt_core.streams.map import StreamMap
from stt_core.streams.resuming import Resumption
from stt_core.streams.stream import Stream
from stt_core.types import Role, SessionKey

STREAM_COST: Final = 2048
"""Bytes that a stream without content takes, its objects and what names it elsewhere."""


class LastingStreams(StreamMap):
    """The streams of a session that may be resumed."""

    __slots__ = ("_config", "_resumption")

    def __init__(self, *, role: Role, config: EndpointConfig, session_key: SessionKey, events: deque[AnyEvent]) -> None:
        super().__init__(role=role, config=config, session_key=session_key, events=events)
        self._config = config
        self._resumption: Resumption | None = None
        if config.resumable:
            # What a session may hold while it is detached is what its windows let it.
            cap = max(config.session_window, min(config.max_window, config.resumable_window))
            self._window.maximum = cap
            self._max_window = min(cap, config.max_stream_window or cap)

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory the streams take."""
        return sum([STREAM_COST + s.send.held_bytes + s.receive.queue.size for s in self._streams.values()])

    @property
    def resuming(self) -> bool:
        """Whether the peer has yet to say what it holds."""
        return self._resumption is not None

    def suspend(self) -> None:
        """The keys are gone: keep what can go on under others, and accept nothing new to send meanwhile."""
        self._send_buffer = 0
        self._resumption = None
        size = self._config.stream_window
        unread = sum([stream.receive.suspend(size) for stream in self._streams.values()])
        self._window.start_over(self._config.session_window, unread)
        self.outgoing.hold()

    def begin(self, parameters: TransportParameters, *, resumed: bool) -> list[bytes]:
        """There are keys, and a peer that declares ``parameters``; ``resumed``: not the first, see :meth:`suspend`.

        Returns what has to be told to the peer, reliably.
        """
        self.set_peer_limits(parameters)
        if not resumed:
            return []
        self._resumption = Resumption(
            self._streams,
            ids=self._ids,
            outgoing=self.outgoing,
            window=parameters.initial_max_stream_data,
            most=2 * (self._config.max_streams + parameters.max_streams + 2 * EXPLICIT_LIMIT),
            fail=self._fail,
            settled=self._settled,
        )
        return self._resumption.ours()

    def receive_state(self, frame: frames.ResumeState) -> None:
        """RESUME_STATE; once the peer's is whole, the streams go on. A late repetition changes nothing.

        :raises Violation: where it can't be true.
        """
        if self._resumption is not None and self._resumption.receive(frame):
            self._resumption = None
            self._send_buffer = self._config.send_buffer

    def _settled(self, stream: Stream) -> None:
        self.outgoing.plan(stream)
        self._report_acked(stream)
        if stream.send.wants_room:
            self.outgoing.offer_room(stream)
        self.outgoing.offer_credit(stream)
        self._settle(stream)
