"""Two endpoints, the network between them and the time, all in one process: what happens follows from the arguments.

The wire is a function the test gives: it sees each datagram as a :class:`Flight` and says what arrives of it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

from stt_core.channel import Channel
from stt_core.config import EndpointConfig
from stt_core.endpoint import Endpoint
from stt_core.errors import StateError
from stt_core.events import AnyEvent, Event, SessionEstablished, TicketReceived
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.types import Entropy, Path, SessionKey, StreamMode
from tests.core.toy import ToyCrypto

E = TypeVar("E", bound=Event)
SEED = b"a seed both of them hold"
START = 1000.0
DELAY = 0.01
Address = tuple[str, int]


def entropy_of(name: str) -> Entropy:
    """An endless stream of bytes that depends on ``name`` alone."""
    calls = count()

    def entropy(size: int) -> bytes:
        return hashlib.shake_128(f"{name} {next(calls)}".encode()).digest(size)

    return entropy


def config_of(name: str, **changes: Any) -> EndpointConfig:
    """Datagrams keep 1200 bytes, so that a test can count them; whoever is about their size says ``mtu_search``."""
    return EndpointConfig(**{"shared_seed": SEED, "node_id": name.encode(), "mtu_search": False, **changes})


class End:
    """One endpoint, where it is, and what it has told so far."""

    def __init__(self, name: str, address: Address, *, entropy: Entropy | None = None, **changes: Any) -> None:
        self.name = name
        self.address = address
        self.endpoint = Endpoint(config_of(name, **changes), crypto=ToyCrypto(), entropy=entropy or entropy_of(name))
        self.events: list[AnyEvent] = []

    @property
    def path(self) -> Path:
        """How others reach this end."""
        return Path("udp", self.address)

    def told(self, kind: type[E]) -> list[E]:
        """The events of one kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def kinds(self) -> list[str]:
        """The names of all events, oldest first, but for tickets: each initiator is given one."""
        return [type(event).__name__ for event in self.events if not isinstance(event, TicketReceived)]

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Flight:
    """One datagram on its way."""

    sender: End
    source: Path
    to: Address
    data: bytes
    delay: float = DELAY
    ecn: int = 0


Wire = Callable[[Flight], Iterable[Flight]]


def straight(flight: Flight) -> Iterable[Flight]:
    """A network that does nothing wrong."""
    return (flight,)


def dead(_: Flight) -> Iterable[Flight]:
    """A network that is gone."""
    return ()


@dataclass(order=True)
class _Arrival:
    at: float
    order: int
    flight: Flight = field(compare=False)
    segment: int = field(compare=False)


class Net:
    """Ends, a wire and virtual time. ``sent`` holds every datagram that left, before anything happened to it."""

    def __init__(self, *ends: End, wire: Wire = straight) -> None:
        self.ends = list(ends)
        self.wire = wire
        self.now = START
        self.sent: list[Flight] = []
        self._order = count()
        self._arrivals: list[_Arrival] = []

    def at(self, address: Address) -> End | None:
        """Who lives there."""
        return next((end for end in self.ends if end.address == address), None)

    def put(self, flight: Flight, segment: int = 0) -> None:
        """Let a datagram (or a batch, as one) arrive after its delay."""
        arrival = _Arrival(self.now + flight.delay, next(self._order), flight, segment or len(flight.data))
        heapq.heappush(self._arrivals, arrival)

    def settle(self) -> None:
        """Take everything both ends have to say now."""
        for end in self.ends:
            self.collect(end)

    def collect(self, end: End) -> None:
        """Take what one end has to say: events, then datagrams, until there are none."""
        for _ in range(100_000):
            while (event := end.endpoint.next_event()) is not None:
                end.events.append(event)
            transmit = end.endpoint.poll_transmit(self.now)
            if transmit is None:
                return
            to = transmit.path.address
            assert isinstance(to, tuple)
            whole = Flight(end, end.path, to, transmit.data, ecn=transmit.ecn)
            size = transmit.segment_size
            singles = [replace(whole, data=whole.data[i : i + size]) for i in range(0, len(whole.data), size)]
            self.sent += singles
            if self.wire is straight:
                self.put(whole, size)
            else:
                for single in singles:
                    for flight in self.wire(single):
                        self.put(flight)
        raise AssertionError(f"{end} never runs out of datagrams")

    def step(self, until: float) -> bool:
        """Go to the next moment at which something happens, at most to ``until``; False where that was reached."""
        self.settle()
        times = [self._arrivals[0].at] if self._arrivals else []
        times += [at for end in self.ends if (at := end.endpoint.next_timer()) is not None]
        at = min(times, default=until)
        if at > until:
            self.now = until
            return False
        self.now = max(self.now, at)
        touched: list[End] = []
        while self._arrivals and self._arrivals[0].at <= self.now:
            arrival = heapq.heappop(self._arrivals)
            end = self.at(arrival.flight.to)
            if end is not None:
                flight = arrival.flight
                end.endpoint.receive_datagrams(flight.data, arrival.segment, flight.source, self.now, flight.ecn)
                touched.append(end)
        for end in self.ends:
            end.endpoint.handle_timer(self.now)
        self.settle()
        return bool(times) and self.now < until

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        self.run_until(lambda: False, seconds, must=False)

    def run_until(self, condition: Callable[[], bool], timeout: float = 20.0, *, must: bool = True) -> None:
        """Until ``condition`` holds; fails where it doesn't in time."""
        until = self.now + timeout
        self.settle()
        steps = 0
        while not condition():
            steps += 1
            assert steps < 200_000, "time stands still"
            if not self.step(until):
                break
        assert condition() or not must, f"not within {timeout} s; {[end.kinds for end in self.ends]}"


