"""The laboratory: many endpoints and the network between them, in one process, under virtual time.

Rule: everything that happens follows from the seed: which datagrams are lost, every endpoint's entropy, the order of
simultaneous things. A scenario that fails says which seed it was and the command that plays it again.

``STT_SIM_SEED`` in the environment overrides the seed of every laboratory that did not insist on its own.
"""

from __future__ import annotations

import hashlib
import os
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stt_core.crypto import Crypto
from stt_core.types import Entropy
from tests.sim.clock import Clock
from tests.sim.host import App, Host
from tests.sim.verbs import EndpointVerbs
from tests.sim.wire import Address, Conditions, Datagram, Element, Onward

SEED_VARIABLE = "STT_SIM_SEED"
SHARED_SEED = b"the laboratory's own shared seed"
START = 1000.0
"""Where virtual time starts: not at 0, so that a time mistaken for "none" shows."""
WALL_OFFSET = 1_700_000_000.0

Factory = Callable[..., EndpointVerbs]


class LabFailure(AssertionError):
    """A scenario went wrong; the message holds the seed and the command that replays it."""


class LabTimeout(LabFailure):
    """What was waited for did not happen in time."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One datagram as it left its sender, before anything happened to it."""

    time: float
    source: Address
    destination: Address
    data: bytes


def seeded_entropy(*names: object) -> Entropy:
    """An endless stream of bytes that depends on ``names`` alone."""
    key = hashlib.sha256(repr(names).encode()).digest()
    position = 0

    def entropy(size: int) -> bytes:
        nonlocal position
        position += 1
        return hashlib.shake_128(key + position.to_bytes(8, "big")).digest(size)

    return entropy


