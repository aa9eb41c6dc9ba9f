"""One endpoint on one UDP socket, without an event loop: everything an adapter does that needs no ``await``.

Rule: an adapter waits until the socket is readable, writable or :meth:`Driver.next_timer` is due, calls
:meth:`Driver.turn`, and wakes whom the events concern. Nothing else about the order of things is decided there.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable

from stt_backends.udp import UdpSocket
from stt_core.endpoint import Endpoint
from stt_core.events import AnyEvent
from stt_core.types import Path, Transmit

RECEIVES_PER_TURN = 32
"""System calls that read before anything else gets a turn: at most 2 MiB."""


class Driver:
    """Moves datagrams between ``socket`` and ``endpoint``; hands every event to ``on_event``."""

    __slots__ = ("__weakref__", "_blocked", "_last_path", "_on_event", "clock", "endpoint", "more", "socket")

    def __init__(
        self,
        endpoint: Endpoint,
        socket: UdpSocket,
        on_event: Callable[[AnyEvent], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint = endpoint
        self.socket = socket
        self.clock = clock
        self.more = False
        """Whether the last turn left something unread: take another soon, after others had theirs."""
        self._on_event = on_event
        self._blocked: Transmit | None = None
        self._last_path = Path("udp", ("", 0))
        _drivers.add(self)

    @property
    def blocked(self) -> bool:
        """Whether the socket's send buffer is full: wait until it is writable."""
        return self._blocked is not None

    def next_timer(self) -> float | None:
        """When :meth:`turn` is due whatever the socket does, monotonic seconds; None for never."""
        return self.endpoint.next_timer()

    def turn(self) -> None:
        """Read what there is (bounded), act on timers, deliver events, send."""
        now = self.clock()
        self._receive(now)
        self.endpoint.handle_timer(now)
        self._deliver()
        self.flush()

    def flush(self) -> None:
        """Send what there is to say, until the socket is full."""
        now = self.clock()
        send = self.socket.send
        poll = self.endpoint.poll_transmit
        transmit = self._blocked or poll(now)
        self._blocked = None
        while transmit is not None:
            if not send(transmit.data, transmit.segment_size, transmit.path.address):  # type: ignore[arg-type]
                self._blocked = transmit
                break
            transmit = poll(now)
        self._deliver()

    def _receive(self, now: float) -> None:
        receive = self.socket.receive
        endpoint = self.endpoint
        self.more = False
        for _ in range(RECEIVES_PER_TURN):
            got = receive()
            if got is None:
                break
            data, segment_size, address = got
            path = self._last_path
            if address != path.address:
                path = self._last_path = Path("udp", address)
            endpoint.receive_datagrams(data, segment_size, path, now)
        else:
            self.more = True
        while (refused := self.socket.receive_error()) is not None:
            endpoint.receive_unreachable(Path("udp", refused), now)

    def _deliver(self) -> None:
        next_event = self.endpoint.next_event
        while (event := next_event()) is not None:
            self._on_event(event)


_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()


def _end_sessions_in_child() -> None:
    """A forked child holds the parent's keys and counters: one packet from each would use one nonce twice.

    So the child finds its sessions over. The parent's are not touched: nothing is sent.
    """
    for driver in list(_drivers):
        driver.endpoint.abandon("this process was forked: the session stays with the parent, make a new one here")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_sessions_in_child)
