"""One endpoint on its sockets, without an event loop: everything an adapter does that needs no ``await``.

Rule: an adapter calls :meth:`Driver.turn` when the UDP socket is readable (or writable, while :attr:`Driver.blocked`),
or :meth:`Driver.next_timer` is due, :meth:`Driver.turn_of` when a WebSocket connection or their listener is ready, and
:meth:`Driver.submit` after a command. Nothing else about the order of things is decided there.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable

from stt_backends.absent import AbsentSocket
from stt_backends.udp import MAX_BATCH, MAX_SEGMENTS, UdpSocket
from stt_backends.websocket.hub import Hub, Source
from stt_core.endpoint import Endpoint
from stt_core.events import AnyEvent, PathReleased, SessionEstablished
from stt_core.types import Path, Transmit

MOST_READS = 8
"""System calls that read before anything else gets a turn: at most 512 KiB. Acknowledgements leave at the end of a
turn, so a longer one would let a fast sender run out of window meanwhile."""
READS_BEFORE_TIMERS = 256
"""The same before a timer that is due is acted on, within the same number of bytes: what it waits for may have come
long ago, and lie unread because this process was kept from running. A probe sent for it then would be more work for
the other side, which is late as well; many sessions that do so keep two busy machines from ever catching up."""
MOST_BYTES = 512 * 1024
OVERSLEPT = 1.0
"""Seconds a timer is late by where this process was kept from running: then all connections are read first."""
MOST_SENT = 4 * MAX_BATCH
"""Bytes in one batch of a session, which leaves by several system calls: much of what a batch costs it costs once."""
MOST_SEGMENTS = 4 * MAX_SEGMENTS
SMALL = 2048
"""Bytes that may be a packet by itself; more is part of a flow."""
MOST_CAUTION = 63
"""Turns, at most, in which a small packet that came alone is not looked behind. Where each is answered before the next
comes, one call in so many is in vain then, rather than each third."""
COALESCE = 100e-6
"""Seconds within which a command counts as following the last one, and waits for more of its kind."""
MOST_PASSES = 16
"""Passes of the event loop that commands which follow each other closely wait for more of them."""


class Driver:
    """Moves datagrams between ``endpoint`` and ``socket``, or the connections of ``hub``; hands events to ``on_event``.

    A connection that is full holds up nothing but its own session.
    """

    __slots__ = (
        "__weakref__", "_alone", "_blocked", "_caution", "_connected", "_fresh", "_last_path", "_on_event", "_passes",
        "_reads", "_settling", "_submitted_at", "_turning", "clock", "endpoint", "hub", "socket",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint,
        socket: UdpSocket | AbsentSocket,
        on_event: Callable[[AnyEvent], None],
        clock: Callable[[], float] = time.monotonic,
        hub: Hub | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.socket = socket
        self.hub = Hub(endpoint) if hub is None else hub
        self.clock = clock
        self._on_event = on_event
        self._blocked: Transmit | None = None
        self._last_path = Path("udp", ("", 0))
        self._reads = 1
        self._caution = self._alone = 0
        self._turning = False
        self._submitted_at = 0.0
        self._settling = self._fresh = self._connected = False
        self._passes = 0
        _drivers.add(self)

    @property
    def blocked(self) -> bool:
        """Whether the socket's send buffer is full: wait until it is writable."""
        return self._blocked is not None

    def next_timer(self) -> float | None:
        """When :meth:`turn` is due whatever the socket does, monotonic seconds; None for never."""
        due = self.endpoint.next_timer()
        of_hub = self.hub.due
        return due if of_hub is None or (due is not None and due < of_hub) else of_hub

    @property
    def quiet_until(self) -> float:
        """No timer is due before; most often :meth:`next_timer` is later. Infinite where there is none."""
        return self.endpoint.quiet_until if self.hub.due is None else min(self.endpoint.quiet_until, self.hub.due)

    @property
    def idle(self) -> bool:
        """Whether nothing is alive and nothing waits to be sent, farewells of connections included."""
        return self.endpoint.idle and self.hub.idle

    def turn(self) -> bool:
        """Read what there is (bounded), act on timers, deliver events, send; True where :meth:`settle`
        must follow when everybody else had a turn."""
        now = self.clock()
        self._turning = True
        try:
            if self.endpoint.quiet_until > now or (due := self.endpoint.next_timer()) is None or due > now:
                self._receive(now)
            else:
                if now - due > OVERSLEPT:
                    self.hub.receive_all(now)
                self._receive(now, READS_BEFORE_TIMERS)
                self.endpoint.handle_timer(now)
            if self.hub.due is not None:
                self.hub.handle_timers(now)
            return self._end_turn()
        finally:
            self._turning = False

    def turn_of(self, source: Source, writable: bool = False) -> bool:
        """A connection or the listener is readable, or ``writable``: do what :meth:`turn` does for the UDP socket."""
        now = self.clock()
        self._turning = True
        try:
            self.hub.turn(source, now, writable=writable)
            if self.endpoint.quiet_until <= now:
                self.endpoint.handle_timer(now)
            return self._end_turn()
        finally:
            self._turning = False

    def _end_turn(self) -> bool:
        """Deliver events and send. Whoever connected is let speak first: its first words leave with ours, in one
        datagram, and where they are its last ours need not be said."""
        self._deliver()
        connected, self._connected = self._connected, False
        if connected and self._blocked is None:
            settling, self._settling = self._settling, True
            if not settling:
                self._passes = MOST_PASSES  # one pass of the event loop is all it takes
            return not settling
        if self._blocked is not None or self.endpoint.wants_to_send:
            self.flush()
        return False

    def flush(self) -> None:
        """Send what there is to say. What a full UDP socket does not take waits, and nothing else does."""
        endpoint = self.endpoint
        hub = self.hub
        send = self.socket.send
        poll = endpoint.poll_transmit
        now = self.clock()
        if self._blocked is not None:
            self._retry(self._blocked)
        transmit = poll(now, MOST_SEGMENTS, MOST_SENT)
        while True:
            if transmit is None:
                if self.socket.too_big:
                    self._tell_too_big(now)  # what was in them is to be sent again, and nobody else would ask for it
                elif hub.dirty:
                    hub.flush(now)
                elif endpoint.has_events:
                    self._deliver()  # what the application says to them leaves, too
                else:
                    break
            elif transmit.path.transport == "websocket":
                hub.send(transmit)
            elif self._blocked is not None:
                pass  # a probe, which is as lost as a full socket would have it
            elif not send(transmit.data, transmit.segment_size, transmit.path.address, transmit.ecn):  # type: ignore[arg-type]
                self._blocked = transmit
                endpoint.receive_path_blocked(transmit.path)
            transmit = poll(now, MOST_SEGMENTS, MOST_SENT)
        if hub.dirty:
            hub.flush(now)

    def _retry(self, transmit: Transmit) -> None:
        if self.socket.send(transmit.data, transmit.segment_size, transmit.path.address, transmit.ecn):  # type: ignore[arg-type]
            self._blocked = None
            self.endpoint.receive_path_writable(transmit.path)

    def close(self) -> None:
        """Close the socket, the connections and the listener, at once. Nobody may wait for them any more."""
        self.socket.close()
        self.hub.close(self.clock())

    def _tell_too_big(self, now: float) -> None:
        refused, self.socket.too_big = self.socket.too_big, []
        for address, size in refused:
            self.endpoint.receive_too_big(Path("udp", address), size, now)

    # --- commands

    def submit(self) -> bool:
        """A command was given: send what it queued now, or soon together with what follows.

        A lone command leaves at once. One that follows the last within :data:`COALESCE` waits for others: then this
        is True, and :meth:`settle` must be called when everybody else had a turn.
        """
        if self.join():
            return False
        now = self.clock()
        if now - self._submitted_at > COALESCE:
            self._submitted_at = now
            self._flush_alone()
            return False
        self._settling = self._fresh = True
        self._passes = 0
        return True

    def join(self) -> bool:
        """Whether what was just queued will leave without another call: a turn is on, or others wait already."""
        if self._settling:
            self._fresh = True
        return self._settling or self._turning

    def push(self) -> None:
        """Enough was held back: the next :meth:`settle` sends it."""
        self._passes = MOST_PASSES

    def settle(self) -> bool:
        """Everybody had a turn since the last command was held back; True where this must be called once more."""
        if self._fresh and self._passes < MOST_PASSES:
            self._fresh = False
            self._passes += 1
            return True
        self._settling = self._fresh = False
        self._submitted_at = self.clock()
        self._flush_alone()
        return False

    def _flush_alone(self) -> None:
        """Flush; what the application does meanwhile leaves with it and starts no flush of its own."""
        self._turning = True
        try:
            self.flush()
        finally:
            self._turning = False

    # --- the socket

    def _receive(self, now: float, most: int = 0) -> None:
        """Read up to as often as paid lately: the call that finds nothing costs as much as one that finds a packet.

        With ``most``, up to as often, but no more than :data:`MOST_BYTES`.
        """
        socket = self.socket
        endpoint = self.endpoint
        count = 0
        allowed = most or self._reads
        room = MOST_BYTES
        while (count < allowed and room > 0) or socket.holding:
            got = socket.receive(allowed - count)
            if got is None:
                self._grow_cautious(count)
                break
            count += socket.reads
            data, segment_size, address, ecn = got
            room -= len(data)
            path = self._last_path
            if address != path.address:
                path = self._last_path = Path("udp", address)
            endpoint.receive_datagrams(data, segment_size, path, now, ecn)
            if socket.drained:
                self._grow_cautious(count)
                break
        else:
            if self._alone and len(data) <= SMALL:
                self._alone -= 1
            else:
                count *= 2
        self._reads = min(max(count, 1), MOST_READS)
        while (refused := socket.receive_error()) is not None:
            endpoint.receive_unreachable(Path("udp", refused), now)

    def _grow_cautious(self, count: int) -> None:
        """A read found nothing after ``count`` that did: where that was one, let some turns pass until the next try."""
        self._caution = min(2 * self._caution + 1, MOST_CAUTION) if count <= 1 else 0
        self._alone = self._caution

    def _deliver(self) -> None:
        next_event = self.endpoint.next_event
        while (event := next_event()) is not None:
            if event.__class__ is PathReleased:
                self.hub.release(event.path, self.clock())
            elif event.__class__ is SessionEstablished and event.initiated:
                self._connected = True
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
