"""A tiny endpoint that speaks the verbs, for the laboratory's own tests: it notes what it is given, and when.

It knows no protocol: ``outbox`` is what it will send, ``timer`` when it wants to be woken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from stt_core.events import AnyEvent
from stt_core.types import Entropy, Path, SessionKey, Transmit
from tests.sim.verbs import SessionVerbs


class FakeEndpoint:
    """Records every call; ``echo`` makes it answer each datagram with the same bytes."""

    def __init__(self, *, name: str, entropy: Entropy, now: float, echo: bool = False) -> None:
        self.name = name
        self.entropy = entropy
        self.echo = echo
        self.outbox: deque[Transmit] = deque()
        self.got: list[tuple[float, Path, bytes]] = []
        self.batches: list[int] = []
        self.unreachable: list[tuple[float, Path]] = []
        self.timer: float | None = None
        self.woken: list[float] = []

    def queue(self, data: bytes, to: Any, segment_size: int | None = None) -> None:
        self.outbox.append(Transmit(data, Path("udp", to), segment_size or len(data)))

    def connect(
        self,
        address: tuple[str, int],
        *,
        now: float,
        peer_node_id: bytes | None = None,
        peer_key: bytes | None = None,
        timeout: float | None = None,
    ) -> SessionKey:
        self.queue(b"hello", address)
        return SessionKey(1)

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None:
        self.got.append((now, path, data))
        if self.echo:
            self.queue(data, path.address)

    def receive_datagrams(self, buffer: memoryview, segment_size: int, path: Path, now: float) -> None:
        data = bytes(buffer)
        pieces = [data[at : at + segment_size] for at in range(0, len(data), segment_size)]
        self.batches.append(len(pieces))
        for piece in pieces:
            self.receive_datagram(piece, path, now)

    def receive_unreachable(self, path: Path, now: float) -> None:
        self.unreachable.append((now, path))

    def poll_transmit(self, now: float, max_segments: int = 64) -> Transmit | None:
        return self.outbox.popleft() if self.outbox else None

    def next_timer(self) -> float | None:
        return self.timer

    def handle_timer(self, now: float) -> None:
        self.woken.append(now)
        if self.timer is not None and self.timer <= now:
            self.timer = None

    def next_event(self) -> AnyEvent | None:
        return None

    def session(self, key: SessionKey) -> SessionVerbs:
        raise LookupError(key)

    @property
    def idle(self) -> bool:
        return not self.outbox

    def sessions(self) -> Sequence[SessionVerbs]:
        return []
