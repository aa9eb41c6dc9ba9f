"""A network of DHT nodes in virtual time: thousands of them, seeded, each message 20 to 80 ms on its way.

The signatures are cheap ones, as many are checked; with ``PycaCrypto`` they are real. Addresses are spread over as many
/24 networks as there are nodes, but where a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from random import Random
from typing import TypeVar

from stt_core.crypto import Crypto
from stt_core.dht import Dht, DHTConfig, DHTEvent, DHTNode
from stt_core.dht.ids import Address, as_number
from stt_core.types import Path
from tests.core.toy import ToyCrypto
from tests.sim.clock import Clock

PORT = 9337
EventType = TypeVar("EventType")


class CheapSigner:
    """A signature is a hash of public things: anybody could make it, but nobody here does unless a test wants to."""

    def __init__(self, seed: bytes) -> None:
        self.public = blake2b(seed, digest_size=32).digest()

    def sign(self, message: bytes, /) -> bytes:
        return blake2b(message, key=self.public).digest()


class CheapCrypto(ToyCrypto):
    def ed25519(self, seed: bytes) -> CheapSigner:  # type: ignore[override]
        return CheapSigner(seed)

    def ed25519_verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        return blake2b(message, key=public).digest() == signature


class Host:
    """A node, its address, and what it was told."""

    def __init__(self, network: Network, node: Dht, address: Address) -> None:
        self.network = network
        self.node = node
        self.address = address
        self.events: list[DHTEvent] = []
        self.alive = True
        self.sent = self.received = 0
        self.wakes_at: float | None = None

    @property
    def contact(self) -> DHTNode:
        return DHTNode(self.node.node_id, *self.address)

    def receive(self, data: bytes, source: Address) -> None:
        self.received += len(data)
        self.node.receive_datagram(data, Path("udp", source), self.network.clock.now)
        self.turn()

    def turn(self) -> None:
        """Send what there is to send, keep what there is to tell, and set the alarm."""
        now = self.network.clock.now
        while (event := self.node.next_event()) is not None:
            self.events.append(event)
        while (out := self.node.poll_transmit(now)) is not None:
            self.sent += len(out.data)
            destination = out.path.address
            assert isinstance(destination, tuple)
            self.network.carry(out.data, self.address, (destination[0], destination[1]))
        at = self.node.next_timer()
        if at is not None and (self.wakes_at is None or at < self.wakes_at):
            self.wakes_at = at
            self.network.clock.at(at, self.wake)

    def wake(self) -> None:
        if not self.alive or self.wakes_at is None or self.network.clock.now < self.wakes_at:
            return
        self.wakes_at = None
        self.node.handle_timer(self.network.clock.now)
        self.turn()


class Network:
    """Hosts by address. ``loss`` is the share of messages that never arrive."""

    def __init__(self, seed: int = 1, *, crypto: Crypto | None = None, loss: float = 0.0) -> None:
        self.clock = Clock(1000.0)
        self.random = Random(seed)
        self.crypto = crypto or CheapCrypto()
        self.loss = loss
        self.hosts: dict[Address, Host] = {}
        self.tap: Callable[[bytes, Address, Address], None] = lambda data, source, destination: None
        self._next_place = 0

    def address(self) -> Address:
        """One in a /24 of its own."""
        self._next_place += 1
        place = self._next_place
        return f"{20 + (place >> 16)}.{place >> 8 & 255}.{place & 255}.{self.random.randrange(1, 255)}", PORT

    def add(
        self,
        address: Address | None = None,
        *,
        node_seed: bytes | None = None,
        config: DHTConfig | None = None,
        kind: type[Host] = Host,
    ) -> Host:
        address = address or self.address()
        node = Dht(
            config or DHTConfig(port=address[1]),
            crypto=self.crypto,
            entropy=self.random.randbytes,
            node_seed=node_seed or self.random.randbytes(32),
            wall_offset=1.7e9,
        )
        host = self.hosts[address] = kind(self, node, address)
        return host

    def carry(self, data: bytes, source: Address, destination: Address) -> None:
        self.tap(data, source, destination)
        if self.loss and self.random.random() < self.loss:
            return
        delay = self.random.uniform(0.02, 0.08)
        self.clock.after(delay, lambda: self._arrive(data, source, destination))

    def _arrive(self, data: bytes, source: Address, destination: Address) -> None:
        host = self.hosts.get(destination)
        if host is not None and host.alive:
            host.receive(data, source)

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.clock.now + seconds
        while (due := self.clock.next) is not None and due <= end:
            self.clock.step()
        self.clock.now = end

    def until(self, host: Host, kind: type[EventType], handle: int, limit: float = 120.0) -> EventType:
        """The event of that command, once it is there."""
        host.turn()
        end = self.clock.now + limit
        while True:
            for event in host.events:
                if isinstance(event, kind) and getattr(event, "handle", None) == handle:
                    return event
            due = self.clock.next
            assert due is not None, "nothing will ever happen again"
            assert due <= end, f"no {kind.__name__} within {limit} s"
            self.clock.step()

    def kill(self, host: Host) -> None:
        host.alive = False
        del self.hosts[host.address]

    def grow(self, count: int, **settings: object) -> list[Host]:
        """So many nodes that know each other as after a long while: each bucket has whoever comes first of those in it.

        That is what joining one by one comes to, at a small part of its cost; one test joins for real and compares.
        """
        hosts = [self.add(**settings) for _ in range(count)]  # type: ignore[arg-type]
        self.introduce(hosts, hosts)
        return hosts

    def introduce(self, hosts: Iterable[Host], others: list[Host]) -> None:
        """Fill the tables of ``hosts`` with ``others``."""
        ordered = sorted(others, key=lambda host: host.node.node_id)
        numbers = [as_number(host.node.node_id) for host in ordered]
        for host in hosts:
            for other in self._neighbours(as_number(host.node.node_id), ordered, numbers):
                host.node.table.answered(other.contact, self.clock.now, 1e9)

    def _neighbours(self, number: int, ordered: list[Host], numbers: list[int]) -> Iterable[Host]:
        """Up to 30 of each distance: the sorted ids fall apart into one range for each length of common prefix."""
        low, high = 0, len(numbers)
        for bit in reversed(range(256)):
            if high - low <= 1:
                return
            middle = low + _first(numbers[low:high], bit)
            ours = number >> bit & 1
            far = range(low, middle) if ours else range(middle, high)
            for index in self.random.sample(far, min(30, len(far))):
                yield ordered[index]
            low, high = (middle, high) if ours else (low, middle)


def _first(numbers: list[int], bit: int) -> int:
    """Where in this sorted range, whose members agree above ``bit``, that bit becomes 1."""
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        if numbers[middle] >> bit & 1:
            high = middle
        else:
            low = middle + 1
    return low


def nearest(hosts: Iterable[Host], target: bytes, count: int = 20) -> list[DHTNode]:
    """The truth: the nodes alive that are nearest to ``target``."""
    number = as_number(target)
    alive = [host for host in hosts if host.alive]
    return [h.contact for h in sorted(alive, key=lambda h: as_number(h.node.node_id) ^ number)[:count]]