class Lab:
    """One network and its hosts.

    ``seed``: an int to insist on it; None takes ``STT_SIM_SEED``, or else a number that depends on the running
    test's name alone. ``default`` are the conditions between hosts that were not linked; where it is None, such
    datagrams go nowhere. ``transcript`` holds every datagram sent (where ``capture``), as an observer of the whole
    network would have it.
    """

    latest: Lab | None = None
    """The last one made: for the report of a failing test."""

    def __init__(
        self, seed: int | None = None, *, start: float = START, capture: bool = True, default: Conditions | None = None
    ) -> None:
        self.seed = seed_of_this_test() if seed is None else seed
        self.clock = Clock(start)
        self.start = start
        self.random = random.Random(self.seed)
        self.hosts: dict[str, Host] = {}
        self.transcript: list[Sent] = []
        self.observers: list[Callable[[Sent], None]] = []
        if capture:
            self.observers.append(self.transcript.append)
        self.refusing: set[Address] = set()
        """Addresses of machines that are up but have nothing listening: they answer with an ICMP refusal."""
        self.nowhere = 0
        """Datagrams sent to an address nobody has."""
        self._default = default
        self._addresses: dict[Address, Host] = {}
        self._chains: dict[tuple[Host, Host], Onward] = {}
        self._crypto: Crypto | None = None
        Lab.latest = self

    @property
    def now(self) -> float:
        """Virtual time, in seconds."""
        return self.clock.now

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the beginning."""
        return self.clock.now - self.start

    # Building

    def endpoint(
        self,
        name: str,
        *apps: App,
        address: tuple[str, int] | None = None,
        crypto: Crypto | None = None,
        factory: Factory | None = None,
        **config: Any,
    ) -> Host:
        """Put a host with an endpoint into the network.

        ``config`` are fields of :class:`stt_core.config.EndpointConfig`; the shared seed defaults to the
        laboratory's, the node id to ``name``.
        """
        if name in self.hosts:
            raise ValueError(f"there is a host {name!r} already")
        number = len(self.hosts) + 1
        address = address or (f"10.{number >> 8 & 255}.{number & 255}.1", 4433)
        entropy = seeded_entropy(self.seed, name)
        if factory is not None:
            endpoint = factory(name=name, entropy=entropy, now=self.now, **config)
        else:
            endpoint = self._real_endpoint(name, entropy, crypto, config)
        host = self.hosts[name] = self._addresses[address] = Host(self, name, address, endpoint)
        host.apps.extend(apps)
        return host

    def _real_endpoint(
        self, name: str, entropy: Entropy, crypto: Crypto | None, config: dict[str, Any]
    ) -> EndpointVerbs:
        from stt_backends.pyca import PycaCrypto  # noqa: PLC0415 - the laboratory's own tests do without
        from stt_core.config import EndpointConfig  # noqa: PLC0415
        from stt_core.endpoint import Endpoint  # noqa: PLC0415

        if crypto is None:
            crypto = self._crypto = self._crypto or PycaCrypto()
        settings = {"shared_seed": SHARED_SEED, "node_id": name.encode()} | config
        return Endpoint(EndpointConfig(**settings), crypto=crypto, entropy=entropy, wall_offset=WALL_OFFSET)

    def link(
        self,
        a: Host,
        b: Host,
        *,
        forth: Conditions | None = None,
        back: Conditions | None = None,
        **conditions: Any,
    ) -> None:
        """Join two hosts, under the same conditions both ways, or ``forth`` (a to b) and ``back`` apart."""
        if conditions and (forth or back):
            raise ValueError("give conditions for both directions, or forth and back, not both")
        both = Conditions(**conditions)
        self.chain(a, b, (forth or both).elements())
        self.chain(b, a, (back or both).elements())

    def chain(self, sender: Host, receiver: Host, elements: list[Element]) -> None:
        """Set what a datagram passes on its way from one host to the other, in that order."""

        def arrive(datagram: Datagram) -> None:
            if self._addresses.get(datagram.destination) is receiver:
                receiver.deliver(datagram)

        onward: Onward = arrive
        for element in reversed(elements):
            element.attach(self.clock, self.random)
            onward = _through(element, onward)
        self._chains[sender, receiver] = onward

    def rebind(self, host: Host, *, change: str = "port") -> None:
        """A NAT in front of ``host`` forgets its binding: other port (or ``"address"``), the old one leads nowhere."""
        ip, port = host.address
        while (ip, port) in self._addresses:
            if change == "port":
                port = self.random.randrange(1024, 65536)
            else:
                ip = f"172.16.{self.random.randrange(256)}.{self.random.randrange(1, 255)}"
        del self._addresses[host.address]
        host.address = (ip, port)
        self._addresses[host.address] = host

    def rebind_every(self, host: Host, seconds: float, *, change: str = "port") -> None:
        """Rebind again and again; the first time ``seconds`` from now."""

        def again() -> None:
            self.rebind(host, change=change)
            self.clock.after(seconds, again)

        self.clock.after(seconds, again)

    def at(self, elapsed: float, action: Callable[[], None]) -> None:
        """Do something ``elapsed`` virtual seconds after the beginning."""
        self.clock.at(self.start + elapsed, action)

    # Datagrams

    def send(self, sender: Host, datagram: Datagram) -> None:
        """A host's datagram enters the network."""
        record = Sent(self.now, datagram.source, datagram.destination, datagram.data)
        for observer in self.observers:
            observer(record)
        receiver = self._addresses.get(datagram.destination)
        if receiver is None:
            self.nowhere += 1
            if datagram.destination in self.refusing:
                self.clock.after(0.001, lambda: sender.unreachable(datagram.destination))
            return
        onward = self._chains.get((sender, receiver))
        if onward is None:
            if self._default is None:
                self.nowhere += 1
                return
            self.chain(sender, receiver, self._default.elements())
            onward = self._chains[sender, receiver]
        onward(datagram)

    def inject(self, data: bytes, *, source: Address, to: Host) -> None:
        """Deliver a datagram at this instant that an attacker made, with any source address they like."""
        to.deliver(Datagram(source, to.address, data))

    def digest(self) -> str:
        """A fingerprint of all that was sent, when and where: equal seeds must give equal ones."""
        sha = hashlib.sha256()
        for sent in self.transcript:
            sha.update(repr((sent.time, sent.source, sent.destination, sent.data)).encode())
        return sha.hexdigest()

    # Time

    def run_until(self, condition: Callable[[], bool], timeout: float = 30.0) -> None:
        """Let virtual time pass until ``condition()``.

        :raises LabTimeout: if that takes more than ``timeout`` virtual seconds, or if nothing is left to happen.
        """
        deadline = self.now + timeout
        self._wake_all()
        while not condition():
            due = self.clock.next
            if due is None:
                raise self.failure("nothing is left to happen, and what was waited for has not", LabTimeout)
            if due > deadline:
                self.clock.now = deadline
                raise self.failure(f"{timeout:g} virtual seconds passed without what was waited for", LabTimeout)
            self.clock.step()

    def run_for(self, seconds: float) -> None:
        """Let that much virtual time pass."""
        deadline = self.now + seconds
        self._wake_all()
        while (due := self.clock.next) is not None and due <= deadline:
            self.clock.step()
        self.clock.now = deadline

    def _wake_all(self) -> None:
        for host in self.hosts.values():
            host.wake()  # the scenario may have used any session since time last passed

    # Failing

    @property
    def replay(self) -> str:
        """The command that runs this very scenario again."""
        test = running_test() or "tests/sim"
        return f"{SEED_VARIABLE}={self.seed} python -m pytest '{test}'"

    def failure(self, what: str, kind: type[LabFailure] = LabFailure) -> LabFailure:
        """The error to raise when a scenario went wrong."""
        lines = [f"{what} (t = {self.elapsed:.6f} s, seed {self.seed})", f"replay: {self.replay}"]
        for host in list(self.hosts.values())[:4]:
            lines.append(f"  {host.name}: sent {host.sent_datagrams}, received {host.received_datagrams} datagrams")
            lines += [f"    {event}" for event in host.events[-6:]]
        return kind("\n".join(lines))


def _through(element: Element, onward: Onward) -> Onward:
    return lambda datagram: element.carry(datagram, onward)


def running_test() -> str | None:
    """The node id of the test that runs now, as pytest takes it on its command line."""
    current = os.environ.get("PYTEST_CURRENT_TEST")
    return current.rsplit(" (", 1)[0] if current else None


def seed_of_this_test() -> int:
    """``STT_SIM_SEED``, or a number that depends on the running test's name alone."""
    if given := os.environ.get(SEED_VARIABLE):
        return int(given)
    return zlib.crc32((running_test() or "").encode())
