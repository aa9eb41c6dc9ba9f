"""DATAGRAM frames: unreliable messages with their boundaries kept (RFC 9221), in two bounded queues.

DHT frames are such messages too. They leave by the same queue, and arrive in one of their own.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from stt_core.frames import Datagram, Dht, FrameType
from stt_core.packing import Batch

DATAGRAM_OVERHEAD: Final = 3
"""Bytes a DATAGRAM frame adds to what it carries; a DHT frame adds as many."""
RPC_QUEUE: Final = 32 * 1024
"""Bytes of received DHT messages that wait to be read."""
_PER_ITEM: Final = 64
"""What one queued datagram costs beside its bytes: a flood of empty ones is bounded too."""


class Datagrams:
    """One session's datagrams, both ways; at most ``limit`` bytes wait in each direction."""

    __slots__ = ("_incoming", "_incoming_cost", "_limit", "_outgoing_cost", "_rpcs", "dropped", "outgoing")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.outgoing: deque[bytes] | None = None
        """Encoded frames that wait for room in the congestion window."""
        self._outgoing_cost = 0
        self._incoming: deque[bytes] | None = None
        self._incoming_cost = 0
        self._rpcs: Datagrams | None = None
        self.dropped = 0
        """Received while the queue was full: the newest is dropped, the application is behind anyway."""

    def send(self, data: bytes, kind: type[Datagram | Dht] = Datagram) -> bool:
        """Queue a datagram, or a DHT message; False where the queue is full."""
        cost = len(data) + _PER_ITEM
        if self._outgoing_cost + cost > self._limit:
            return False
        if self.outgoing is None:
            self.outgoing = deque()
        self.outgoing.append(kind(bytes(data)).encode())
        self._outgoing_cost += cost
        return True

    def fill(self, batch: Batch) -> None:
        """Put as many as fit into packets. One that a shrunken path can't carry any more is dropped."""
        outgoing = self.outgoing
        while outgoing and (len(outgoing[0]) > batch.room or batch.add(outgoing[0], (FrameType.DATAGRAM, 0))):
            self._outgoing_cost -= len(outgoing.popleft()) - DATAGRAM_OVERHEAD + _PER_ITEM

    def receive(self, data: bytes) -> bool:
        """Keep an arrived datagram; True where it is the first to wait."""
        cost = len(data) + _PER_ITEM
        if self._incoming_cost + cost > self._limit:
            self.dropped += 1
            return False
        if self._incoming is None:
            self._incoming = deque()
        self._incoming.append(data)
        self._incoming_cost += cost
        return len(self._incoming) == 1

    def read(self) -> bytes | None:
        """The oldest one that waits, or None."""
        if not self._incoming:
            return None
        data = self._incoming.popleft()
        self._incoming_cost -= len(data) + _PER_ITEM
        return data

    def receive_rpc(self, data: bytes) -> bool:
        """Keep an arrived DHT message; True where it is the first to wait."""
        if self._rpcs is None:
            self._rpcs = Datagrams(RPC_QUEUE)
        return self._rpcs.receive(data)

    def read_rpc(self) -> bytes | None:
        """The oldest DHT message that waits, or None."""
        return None if self._rpcs is None else self._rpcs.read()
