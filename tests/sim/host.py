"""A host: one endpoint, the applications on it, and the loop an adapter would be.

Rule: the order is an adapter's. Take what arrived, batched as segmentation offload would; run the timers that are
due; then drain events and datagrams until the endpoint rests; then sleep until its next timer. What an endpoint gives
out is checked against its contract on the way: batch shape, size limits, and that it does come to rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from stt_core.config import MAX_DATAGRAM
from stt_core.events import AnyEvent, Event, PathReleased, SessionClosed, SessionEstablished, StreamOpened
from stt_core.types import Path, SessionKey, StreamMode, Transmit
from tests.sim.verbs import EndpointVerbs, SessionVerbs
from tests.sim.wire import Address, Datagram

if TYPE_CHECKING:
    from tests.sim.lab import Lab
    from tests.sim.links import LinkEnd

MAX_SEGMENTS = 64
"""The most datagrams one system call sends or receives."""
RESTLESS = 10_000
"""Rounds of polling at one instant after which an endpoint counts as never coming to rest."""

E = TypeVar("E")


class App(Protocol):
    """An application on a host: a handler of events."""

    def on_event(self, host: Host, event: AnyEvent) -> None:
        """React; the host polls the endpoint again afterwards."""
        ...


class Host:
    """One endpoint in a laboratory.

    ``address`` is where datagrams for it go and what they come from; a NAT in front of it changes it
    (:meth:`Lab.rebind`). ``events`` is everything the endpoint reported, in order.
    """

    def __init__(self, lab: Lab, name: str, address: tuple[str, int], endpoint: EndpointVerbs) -> None:
        self.lab = lab
        self.name = name
        self.address = address
        self.endpoint = endpoint
        self.alive = True
        self.coalesce = True
        """Whether datagrams of one instant are handed over as one segmented batch."""
        self.max_segments = MAX_SEGMENTS
        self.apps: list[App] = []
        self.links: dict[Path, LinkEnd] = {}
        """Connections that are open here, by the path the endpoint knows them as."""
        self.events: list[AnyEvent] = []
        self.modes: dict[tuple[SessionKey, int], StreamMode] = {}
        self.sent_datagrams = 0
        self.sent_bytes = 0
        self.received_datagrams = 0
        self._sessions: dict[SessionKey, SessionVerbs] = {}
        self._inbox: deque[Datagram] = deque()
        self._buffer = bytearray(MAX_DATAGRAM)
        self._due = False
        self._armed: float | None = None
        self._spins = 0
        self._spin_time = 0.0

    def __repr__(self) -> str:
        return f"<Host {self.name} at {self.address}>"

    # What a scenario does to a host

    def add(self, app: App) -> None:
        """Run an application here; it sees every event from now on."""
        self.apps.append(app)

    def connect(
        self,
        peer: Host | tuple[str, int],
        *,
        peer_node_id: bytes | None = None,
        peer_key: bytes | None = None,
        timeout: float | None = None,
    ) -> SessionKey:
        """Start a session to another host, or to an address where there may be none."""
        address = peer.address if isinstance(peer, Host) else peer
        key = self.endpoint.connect(
            address, now=self.lab.now, peer_node_id=peer_node_id, peer_key=peer_key, timeout=timeout
        )
        self.wake()
        return key

    def session(self, key: SessionKey) -> SessionVerbs:
        """One of this host's sessions, also after the endpoint has forgotten it."""
        if key not in self._sessions:
            self._sessions[key] = self.endpoint.session(key)
        return self._sessions[key]

    def open_stream(
        self,
        key: SessionKey,
        *,
        stream_id: int | None = None,
        mode: StreamMode = StreamMode.MESSAGES,
        purpose: str = "",
    ) -> int:
        """Open a stream and remember its mode, so that this host's applications read it the right way."""
        stream = self.session(key).open_stream(stream_id=stream_id, mode=mode, purpose=purpose)
        self.modes[key, stream] = mode
        return stream

    def wake(self) -> None:
        """Poll the endpoint at this instant: call it after doing something to a session from outside."""
        if not self._due:
            self._due = True
            self.lab.clock.at(self.lab.now, self._service)

    def kill(self) -> None:
        """Power off: nothing is received, run or sent from here on, and nobody is told."""
        self.alive = False

    # What a scenario asks of a host

    def all(self, kind: type[E], key: SessionKey | None = None) -> list[E]:
        """Every such event so far (of that session), in order."""
        return [
            event
            for event in self.events
            if isinstance(event, kind) and (key is None or (isinstance(event, Event) and event.session_key == key))
        ]

    def saw(self, kind: type[AnyEvent], key: SessionKey | None = None) -> bool:
        """Whether such an event came (for that session)."""
        return bool(self.all(kind, key))

    @property
    def stream_openings(self) -> list[StreamOpened]:
        """Streams the peers of this host opened, in order."""
        return self.all(StreamOpened)

    @property
    def established(self) -> SessionEstablished | None:
        """The first session that came up here, if any."""
        return next((event for event in self.events if isinstance(event, SessionEstablished)), None)

    @property
    def closed(self) -> SessionClosed | None:
        """The first session that ended here, if any."""
        return next((event for event in self.events if isinstance(event, SessionClosed)), None)

    # The loop

    def deliver(self, datagram: Datagram) -> None:
        """A datagram has come to this host's door."""
        if self.alive:
            self._inbox.append(datagram)
            self.wake()

    def unreachable(self, address: Address) -> None:
        """An ICMP refusal has come for something sent to ``address``."""
        if self.alive:
            self.endpoint.receive_unreachable(Path("udp", address), self.lab.now)
            self.wake()

    def _service(self) -> None:
        self._due = False
        if not self.alive:
            return
        now = self.lab.now
        while self._inbox:
            self._receive_batch(now)
        timer = self.endpoint.next_timer()
        if timer is not None and timer <= now:
            self.endpoint.handle_timer(now)
        self._drain(now)
        self._arm(now)

    def _receive_batch(self, now: float) -> None:
        """Hand over what one ``recvmsg`` would: datagrams of one source and size, the last perhaps shorter."""
        first = self._inbox.popleft()
        path = first.source if isinstance(first.source, Path) else Path("udp", first.source)
        size = len(first.data)
        batch = [first.data]
        if self.coalesce and size and not path.reliable:
            room = len(self._buffer) - size
            while self._inbox and len(batch) < MAX_SEGMENTS and len(batch[-1]) == size:
                following = self._inbox[0]
                if following.source != first.source or not 0 < len(following.data) <= min(size, room):
                    break
                self._inbox.popleft()
                batch.append(following.data)
                room -= len(following.data)
        self.received_datagrams += len(batch)
        if len(batch) == 1:
            self.endpoint.receive_datagram(first.data, path, now)
            return
        joined = b"".join(batch)
        self._buffer[: len(joined)] = joined
        with memoryview(self._buffer) as whole, whole[: len(joined)] as view:
            self.endpoint.receive_datagrams(view, size, path, now)
        self._buffer[: len(joined)] = b"\xdb" * len(joined)  # it may be reused on return, so it is

    def _drain(self, now: float) -> None:
        for _ in range(RESTLESS):
            busy = False
            while (event := self.endpoint.next_event()) is not None:
                busy = True
                self.events.append(event)
                if isinstance(event, StreamOpened):
                    self.modes[event.session_key, event.stream_id] = event.mode
                if isinstance(event, SessionEstablished):
                    self.session(event.session_key)
                if isinstance(event, PathReleased) and event.path in self.links:
                    self.links[event.path].close()
                for app in self.apps:
                    app.on_event(self, event)
            while (transmit := self.endpoint.poll_transmit(now, self.max_segments)) is not None:
                busy = True
                self._send(transmit)
            if not busy:
                return
        raise self.lab.failure(f"{self.name} never comes to rest: {RESTLESS} rounds of polling at one instant")

    def _send(self, transmit: Transmit) -> None:
        data, size = transmit.data, transmit.segment_size
        if not 0 < size <= len(data) <= MAX_DATAGRAM:
            raise self.lab.failure(f"{self.name} sent a batch of {len(data)} bytes in segments of {size}")
        segments = [data[at : at + size] for at in range(0, len(data), size)]
        if len(segments) > self.max_segments:
            raise self.lab.failure(f"{self.name} sent {len(segments)} segments, {self.max_segments} were asked for")
        self.sent_datagrams += len(segments)
        self.sent_bytes += len(data)
        if transmit.path.reliable:
            if len(segments) != 1:
                raise self.lab.failure(f"{self.name} sent {len(segments)} messages at once on a reliable path")
            if (link := self.links.get(transmit.path)) is not None:
                link.send(data)
            return
        for segment in segments:
            self.lab.send(self, Datagram(self.address, transmit.path.address, segment))

    def _arm(self, now: float) -> None:
        timer = self.endpoint.next_timer()
        if timer is None:
            return
        if timer <= now:
            self._spins = self._spins + 1 if self._spin_time == now else 0
            self._spin_time = now
            if self._spins > RESTLESS:
                raise self.lab.failure(f"{self.name} asks for a timer at {timer:.6f} for ever: it is {now:.6f}")
            self.wake()
        elif self._armed is None or timer < self._armed:
            self._armed = timer
            self.lab.clock.at(timer, self._fire(timer))

    def _fire(self, when: float) -> Callable[[], None]:
        def fire() -> None:
            if self._armed != when or not self.alive:
                return  # an earlier timer took this one's place, and armed its successor
            self._armed = None
            timer = self.endpoint.next_timer()
            if timer is not None and timer <= self.lab.now:
                self.wake()
            else:
                self._arm(self.lab.now)

        return fire
