"""One DHT node on one UDP socket, without an event loop: what ``stt_backends.driver`` is to an endpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any

from stt_backends.udp import UdpSocket
from stt_core.dht import Dht, DHTEvent
from stt_core.types import Path, Transmit

MOST_READS = 64
"""System calls that read before anything else gets a turn."""


class DhtDriver:
    """Moves messages between ``socket`` and ``dht``; hands every event to ``on_event``."""

    __slots__ = ("_blocked", "_on_event", "_reaches_ipv6", "clock", "dht", "socket")

    def __init__(
        self,
        dht: Dht,
        socket: UdpSocket,
        on_event: Callable[[DHTEvent], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dht = dht
        self.socket = socket
        self.clock = clock
        self._on_event = on_event
        self._blocked: Transmit | None = None
        self._reaches_ipv6 = ":" in socket.address[0]

    @property
    def address(self) -> tuple[Any, ...]:
        """Where the socket is bound."""
        return self.socket.address

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    @property
    def blocked(self) -> bool:
        """Whether the socket's send buffer is full: wait until it is writable."""
        return self._blocked is not None

    @property
    def hub(self) -> None:
        """It has no connections."""
        return None

    def turn_of(self, source: object, writable: bool = False) -> bool:
        """Never called: there is nothing but the socket."""
        raise AssertionError(f"{source!r} is no socket of a DHT node")

    def next_timer(self) -> float | None:
        """When :meth:`turn` is due whatever the socket does, monotonic seconds; None for never."""
        return self.dht.next_timer()

    @property
    def quiet_until(self) -> float:
        """No timer is due before; infinite where there is none."""
        due = self.dht.next_timer()
        return inf if due is None else due

    def turn(self) -> bool:
        """Read what there is (bounded), act on timers, deliver events, send. Nothing is ever held back."""
        now = self.clock()
        for _ in range(MOST_READS):
            got = self.socket.receive()
            if got is None:
                break
            data, segment_size, address, _ = got
            for start in range(0, len(data), max(segment_size, 1)):
                self.dht.receive_datagram(data[start : start + segment_size], Path("udp", address), now)
        while self.socket.receive_error() is not None:
            pass  # a hint that anybody can forge: the query runs out of time anyway
        self.dht.handle_timer(now)
        self._flush(now)
        return False

    def submit(self) -> bool:
        """A command was given: send what it queued. Never held back."""
        self._flush(self.clock())
        return False

    def settle(self) -> bool:
        """Nothing is ever held back."""
        return False

    def _flush(self, now: float) -> None:
        transmit = self._blocked or self.dht.poll_transmit(now)
        self._blocked = None
        while transmit is not None:
            address = transmit.path.address
            assert isinstance(address, tuple)
            # Others may name nodes that this socket's kind of address doesn't reach; they will not answer.
            reachable = self._reaches_ipv6 or ":" not in address[0]
            if reachable and not self.socket.send(transmit.data, transmit.segment_size, address):
                self._blocked = transmit
                break
            transmit = self.dht.poll_transmit(now)
        self.socket.too_big.clear()
        while (event := self.dht.next_event()) is not None:
            self._on_event(event)
