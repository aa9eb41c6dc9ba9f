"""The verbs the laboratory drives: what an endpoint and its sessions must speak to be put in it.

A Protocol and not the class itself, so that the laboratory's own tests can put a ten-line fake in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stt_core.events import AnyEvent
from stt_core.state import SessionState
from stt_core.types import Path, SessionKey, StreamMode, Transmit


class SessionVerbs(Protocol):
    """One session, as an application uses it."""

    @property
    def session_id(self) -> bytes: ...

    @property
    def state(self) -> SessionState: ...

    def open_stream(
        self,
        *,
        stream_id: int | None = None,
        mode: StreamMode = ...,
        purpose: str = "",
        priority: int = 3,
        max_frame_size: int | None = None,
    ) -> int: ...

    def send_message(self, stream_id: int, data: bytes) -> bool: ...

    def write(self, stream_id: int, data: bytes) -> int: ...

    def finish(self, stream_id: int) -> None: ...

    def read(self, stream_id: int, max_bytes: int = 61440) -> bytes | None: ...

    def read_message(self, stream_id: int) -> bytes | None: ...

    def at_end(self, stream_id: int) -> bool: ...

    def reset_stream(self, stream_id: int, code: int = ...) -> None: ...

    def stop_stream(self, stream_id: int, code: int = ...) -> None: ...

    @property
    def max_datagram_size(self) -> int: ...

    def send_datagram(self, data: bytes) -> bool: ...

    def read_datagram(self) -> bytes | None: ...

    def update_keys(self, now: float) -> None: ...

    def watch(self, stream_id: int) -> int: ...

    def close(self, code: int = 0, reason: str = "", *, linger: float = 0.0) -> None: ...


class EndpointVerbs(Protocol):
    """One endpoint, as an adapter drives it."""

    def connect(
        self,
        address: tuple[str, int],
        *,
        now: float,
        peer_node_id: bytes | None = None,
        peer_key: bytes | None = None,
        timeout: float | None = None,
    ) -> SessionKey: ...

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None: ...

    def receive_datagrams(self, buffer: memoryview, segment_size: int, path: Path, now: float) -> None: ...

    def receive_unreachable(self, path: Path, now: float) -> None: ...

    def poll_transmit(self, now: float, max_segments: int = 64) -> Transmit | None: ...

    def next_timer(self) -> float | None: ...

    def handle_timer(self, now: float) -> None: ...

    def next_event(self) -> AnyEvent | None: ...

    def session(self, key: SessionKey) -> SessionVerbs: ...

    def sessions(self) -> Sequence[SessionVerbs]: ...

    @property
    def idle(self) -> bool: ...