class Pair(Net):
    """Alice, who connects, and Bob, who accepts."""

    def __init__(
        self,
        *,
        wire: Wire = straight,
        alice: dict[str, Any] | None = None,
        bob: dict[str, Any] | None = None,
        **both: Any,
    ) -> None:
        self.alice = End("alice", ("198.51.100.1", 1111), **{**both, **(alice or {})})
        self.bob = End("bob", ("203.0.113.2", 2222), **{**both, **(bob or {})})
        super().__init__(self.alice, self.bob, wire=wire)

    def start(self, timeout: float | None = None) -> SessionKey:
        """Begin to connect."""
        return self.alice.endpoint.connect(self.bob.address, now=self.now, timeout=timeout)

    def connect(self) -> tuple[Session, Session]:
        """Make a session; returns both its ends, Alice's first."""
        known = len(self.bob.told(SessionEstablished))
        key = self.start()
        self.run_until(lambda: len(self.bob.told(SessionEstablished)) > known)
        theirs = self.bob.endpoint.session(self.bob.told(SessionEstablished)[-1].session_key)
        ours = self.alice.endpoint.session(key)
        assert ours.state is theirs.state is SessionState.ESTABLISHED
        return ours, theirs

    def rest(self) -> None:
        """Let everything under way be acknowledged."""
        self.run(2.0)


def channel_of(session: Session) -> Channel:
    """What is below a session: for looking at, and for misbehaving as its peer would."""
    channel = session._channel
    assert channel is not None
    return channel


def sealed(session: Session, *plains: bytes, now: float = START) -> list[bytes]:
    """Genuine packets from that session's keys, with whatever a hostile peer would put into them."""
    channel = channel_of(session)
    packets = []
    for plain in plains:
        channel.recovery.on_sent(channel.protection.next_number, 1, 0, [], now)
        packets.append(channel.protection.seal([plain], channel.outbound.peer_mask, now))
    return packets


def read_or_none(session: Session, stream: int) -> bytes | None:
    """What waits on a stream that the peer may not have opened yet."""
    try:
        return session.read(stream)
    except StateError:
        return None


def send_all(net: Net, sender: Session, receiver: Session, data: bytes, *, timeout: float = 60.0) -> bytes:
    """Move ``data`` over a new bytes stream and return what arrived."""
    stream = sender.open_stream(mode=StreamMode.BYTES)
    state = {"sent": 0, "finished": False}
    arrived = bytearray()

    def work() -> bool:
        if state["sent"] < len(data):
            state["sent"] += sender.write(stream, data[state["sent"] : state["sent"] + 262_144])
        elif not state["finished"]:
            sender.finish(stream)
            state["finished"] = True
        while chunk := read_or_none(receiver, stream):
            arrived.extend(chunk)
        return len(arrived) == len(data) and bool(state["finished"])

    net.run_until(work, timeout)
    return bytes(arrived)
